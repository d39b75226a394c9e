"""nvrtc: NVIDIA's run-time compiler from the wheel nvidia-cuda-nvrtc-cu12, through ctypes. It needs no driver."""

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

FROM_CUPY = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy adds to a RawModule's options


@cache
def library():
    """The compiler, or None where the wheel is not installed."""
    try:
        found = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        return None
    paths = [
        path for folder in (found.submodule_search_locations if found else ()) for path in _libraries(Path(folder))
    ]
    return ctypes.CDLL(str(paths[0])) if paths else None


def _libraries(folder):
    return sorted(folder.glob("lib/libnvrtc.so.*"))


def compile(code, options):
    """(whether it compiles, the log, the assembly for compute_… architectures)."""
    nvrtc, program = library(), ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"program.cu", 0, None, None) == 0
    try:
        texts = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = nvrtc.nvrtcCompileProgram(program, len(options), texts)
        return status == 0, _text(program, "ProgramLog"), _text(program, "PTX") if status == 0 else ""
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(program, what):
    size = ctypes.c_size_t()
    if getattr(library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)) or not size.value:
        return ""
    text = ctypes.create_string_buffer(size.value)
    getattr(library(), f"nvrtcGet{what}")(program, text)
    return text.value.decode(errors="replace")
