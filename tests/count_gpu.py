"""What a step of scripts/gpu_check.sh launches at full size, counted on the stand-in for CuPy.

    python tests/count_gpu.py STEP …      → launches, bytes moved and sources compiled, as PLAN of gpu_check.py has them

For measurements, whose kernels are counted and not computed. The steps that are tests have to compute: run them with
`-m pytest … --require-gpu` in a process with the stand-in, as tests/test_gpu_check.py does, and read $STANDIN_COUNTS.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import standin_site

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))


def count(command):
    """(launches, bytes, sources) of all processes of a command."""
    with tempfile.TemporaryDirectory() as folder:
        site, counts = standin_site.make(Path(folder) / "site"), Path(folder) / "counts"
        counts.mkdir()
        path = os.pathsep.join([str(site), str(ROOT), str(ROOT / "scripts")])
        environment = os.environ | {"PYTHONPATH": path, "STANDIN_COUNTS": str(counts), "STANDIN_IDLE": "1",
                                    "GPU_RESULTS": f"{folder}/results"}  # fmt: skip
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)
        found = [json.loads(file.read_text()) for file in counts.glob("*.json")]
    return tuple(sum(one[key] for one in found) for key in ("launches", "bytes", "modules"))


if __name__ == "__main__":
    from gpu_check import PLAN

    from minivae import kernels

    commands = {step.name: [*step.command, "--seconds", "3000"] for step in PLAN}
    commands["memcheck"] = ["scripts/gpu_sanitize.py", "--launch", *kernels.op_names()]
    for name in sys.argv[1:]:
        print(name, count(commands[name]), flush=True)
