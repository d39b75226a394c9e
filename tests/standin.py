"""A stand-in for CuPy that runs on the CPU and refuses what a device array refuses.

Its arrays hold a NumPy array and are not one: `__array__`, `float()`, `int()`, `bool()`, `len()`, iteration and mixing
with NumPy arrays raise, so that a NumPy call on a device array, or a hidden transfer to the host, fails loudly. The
only ways across are `asarray` (to the device) and `asnumpy` (back), and `transfers` counts the latter.
"""

import sys
import types

import numpy as np

transfers = {"to_host": 0}


class DeviceError(TypeError):
    pass


class DeviceArray:
    __array_ufunc__ = None  # NumPy must not take over mixed expressions
    __hash__ = None

    def __init__(self, value):
        self._value = np.asarray(value)

    def _refuse(self, *_, **__):
        raise DeviceError("implicit conversion of a device array to the host")

    __array__ = __float__ = __int__ = __bool__ = __index__ = __len__ = __iter__ = __complex__ = _refuse
    item = tolist = get = _refuse

    shape = property(lambda self: self._value.shape)
    dtype = property(lambda self: self._value.dtype)
    ndim = property(lambda self: self._value.ndim)
    size = property(lambda self: self._value.size)
    nbytes = property(lambda self: self._value.nbytes)
    flags = property(lambda self: self._value.flags)
    T = property(lambda self: DeviceArray(self._value.T))

    def __getitem__(self, key):
        return DeviceArray(self._value[_inside(key)])

    def __setitem__(self, key, value):
        self._value[_inside(key)] = _inside(value)

    def __repr__(self):
        return f"DeviceArray{self.shape}"


def _inside(x):
    """The NumPy value of an argument; an array of the host's is refused."""
    if isinstance(x, DeviceArray):
        return x._value
    if isinstance(x, np.ndarray) and x.ndim:
        raise DeviceError(f"a NumPy array {x.shape} was handed to the device without asarray")
    if isinstance(x, (tuple, list)):
        return type(x)(_inside(part) for part in x)
    return x


def _outside(x):
    if isinstance(x, (np.ndarray, np.generic)):
        return DeviceArray(x)
    return x


def _wrap(function):
    def call(*args, **kwargs):
        return _outside(function(*map(_inside, args), **{name: _inside(value) for name, value in kwargs.items()}))

    return call


_ARITHMETIC = tuple("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split())  # noqa: SIM905
_BINARY = (*_ARITHMETIC, "lt", "le", "gt", "ge", "eq", "ne")
_METHODS = "sum mean max min all any reshape astype copy ravel transpose fill view clip"
_FUNCTIONS = """abs arange ascontiguousarray clip cos dot empty exp expm1 full isfinite log log1p maximum minimum matmul
    ones sign sin sqrt stack sum take tanh where zeros zeros_like empty_like concatenate"""
for _name in [*_BINARY, *(f"r{name}" for name in _ARITHMETIC)]:
    _dunder = f"__{_name}__"
    if hasattr(np.ndarray, _dunder):
        setattr(DeviceArray, _dunder, _wrap(getattr(np.ndarray, _dunder)))
for _name in ("neg", "abs", "invert"):
    setattr(DeviceArray, f"__{_name}__", _wrap(getattr(np.ndarray, f"__{_name}__")))


def _in_place(dunder):
    method = getattr(np.ndarray, dunder)

    def call(self, other):
        method(self._value, _inside(other))
        return self

    return call


for _name in _ARITHMETIC:
    if hasattr(np.ndarray, f"__i{_name}__"):
        setattr(DeviceArray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in _METHODS.split():
    setattr(DeviceArray, _name, _wrap(getattr(np.ndarray, _name)))


def module():
    """A module that can stand in sys.modules["cupy"]."""
    cupy = types.ModuleType("cupy")
    for name in _FUNCTIONS.split():
        setattr(cupy, name, _wrap(getattr(np, name)))

    def asarray(x, dtype=None):
        return DeviceArray(np.array(_inside(x) if isinstance(x, DeviceArray) else x, dtype))

    def asnumpy(x):
        if not isinstance(x, DeviceArray):
            raise DeviceError("asnumpy of something that is not on the device")
        transfers["to_host"] += 1
        return x._value.copy()

    class CUDARuntimeError(RuntimeError):
        pass

    cupy.ndarray, cupy.asarray, cupy.asnumpy = DeviceArray, asarray, asnumpy
    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError)
    )
    return cupy


def special():
    """A module for sys.modules["cupyx.scipy.special"]."""
    from scipy.special import digamma, expit, gammaln

    module = types.ModuleType("cupyx.scipy.special")
    module.expit, module.gammaln, module.digamma = _wrap(expit), _wrap(gammaln), _wrap(digamma)
    return module


def install(monkeypatch):
    """Make `import cupy` give the stand-in for the length of a test."""
    cupy, parents = module(), [types.ModuleType("cupyx"), types.ModuleType("cupyx.scipy")]
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for parent in parents:
        monkeypatch.setitem(sys.modules, parent.__name__, parent)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", special())
    transfers["to_host"] = 0
    return cupy
