#!/usr/bin/env bash
# What only a GPU can show. It stops by itself after GPU_SECONDS (450), and goes on where it stopped when it is run again:
# every cell is written to bench/results/gpu-<name>.json at once. Exit status: 0 done, 3 more to do, anything else: wrong.
#
#   scripts/gpu_check.sh all         the steps below, most valuable first
#   scripts/gpu_check.sh plan        those steps, and the seconds that each is expected to take
#   scripts/gpu_check.sh correct     ops, training, gradients
#   scripts/gpu_check.sh bench       kernels against copy bandwidth, the training step against its peers, the curves
#   scripts/gpu_check.sh sanitize    compute-sanitizer over every kernel, where it is installed
#   scripts/gpu_check.sh carry       download into .wheels/ what a GPU machine without a network may lack
#
# It runs from a bare checkout with the python of a CUDA machine ($PYTHON names another one): CuPy, NumPy, SciPy, Numba
# and pytest; PyTorch, JAX, scikit-learn and matplotlib for the benchmarks. What else minivae needs and that python lacks
# is taken from .wheels/. Captured steps need nvmath-python; without it steps run uncaptured, and the results say so.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/scripts${PYTHONPATH:+:$PYTHONPATH}:$PWD/.wheels/site" OPENBLAS_NUM_THREADS=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false  # JAX would take most of the card's memory for itself
export PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
case "${1:-}" in
carry | all | correct | bench | sanitize) "$python" scripts/gpu_carry.py "$1" || exit $? ;;
plan) ;;
*) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac
[ "$1" = carry ] || exec "$python" scripts/gpu_check.py "$1"
