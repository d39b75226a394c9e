"""race_call: the process in which `race_code.py` runs one callable. `python race_call.py CASE`; only Python is needed.

This file runs in whatever interpreter is raced (3.8 or later), where minivae may be missing: it imports the standard
library alone, and NumPy once a result is an array. CASE is JSON:

    {"target": "a.py:f", "inputs": "inputs.py:make" or null, "after": [folders]}

Where `after` is empty, a file's own folder and the current one come first on `sys.path`, as in `python FILE`. Where
packages were installed to be raced they come first, and the folders in `after` come last. Questions and answers are
lines of JSON. An answer {"error": "…"} is one sentence about the user's code.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import sys
import tempfile
import time
import traceback

QUIET = 0.3  # the longest wait, in seconds, until the threads that a turn has started rest


class Mistake(Exception):
    """Something in the user's code, in one sentence."""


# ---- loading --------------------------------------------------------------------------------------------------------


def load(target, own_folder=True):
    """Return the object named by "path/to/file.py:name" or "package.module:name"."""
    where, _, attribute = target.rpartition(":")
    if not where or not attribute:
        raise Mistake(f"{target!r}: expected path/to/file.py:name or package.module:name")
    if where.endswith(".py") and not os.path.isfile(where):
        raise Mistake(f"{where}: no such file")
    try:
        found = module = _load_file(where, own_folder) if where.endswith(".py") else importlib.import_module(where)
    except BaseException as error:  # SystemExit too
        raise Mistake(f"{where} cannot be imported: {describe(error)}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise Mistake(f"{where} has no {attribute!r}: it has {', '.join(public) or 'nothing to call'}")
        found = getattr(found, part)
    if not callable(found):
        raise Mistake(f"{target} is of type {type(found).__name__}: expected something to call")
    return found


def _load_file(path, own_folder):
    folder, name = os.path.split(os.path.abspath(path))
    if own_folder:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(_module_name(path, name[:-3]), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _module_name(path, stem):
    """Return the name that `import` gives a file in its folder, or one of its own where another module has that name.

    Numba's cache on disk loads a function into the module of the name that it had when it was compiled.
    """
    found = importlib.util.find_spec(stem) if stem.isidentifier() and stem not in sys.modules else None
    own = found is not None and found.origin is not None and os.path.realpath(found.origin) == os.path.realpath(path)
    return stem if own else "_race_" + stem


def describe(error):
    """Describe an exception in one line, with the line of the user's code where it arose."""
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    library = (os.path.dirname(os.__file__), "<frozen")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith(library)
        if "site-packages" not in frame.filename
    ]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{said.split(' (')[0]} ({os.path.basename(error.filename)}, line {error.lineno})"
    return f"{said} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else said


def make_inputs(name, own_folder):
    """Return the arguments that the function `name` makes: a tuple, a dict of named ones, or the only one."""
    if name is None:
        return (), {}
    make = load(name, own_folder)
    try:
        made = make()
    except BaseException as error:
        raise Mistake(f"{name} raised {describe(error)}") from None
    if made is None:
        raise Mistake(f"{name} returns None: expected the arguments, as a tuple or a dict")
    if isinstance(made, tuple):
        return made, {}
    return ((), made) if isinstance(made, dict) else ((made,), {})


def check_arguments(function, target, inputs, args, named):
    """Raise Mistake if the function cannot take these arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # functions in C may have none
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        if inputs is not None:
            raise Mistake(f"{target} does not take the arguments that {inputs} returns: {error}") from None
        needed = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in (2, 4)]
        raise Mistake(
            f"{target} needs the arguments {', '.join(needed)}: give --inputs FILE.py:make, a function that makes them"
        ) from None


# ---- results, without pickle ----------------------------------------------------------------------------------------


def tree(value, array):
    """Return a value as JSON: {"kind": "list", "value": [...]}, down to numbers, strings, bytes and arrays.

    array   a function that turns a NumPy array into what stands for it in the tree
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        if type(value).__module__ == "numpy":  # np.float64 is a float
            return {"kind": "array", "value": array(_as_array(value))}
        if isinstance(value, bytes):
            return {"kind": "bytes", "value": value.hex()}
        if value is None or isinstance(value, (bool, str)):
            return {"kind": type(value).__name__, "value": value}
        if isinstance(value, complex):
            return {"kind": "complex", "value": repr(complex(value))}
        kind = int if isinstance(value, int) else float
        return {"kind": kind.__name__, "value": kind.__repr__(value)}
    if isinstance(value, dict):
        return {"kind": "dict", "value": [[repr(key), tree(value[key], array)] for key in sorted(value, key=repr)]}
    if isinstance(value, (list, tuple)):
        return {"kind": "list", "value": [tree(part, array) for part in value]}
    found = _as_array(value)
    if found.dtype.kind != "O":
        return {"kind": "array", "value": array(found)}
    if found.ndim == 0:
        raise Mistake(
            f"returns something of type {type(value).__name__}, which cannot be compared: return numbers, strings, "
            "arrays, or lists, tuples and dicts of them, or use --no-check"
        )
    return tree(found.tolist(), array)


def _as_array(value):
    """Return a NumPy array of a NumPy, torch, CuPy or JAX array."""
    try:
        import numpy as np
    except ImportError:
        raise Mistake(f"returns a {type(value).__name__}, and this Python has no NumPy to compare it") from None
    package = type(value).__module__.partition(".")[0]
    if package == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value).numpy()
    elif package == "cupy":
        value = value.get()
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "V" and array.dtype.names is None else array  # bfloat16


