"""gpu_check: run the steps of scripts/gpu_check.sh, most valuable first, within GPU_SECONDS in all.

Each step is a process that stops by itself and writes its cells to bench/results/gpu-<name>.json; gpu-check.json has
the outcome of each step. A finished step is not repeated while the sources are the same. A step for which too little
time is left is skipped and named. If a step fails, the next one runs all the same.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

from gpu_results import LEFT_OUT, MORE_TO_DO, ROOT, Deadline, Results

SECONDS = 450.0
GRACE = 10.0  # seconds after its deadline at which a step is killed
SMOKE = bool(os.environ.get("GPU_SMOKE"))  # tiny sizes, for the stand-in
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "gpu_results", "--gpu-results", "correct")
GPU_ONLY = ("-m", "gpu", "--require-gpu", "--capture=sys", "-o", "addopts=-ra")
BACKEND = "from minivae.backend import Backend; b = Backend('cupy'); print(b.gemm.about)"


# What a large card is taken to need: seconds a launch, bytes a second, seconds a source and dtype, seconds a process.
LAUNCH, BANDWIDTH, COMPILE, START = 10e-6, 1e12, 0.7, 6.0
CONTENDERS, RACE = 5, 4.1  # of a cell of the step's race; seconds of each: its warm-up and its turns


def card_seconds(launches, moved, sources):
    """Seconds of a large card that launches so much, moves so many bytes and compiles so many sources."""
    return LAUNCH * launches + moved / BANDWIDTH + COMPILE * sources


@dataclass(frozen=True)
class Step:
    """least: the time in seconds that must be left to start it.

    host       the seconds that it is assumed to take beside what was counted: no GPU has timed them
    counted    (launches, bytes, sources) on the stand-in at full size (tests/count_gpu.py)
    processes  that it starts, one after another
    cells      of a race of the training step, each with CONTENDERS that run for a fixed time
    """

    name: str
    what: str
    command: tuple[str, ...]
    least: float
    host: float
    group: str
    counted: tuple[int, float, int] = (0, 0.0, 0)
    processes: int = 1
    cells: int = 0

    @property
    def expected(self):
        """Its duration on a large card, in seconds."""
        starts = self.processes + self.cells * CONTENDERS
        return self.host + card_seconds(*self.counted) + START * starts + RACE * self.cells * CONTENDERS


def _tests(file):
    return (*PYTEST, *GPU_ONLY, f"tests/{file}.py")


PLAN = (
    Step("ops", "every op against its reference, both dtypes", _tests("test_gpu"), 20, 60, "correct",
         (262_782, 163e9, 57)),  # without the rows of 2²⁰ + 3 columns, for which the stand-in is too slow
    Step("training", "captured steps against uncaptured ones and the CPU", _tests("test_gpu_training"),
         20, 25, "correct", (1_635_792, 50e9, 23)),
    Step("ranks", "NCCL in captured steps, by one rank, and by one on each GPU where there are more",
         _tests("test_gpu_ranks"), 15, 3, "correct", (8_778, 0.04e9, 9)),
    Step("likelihoods", "the likelihoods' share of copy bandwidth at 65536 × 784",
         ("bench/bench_gpu_kernels.py", "--likelihoods"), 15, 10, "bench", (991, 1.10e12, 2)),
    Step("step", "784-500-20 at 128 and 8192 against PyTorch and JAX", ("bench/bench_gpu_step.py", "--first"),
         70, 50, "bench", cells=2),  # torch.compile compiles for half a minute; checks against float64
    Step("curves", "CPU and GPU training curves", ("bench/bench_gpu_curves.py",), 15, 12, "bench", (71_102, 3.5e9, 7)),
    Step("memcheck", "memcheck over every op once", ("scripts/gpu_sanitize.py", "--together"), 20, 15, "sanitize",
         (15_360, 0.43e9, 47), processes=2),
    # what is left of the time
    Step("kernels", "every kernel's share of copy bandwidth", ("bench/bench_gpu_kernels.py",), 20, 20, "bench",
         (9_874, 2.4e12, 30)),
    Step("gradients", "the gradient check on the device", _tests("test_gpu_gradients"), 20, 60, "correct",
         (2_803_074, 0.77e9, 28)),
    Step("steps", "every model and batch size, without TF32 and with it", ("bench/bench_gpu_step.py",),
         70, 660, "bench", cells=22),
    Step("sanitize", "the other three tools, op by op", ("scripts/gpu_sanitize.py",), 20, 200, "sanitize",
         (61_440, 1.7e9, 188), processes=125),
)  # fmt: skip


def run(step, seconds):
    """Run a step → (exit status, last line of output); after `seconds` it is killed with its child processes."""
    smoke = ("--smoke",) if SMOKE and step.group == "bench" else ()
    command = [sys.executable, *step.command, *smoke, "--seconds", f"{max(1.0, seconds - GRACE):.0f}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               process_group=0)  # fmt: skip
    late = threading.Timer(seconds, _kill, [process])
    late.start()
    last = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
        status = process.wait()
    finally:
        killed = not late.is_alive()
        late.cancel()
        _kill(process)
    return (MORE_TO_DO if killed else status), last


def _kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def check(group):
    """Run the steps of a group, or all → an exit status."""
    found = subprocess.run([sys.executable, "-c", BACKEND], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        print("no step was run:", found.stderr.strip().splitlines()[-1])
        return 1
    print(found.stdout.strip())
    deadline, results = Deadline(float(os.environ.get("GPU_SECONDS") or SECONDS)), Results("check", __file__)
    states = {}
    for step in PLAN:
        if group not in ("all", step.group):
            continue
        if results.done(step.name):
            states[step.name] = "done before"
            continue
        least = 0.0 if SMOKE else step.least
        if deadline.passed(least):
            states[step.name] = f"skipped: {max(0.0, deadline.left()):.0f} s were left, and it needs {least:.0f}"
            continue
        print(f"\n== {step.name}: {step.what} ({deadline.left():.0f} s left)", flush=True)
        began = deadline.left()
        status, last = run(step, deadline.left())
        state = {0: "done", MORE_TO_DO: "more to do", LEFT_OUT: "left out"}.get(status, "WRONG")
        states[step.name] = state if state == "done" else f"{state}: {last}"
        results.add(step.name, ok={"done": True, "WRONG": False}.get(state), state=states[step.name],
                    seconds=round(began - deadline.left(), 1))  # fmt: skip
    print("\n== what became of the steps")
    for name, state in states.items():
        print(f"{name:12} {state}")
    if any(state.startswith("WRONG") for state in states.values()):
        return 1
    return MORE_TO_DO if any(state.startswith(("more", "skipped")) for state in states.values()) else 0


def show():
    """Print the plan, with expected seconds, their running sum, and how many of them are assumed."""
    total = 0.0
    for step in PLAN:
        total += step.expected
        print(f"{step.name:12} {step.expected:5.0f} s, in all {total:5.0f} s, assumed {step.host:5.0f} s   {step.what}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a step does not outlive it
    sys.exit(show() if sys.argv[1] == "plan" else check(sys.argv[1]))
