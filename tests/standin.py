"""A stand-in for CuPy that runs on the CPU and refuses what a device array refuses.

Its arrays hold a NumPy array and are not one: `__array__`, `float()`, `int()`, `bool()`, `len()`, iteration and mixing
with NumPy arrays raise, so that a NumPy call on a device array, or a hidden transfer to the host, fails loudly. The
only ways across are `asarray` (to the device) and `asnumpy` or `get` (back), and `transfers` counts these. CUDA kernels
run too, compiled for the host (`hostcuda.py`), on a device so small that few rows are more than a grid.

A stream can be captured: what runs in between is written down with the memory it reads and writes, undone, and run
again at each launch of the graph, with the scalars that were baked in. A transfer to or from the host is refused
meanwhile.
"""

import contextlib
import ctypes
import functools
import math
import os
import sys
import threading
import time
import types
import weakref

import hostcuda
import numpy as np
import standin_nccl

transfers = {"to_host": 0}
counts = {"launches": 0, "bytes": 0, "device_seconds": 0.0}  # of kernels and array functions, replayed ones too
synchronising = {"allowed": True}
MEMORY = 2**34  # bytes of the device


class Tape(list):
    """What a capture has written down: functions without arguments."""

    __hash__ = object.__hash__


class Here(threading.local):
    """What a thread has for itself: ranks that are threads have a device each."""

    tape: Tape | None = None
    device = launches = 0  # of graphs

    def __init__(self):
        self.alive = weakref.WeakValueDictionary()  # every device array, to undo what a capture ran


here = Here()


class DeviceError(TypeError):
    pass


class DeviceSynchronized(RuntimeError):
    """cupyx's: a transfer to the host inside allow_synchronize(False)."""


@contextlib.contextmanager
def allow_synchronize(allowed):
    """cupyx's."""
    before, synchronising["allowed"] = synchronising["allowed"], allowed
    try:
        yield
    finally:
        synchronising["allowed"] = before


class Pointer:
    """Where an array lies."""

    def __init__(self, value):
        self.value, self.ptr = value, value.ctypes.data

    def copy_from_device_async(self, source, size, stream):
        assert size == self.value.nbytes
        np.copyto(self.value, source.value)


class DeviceArray:
    __array_ufunc__ = None  # NumPy must not take over mixed expressions
    __hash__ = None

    def __init__(self, value):
        self._value = np.asarray(value)
        here.alive[id(self)] = self

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
    data = property(lambda self: Pointer(self._value))

    def __getitem__(self, key):
        parts = key if isinstance(key, tuple) else (key,)
        if all(isinstance(part, (int, slice)) for part in parts):
            return DeviceArray(self._value[(*parts, ...)])  # a view, of one element too
        return _recorded(lambda: self._value[_inside(key)], (self,))

    def __setitem__(self, key, value):
        _recorded(lambda: self._value.__setitem__(_inside(key), _inside(value)), (value,))

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


def _recorded(run, arguments=()):
    """The result of `run()` on the device; a capture also writes it down, to be computed anew into the same memory."""
    run = _counted(run, arguments)
    result = _outside(run())
    if here.tape is not None:
        views = isinstance(result, DeviceArray) and any(
            np.shares_memory(result._value, x._value) for x in arguments if isinstance(x, DeviceArray)
        )
        if isinstance(result, DeviceArray) and not views:
            here.tape.append(lambda: np.copyto(result._value, run()))
        else:
            here.tape.append(run)
    return result


def _counted(run, arguments):
    """`run`, counted as one launch that moves its arguments and its result, and the time that it takes here."""
    moved = sum(x.nbytes for x in arguments if isinstance(x, DeviceArray))

    def call():
        start = time.perf_counter()
        result = run()
        counts["launches"] += 1
        counts["bytes"] += moved + getattr(result, "nbytes", 0)
        counts["device_seconds"] += time.perf_counter() - start
        return result

    return call


def _launched(run, arguments=()):
    """Run what gives no result; under capture it is written down alone."""
    run = _counted(run, arguments)
    run() if here.tape is None else here.tape.append(run)


def _wrap(function):
    def call(*args, **kwargs):
        def run():
            return function(*map(_inside, args), **{name: _inside(value) for name, value in kwargs.items()})

        return _recorded(run, (*args, *kwargs.values()))

    return call


