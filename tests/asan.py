"""asan: runs the CUDA kernels on the host under AddressSanitizer and UndefinedBehaviorSanitizer: `make asan`.

NumPy's arrays are the device memory there, and end where they end: an index out of bounds, a misaligned vector, a
signed overflow stop the process and show where.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment():
    """os.environ with libasan preloaded, for a process whose kernels are to be watched; None where it cannot be."""
    try:
        found = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    library = found.stdout.strip()
    if not Path(library).is_absolute():  # g++ repeats the name of a file that it does not have
        return None
    return os.environ | {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "MINIVAE_SANITIZE": "1",
    }


if __name__ == "__main__":
    watched = environment()
    if watched is None:
        sys.exit("asan: g++ with libasan is not here")
    # --capture=sys: what the sanitizers say goes to the real standard error
    options = ["-q", "-p", "no:cacheprovider", "--capture=sys", "tests/test_cuda_kernels.py"]
    command = [sys.executable, "-m", "pytest", *options, *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=ROOT, env=watched).returncode)
