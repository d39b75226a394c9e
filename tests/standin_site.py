"""A folder that, on $PYTHONPATH, gives every Python process that is started the stand-in for CuPy (`standin.py`).

$STANDIN_COUNTS names a folder: each process that launched something leaves its counts there when it ends.
"""

from pathlib import Path

CODE = """
import sys
sys.path.insert(0, {tests!r})
import standin_site
standin_site.begin(nvmath={nvmath}, absent={absent}, devices={devices})
"""


def make(folder, nvmath=True, absent=(), devices=1):
    """Write the folder. absent: packages that cannot be imported there."""
    folder.mkdir()
    code = CODE.format(tests=str(Path(__file__).parent), nvmath=nvmath, absent=tuple(absent), devices=devices)
    (folder / "sitecustomize.py").write_text(code)
    return folder


def begin(nvmath, absent, devices):
    """What a process does first."""
    import atexit
    import json
    import os
    import sys
    import time

    import standin

    class Patch:  # for good: the process has no test that would undo it
        @staticmethod
        def setitem(mapping, key, value):
            mapping[key] = value

    standin.install(Patch, nvmath=nvmath, devices=devices)

    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name in absent:
                raise ImportError(f"no {name} on this machine")

    sys.meta_path.insert(0, Absent)
    start = time.perf_counter()

    def leave():
        if standin.counts["launches"]:
            counts = {**standin.counts, "seconds": time.perf_counter() - start, "argv": sys.orig_argv[1:]}
            counts["modules"] = len(standin.hostcuda.loaded)
            Path(os.environ["STANDIN_COUNTS"], f"{os.getpid()}.json").write_text(json.dumps(counts))

    if os.environ.get("STANDIN_COUNTS"):
        atexit.register(leave)
