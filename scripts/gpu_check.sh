#!/usr/bin/env bash
# What only a GPU can show. Each part ends by itself in under 8 minutes and goes on where it stopped when it is run again;
# every cell is written to bench/results/gpu-<name>.json at once. Exit status: 0 done, 3 more to do, anything else: wrong.
#
#   scripts/gpu_check.sh correct     parity, gradients, capture, repeatability (tests/test_gpu.py)
#   scripts/gpu_check.sh bench       kernels against copy bandwidth, the training step against its peers, the curves
#   scripts/gpu_check.sh sanitize    compute-sanitizer over every kernel, where it is installed
#
# It runs from a bare checkout, nothing installed, with the python of a CUDA machine: CuPy, NumPy, SciPy, Numba, pytest,
# safetensors, typer, rich, threadpoolctl; PyTorch, JAX and matplotlib for the benchmarks. $PYTHON names another python.
# Captured steps need nvmath-python too. Where nothing can be downloaded, carry its wheel (its other needs, cuda-bindings,
# cuda-core and cuda-pathfinder, come with CUDA's other packages), unpack it and name it on the path:
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 -d wheels nvmath-python
#   python3 -m pip install --no-deps --no-index --target site wheels/*.whl && export PYTHONPATH=$PWD/site
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD:$PWD/scripts${PYTHONPATH:+:$PYTHONPATH}" OPENBLAS_NUM_THREADS=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false  # JAX would take most of the card's memory for itself
seconds=${GPU_SECONDS:-420}

case "${1:-}" in
correct)
  timeout 475 "$python" -m pytest -q -p no:cacheprovider -p gpu_results --gpu-results correct --gpu-seconds "$seconds" \
    -m gpu --require-gpu --capture=sys tests/test_gpu.py
  status=$?
  case $status in
  0 | 5) exit 0 ;;        # 5: everything had passed before
  2 | 124) exit 3 ;;      # it stopped itself, or was stopped
  *) exit "$status" ;;
  esac
  ;;
bench)
  for bench in kernels step curves; do
    timeout 475 "$python" "bench/bench_gpu_$bench.py" --seconds "$seconds" || exit $?
  done
  ;;
sanitize)
  timeout 475 "$python" scripts/gpu_sanitize.py --seconds "$seconds"
  ;;
*)
  sed -n '2,9p' "$0" >&2
  exit 2
  ;;
esac