def digest(value):
    """Return a hash of a value; None if it cannot be compared."""

    def hashed(array):
        return [array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).hexdigest()]

    try:
        return hashlib.sha256(json.dumps(tree(value, hashed)).encode()).hexdigest()
    except Mistake:
        return None


def save(value, folder):
    """Return the value's tree; its arrays are written into the folder, raw."""
    files = itertools.count()

    def written(array):
        file = os.path.join(folder, f"{next(files)}.raw")
        with open(file, "wb") as out:
            out.write(array.tobytes())
        return {"dtype": array.dtype.str, "shape": array.shape, "file": file}

    return tree(value, written)


# ---- clocks ---------------------------------------------------------------------------------------------------------


class Host:
    """Seconds of the processor's clock."""

    name, sample = "host", 1e-3  # seconds of a sample

    def time(self, call, n):
        """Return the seconds of n calls."""
        numbers = itertools.repeat(None, n)
        start = time.perf_counter()
        for _ in numbers:
            call()
        return time.perf_counter() - start


class Jax(Host):
    """The processor's clock. JAX returns before it has computed: every result is waited for."""

    name = "host, waiting for every result"

    def time(self, call, n):
        numbers = itertools.repeat(None, n)
        start = time.perf_counter()
        for _ in numbers:
            for part in parts(call()):
                if hasattr(part, "block_until_ready"):
                    part.block_until_ready()
        return time.perf_counter() - start


class Torch:
    """Events on the device's stream before and after the calls (`torch.cuda.Event`)."""

    name, sample = "device events", 1.0  # all of a turn: the device has its own queue

    def time(self, call, n):
        cuda = sys.modules["torch"].cuda
        before, after = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        cuda.synchronize()
        before.record()
        for _ in range(n):
            call()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / 1e3


class Cupy:
    """Events on the device's stream before and after the calls (`cupy.cuda.Event`)."""

    name, sample = "device events", 1.0  # all of a turn: the device has its own queue

    def time(self, call, n):
        cuda = sys.modules["cupy"].cuda
        before, after = cuda.Event(), cuda.Event()
        cuda.runtime.deviceSynchronize()
        before.record()
        for _ in range(n):
            call()
        after.record()
        after.synchronize()
        return cuda.get_elapsed_time(before, after) / 1e3