_ARITHMETIC = tuple("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split())  # noqa: SIM905
_BINARY = (*_ARITHMETIC, "lt", "le", "gt", "ge", "eq", "ne")
_METHODS = "sum mean max min argmax all any reshape astype copy ravel transpose fill view clip"
_FUNCTIONS = """abs add arange ascontiguousarray clip cos dot empty exp expm1 floor full isfinite log log1p maximum
    minimum matmul negative ones searchsorted sign sin sqrt stack
    sum take tanh where zeros zeros_like empty_like concatenate cumsum"""
for _name in [*_BINARY, *(f"r{name}" for name in _ARITHMETIC)]:
    _dunder = f"__{_name}__"
    if hasattr(np.ndarray, _dunder):
        setattr(DeviceArray, _dunder, _wrap(getattr(np.ndarray, _dunder)))
for _name in ("neg", "abs", "invert"):
    setattr(DeviceArray, f"__{_name}__", _wrap(getattr(np.ndarray, f"__{_name}__")))


def _in_place(dunder):
    method = getattr(np.ndarray, dunder)

    def call(self, other):
        _recorded(lambda: method(self._value, _inside(other)), (self,))
        return self

    return call


for _name in _ARITHMETIC:
    if hasattr(np.ndarray, f"__i{_name}__"):
        setattr(DeviceArray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in _METHODS.split():
    setattr(DeviceArray, _name, _wrap(getattr(np.ndarray, _name)))


def _refuse_under_capture(what):
    if here.tape is not None:
        raise DeviceError(f"{what} while a stream is being captured")


class Stream:
    """A stream; everything runs at once, and in order, so there is nothing to it but capture."""

    ptr = 0

    def __init__(self, non_blocking=False):
        self.before = None

    def synchronize(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def begin_capture(self):
        _refuse_under_capture("begin_capture")
        kept = [x for x in list(here.alive.values()) if x.nbytes < 2**25]  # cuBLASLt's workspace is not used here
        here.tape, self.before = Tape(), [(x, x._value.copy()) for x in kept]

    def end_capture(self):
        graph, here.tape = Graph(here.tape), None
        for x, value in self.before:  # what is captured does not run
            np.copyto(x._value, value)
        return graph


class Graph:
    """What a capture wrote down. launches, captures: of all of them together."""

    launches = captures = 0

    def __init__(self, tape):
        self.tape = tape
        Graph.captures += 1

    def launch(self):
        Graph.launches += 1
        here.launches += 1
        for run in self.tape:
            run()


class Event:
    def record(self):
        self.time = time.perf_counter()

    def synchronize(self):
        pass


class RawModule(hostcuda.RawModule):
    """CUDA kernels on the host, which a capture writes down too."""

    def get_function(self, name):
        kernel = super().get_function(name)
        run = (lambda *_: None) if os.environ.get("STANDIN_IDLE") else kernel  # to be counted, not computed
        return lambda *launch: _launched(lambda: run(*launch), launch[2])


class CublasLt(types.ModuleType):
    """nvmath.bindings.cublasLt: matrix products of float32 and float64, by columns, as cuBLAS counts."""

    matmul_heuristic_result_dtype = np.dtype([("algo", "u8", (8,)), ("workspace", "u8"), ("rest", "u8", (3,))])

    def __init__(self):
        super().__init__("nvmath.bindings.cublasLt")
        self.objects = {}
        numbers = {"TRANSA": 0, "TRANSB": 1, "MAX_WORKSPACE_BYTES": 2}
        numbers |= {f"MIN_ALIGNMENT_{x}_BYTES": 10 + k for k, x in enumerate("ABCD")}
        self.MatmulDescAttribute = self.MatmulPreferenceAttribute = types.SimpleNamespace(**numbers)

    def create(self):
        return self._new({})

    def _new(self, what):
        self.objects[len(self.objects) + 1] = what
        return len(self.objects)

    def matmul_desc_create(self, compute, scale):
        assert (compute, scale) in ((68, 0), (77, 0), (70, 1))
        return self._new({"compute": compute})

    def matmul_preference_create(self):
        return self._new({})

    def matmul_preference_destroy(self, wish):
        del self.objects[wish]["workspace"]

    def matrix_layout_create(self, kind, rows, columns, ld):
        assert ld >= rows
        return self._new((np.dtype((np.float32, np.float64)[kind]), rows, columns, ld))

    def matmul_desc_set_attribute(self, handle, attribute, pointer, size):
        assert size == 4
        self.objects[handle][attribute] = ctypes.c_int32.from_address(pointer).value

    def matmul_preference_set_attribute(self, handle, attribute, pointer, size):
        assert size == (8 if attribute == 2 else 4)
        self.objects[handle]["workspace" if attribute == 2 else attribute] = 0

    def matmul_algo_get_heuristic(self, handle, operation, a, b, c, d, wish, wanted, found, count):
        assert wanted == 1
        ctypes.c_int32.from_address(count).value = 1

    def matmul(self, handle, operation, one, a, A, b, B, zero, c, C, d, D, algorithm, workspace, size, stream):
        def run():
            its = self.objects[operation]
            left, right, out = (self._matrix(*x) for x in ((a, A), (b, B), (d, D)))
            out[...] = (left.T if its[0] else left) @ (right.T if its[1] else right)

        assert c == d
        _launched(run)

    def _matrix(self, pointer, layout):
        """(rows, columns), column after column, in memory at the pointer."""
        dtype, rows, columns, ld = self.objects[layout]
        flat = (ctypes.c_byte * (ld * columns * dtype.itemsize)).from_address(pointer)
        return np.frombuffer(flat, dtype).reshape(columns, ld).T[:rows]


def module(devices=1):
    """A module that can stand in sys.modules["cupy"]."""
    cupy = types.ModuleType("cupy")
    for name in _FUNCTIONS.split():
        setattr(cupy, name, _wrap(getattr(np, name)))

    def asarray(x, dtype=None):
        _refuse_under_capture("asarray")
        return DeviceArray(np.array(_inside(x) if isinstance(x, DeviceArray) else x, dtype))

    def asnumpy(x):
        _refuse_under_capture("asnumpy")
        if not isinstance(x, DeviceArray):
            raise DeviceError("asnumpy of something that is not on the device")
        if not synchronising["allowed"]:
            raise DeviceSynchronized
        transfers["to_host"] += 1
        return x._value.copy()

    class CUDARuntimeError(RuntimeError):
        pass

    DeviceArray.get = asnumpy
    cupy.ndarray, cupy.asarray, cupy.asnumpy = DeviceArray, asarray, asnumpy

    class OutOfMemoryError(MemoryError):
        pass

    def empty(shape, dtype=np.float64):
        if math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize > MEMORY:
            raise OutOfMemoryError
        return _outside(np.empty(shape, dtype))

    cupy.empty = empty

    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: devices,
        getDevice=lambda: here.device,
        deviceGetPCIBusId=lambda device: f"0000:{device:02x}:00.0",
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
        memGetInfo=lambda: (2**30, MEMORY),
        deviceSynchronize=lambda: _refuse_under_capture("deviceSynchronize"),
        getDeviceProperties=lambda id_: {"name": b"a stand-in", "multiProcessorCount": 3},
    )
    attributes = {"MultiProcessorCount": 3, "MaxThreadsPerMultiProcessor": 512}

    def device(number=0):
        use = functools.partial(setattr, here, "device", number)
        return types.SimpleNamespace(attributes=attributes, compute_capability="75", use=use)

    memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=device,
        memory=memory,
        Stream=Stream,
        get_current_stream=lambda: Stream(),
        Event=Event,
        get_elapsed_time=lambda start, stop: 1e3 * (stop.time - start.time),
        MemoryHook=contextlib.nullcontext,  # nothing is allocated that it could see
        set_allocator=lambda allocator: None,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda allocator: contextlib.nullcontext(),
    )
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    cupy.RawModule = RawModule
    linalg = types.SimpleNamespace(set_compute_type=lambda *_: None, COMPUTE_TYPE_TF32=3, COMPUTE_TYPE_FP32=4)
    cupy._core = types.SimpleNamespace(_routines_linalg=linalg)
    return cupy


def special():
    """A module for sys.modules["cupyx.scipy.special"]."""
    from scipy.special import digamma, expit, gammaln

    module = types.ModuleType("cupyx.scipy.special")
    module.expit, module.gammaln, module.digamma = _wrap(expit), _wrap(gammaln), _wrap(digamma)
    return module


def install(monkeypatch, nvmath=False, devices=1, nccl=True):
    """Make `import cupy` give the stand-in for the length of a test; and `nvmath`'s cuBLASLt, if asked for."""
    monkeypatch.setitem(sys.modules, "nvmath", types.ModuleType("nvmath") if nvmath else None)
    monkeypatch.setitem(sys.modules, "nvmath.bindings", types.ModuleType("nvmath.bindings"))
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", CublasLt() if nvmath else None)
    cupy, parents = module(devices), [types.ModuleType("cupyx"), types.ModuleType("cupyx.scipy")]
    parents[0].allow_synchronize, parents[0].DeviceSynchronized = allow_synchronize, DeviceSynchronized
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", standin_nccl.module(nccl))
    for parent in parents:
        monkeypatch.setitem(sys.modules, parent.__name__, parent)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", special())
    transfers["to_host"] = 0
    return cupy
