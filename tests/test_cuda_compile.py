"""Every .cu compiles with NVRTC for every architecture, without a warning or a spilled register; what the sources
promise (no include, no dynamic shared memory, no atomics on floats, loads of 16 bytes) holds. It needs no GPU.
"""

import re

import nvrtc
import pytest
from hostcuda import KERNEL

from minivae import kernels
from minivae.kernels import _cuda

FILES = sorted(path.stem for path in _cuda.FOLDER.glob("*.cu"))
ARCHITECTURES = [  # the oldest and the newest, and those between
    pytest.param(("sm_75", "sm_100"), id="sm_75 sm_100"),
    pytest.param(("sm_80", "sm_90"), id="sm_80 sm_90", marks=pytest.mark.slow),
]
needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason="the wheel nvidia-cuda-nvrtc-cu12 is not installed")


def compiled(file, dtype, architecture, *more):
    options = (*_cuda.options(dtype), *nvrtc.FROM_CUPY, f"--gpu-architecture={architecture}", *more)
    return nvrtc.compile(_cuda.source(file), options)


def faults(ok, log, entries):
    """What is wrong with a compilation's log, which must tell of so many kernels."""
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    found = [] if ok else ["it does not compile"]
    found += [line for line in log.splitlines() if "warning" in line and "suppress" not in line]
    found += [f"registers spill: {stores}, {loads} bytes" for stores, loads in spills if stores + loads != "00"]
    told = log.count("Compiling entry function")  # a function that is not inlined is told of too
    return found if told == entries <= len(spills) else [*found, f"{told} of {entries} kernels are told of"]


@needs_nvrtc
@pytest.mark.parametrize("architectures", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("file", FILES)
def test_it_compiles_for_every_architecture_without_warning_or_spill(file, dtype, architectures):
    entries = len(KERNEL.findall(_cuda.source(file)))
    for architecture in architectures:
        ok, log, _ = compiled(file, dtype, architecture, "--ptxas-options=-v")
        assert faults(ok, log, entries) == [], f"{architecture}\n{log}"


@needs_nvrtc
def test_the_check_sees_errors_warnings_and_spills():
    options = ("-Dreal=float", "--gpu-architecture=sm_90", "--ptxas-options=-v")
    kernel = 'extern "C" __global__ void k(float* x) { BODY }'
    for body, fault in (("x[0] = y;", "does not compile"), ("int unused;", "warning"), ("x[0] = 1;", None)):
        ok, log, _ = nvrtc.compile(kernel.replace("BODY", body), options)
        assert (faults(ok, log, 1) == []) == (fault is None)
        assert fault is None or fault in str(faults(ok, log, 1))
    ok, log, _ = compiled("adam", "float64", "sm_90", "--ptxas-options=-v", "--maxrregcount=24")
    assert "registers spill" in str(faults(ok, log, 1))


# Kernels that do not store 16 bytes at once: their results are few, scattered, integers, or computed in float64.
NARROW = {
    "latent_forward", "latent_backward", "importance_forward", "importance_backward", "log_sum_exp", "advance",
    "ordinal", "ordinal_features", "ordinal_sums", "ordinal_steps",
    "poisson", "negative_binomial", "negative_binomial_features", "negative_binomial_logtheta",
    "gaussian_shared_logvar", "gaussian_optimal_errors", "dense_add_partial", "bits", "squares", "clip_norm",
    "gather_uint8", "gather_float32", "gather_float64", "gather_int64", "scatter",
}  # fmt: skip


@needs_nvrtc
@pytest.mark.parametrize("dtype, instruction", [("float32", "v4.f32"), ("float64", "v2.f64")])
@pytest.mark.parametrize("file", FILES)
def test_vectors_move_by_16_bytes(file, dtype, instruction):
    _, _, assembly = compiled(file, dtype, "compute_90")
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", assembly, re.DOTALL))
    for kernel in bodies.keys() - NARROW:
        assert f"st.global.{instruction}" in bodies[kernel], kernel
        if kernel not in ("uniform", "normal"):  # which load nothing but row numbers
            assert re.search(rf"ld\.global(\.nc)?\.{instruction}", bodies[kernel]), kernel


@pytest.mark.parametrize("file", FILES)
def test_sources_keep_to_the_rules(file):
    text = re.sub(r"//.*", "", _cuda.source(file))
    assert "#include" not in text
    assert "extern __shared__" not in text, "dynamic shared memory"
    assert len(re.findall("__global__", text)) == len(KERNEL.findall(text)), 'a kernel is not extern "C"'
    for target in re.findall(r"atomic\w+\((\w+)", text):
        assert f"counter* __restrict__ {target}" in text, "an atomic on something that is not an integer counter"


def test_every_cu_belongs_to_an_op_file():
    assert set(FILES) == set(kernels.files())