def parts(value):
    """Yield the parts of nested lists, tuples and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from parts(part)
    else:
        yield value


def clock_for(result):
    """Return the clock that sees the work behind a result: device arrays are computed after the call has returned."""
    for part in parts(result):
        package = type(part).__module__.partition(".")[0]
        if package == "torch" and getattr(part, "is_cuda", False):
            return Torch()
        if package == "cupy":
            return Cupy()
        if hasattr(part, "block_until_ready"):
            return Jax()
    return Host()


def rest():
    """Wait until this process uses no processor: thread pools spin for a while after their work."""
    end = time.perf_counter() + QUIET
    while time.perf_counter() < end:
        used = time.process_time()
        time.sleep(0.004)
        if time.process_time() - used < 0.0008:
            return


# ---- questions and answers ------------------------------------------------------------------------------------------


class Call:
    """One callable with its arguments."""

    def __init__(self, case, printed):
        self.target, self.printed = case["target"], printed
        function = load(self.target, not case["after"])
        self.args, self.named = make_inputs(case["inputs"], not case["after"])
        check_arguments(function, self.target, case["inputs"], self.args, self.named)
        self.call = functools.partial(function, *self.args, **self.named) if self.args or self.named else function
        self.clock = Host()

    def start(self, question):
        return {"inputs": digest((self.args, self.named)), "python": sys.version.split()[0]}

    def check(self, question):
        """Call once, and compare the inputs before and after. The result goes to the folder "save" unless null."""
        before = digest((self.args, self.named))
        self.flush()
        at = os.fstat(self.printed.fileno()).st_size
        result = self.guarded(self.call)
        self.flush()
        if os.fstat(self.printed.fileno()).st_size > at:
            self.printed.seek(at)
            text = self.printed.read(200).decode("utf-8", "replace").strip().splitlines()
            raise Mistake(
                f"{self.target} prints {(text or [''])[0][:40]!r}: that would be timed; take the printing out"
            )
        if inspect.isgenerator(result) or inspect.isasyncgen(result) or inspect.isawaitable(result):
            kind = type(result).__name__
            raise Mistake(f"{self.target} returns a {kind}, which has computed nothing yet: return what it yields")
        if digest((self.args, self.named)) != before:
            raise Mistake(
                f"{self.target} changes its inputs: its next call would do other work; let it copy them first"
            )
        self.clock = clock_for(result)
        if question["save"] is None:
            return {"clock": self.clock.name}
        if result is None:
            raise Mistake(f"{self.target} returns None: return what it computes, to be compared, or use --no-check")
        try:
            saved = save(result, question["save"])
        except Mistake as mistake:
            raise Mistake(f"{self.target} {mistake}") from None
        return {"clock": self.clock.name, "result": saved}

    def calibrate(self, question):
        """Return how many calls make a sample, how many samples fill a turn's seconds, and the seconds of one call.

        This warms up as well.
        """
        n, least = 1, min(question["seconds"], self.clock.sample)
        while True:
            took = self.guarded(self.clock.time, self.call, n)
            if took >= least or (n == 1 and took >= least / 4):
                break
            n = max(2 * n, min(int(1.2 * n * least / max(took, 1e-9)), 100 * n))
        if n > 1:  # the quickest of several: another process may have taken the processor
            one = min(self.guarded(self.clock.time, self.call, n) for _ in range(5)) / n
            n, took = max(1, round(least / one)), max(1, round(least / one)) * one
        return {"n": n, "samples": max(1, round(question["seconds"] / took)), "seconds": took / n}

    def turn(self, question):
        """Time samples of n calls each → the median seconds of a call.

        Samples are short, so that another process that takes the processor for a while spoils few of them. One untimed
        call before them fills the caches, if the turn has several.
        """
        n, samples = question["n"], question["samples"]
        gc.collect()
        if n * samples > 1:
            self.guarded(self.call)
        took = sorted(self.guarded(self.clock.time, self.call, n) for _ in range(samples))
        rest()
        return {"seconds": (took[(samples - 1) // 2] + took[samples // 2]) / 2 / n}

    def guarded(self, function, *arguments):
        try:
            return function(*arguments)
        except BaseException as error:  # SystemExit too
            raise Raised(f"{self.target} raised {describe(error)}") from None

    @staticmethod
    def flush():
        for stream in (sys.stdout, sys.__stdout__):
            if stream is not None and not stream.closed:
                stream.flush()


class Raised(Mistake):
    """The callable raised."""


def main(case):
    """Answer each line of standard input until it is closed. What the user's code prints goes to a file."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here] + case["after"]
    if not case["after"]:
        sys.path.insert(0, os.getcwd())
    sys.argv[:] = [case["target"]]
    questions, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    printed = tempfile.TemporaryFile()  # noqa: SIM115
    os.dup2(printed.fileno(), 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the user's code cannot read the questions
    call = None
    for line in questions:
        question = json.loads(line)
        try:
            if call is None:
                call = Call(case, printed)
            answer = getattr(call, question["do"])(question)
        except Mistake as mistake:
            answer = {"error": str(mistake), "raised": isinstance(mistake, Raised)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
