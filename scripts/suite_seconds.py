"""Seconds of CPU of each test and each file of the suite, those of the processes that they start included.

    python scripts/suite_seconds.py [--json FILE] [pytest's arguments]

One test after another on one thread: `make test` divides the sum by its workers. `compiled` is what Numba took in this
process; remove .numba-cache to have every kernel compiled.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SHOWN = 25


def used() -> float:
    """CPU seconds of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class Seconds:
    """A plugin of pytest: (name, CPU seconds, those of compiling) of each test, collection first."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []
        self.compiled, self.depth, self.began = 0.0, 0, 0.0

    def pytest_collection_finish(self) -> None:
        from numba.core import event  # after conftest.py has named the folder of its cache

        event.Listener.register(Seconds)
        event.register("numba:compile", self)
        self.rows.append(("collection", used(), 0.0))

    def notify(self, found: Any) -> None:
        """Numba's event: the start or the end of compiling one function, perhaps inside another's."""
        self.depth += 1 if found.is_start else -1
        if found.is_start and self.depth == 1:
            self.began = time.process_time()
        elif not self.depth:
            self.compiled += time.process_time() - self.began

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        before, compiled = used(), self.compiled
        yield
        self.rows.append((item.nodeid, used() - before, self.compiled - compiled))


def show(rows: list[tuple[str, float, float]]) -> None:
    files, compiled = Counter[str](), Counter[str]()
    for name, seconds, part in rows:
        files[name.partition("::")[0]] += seconds  # type: ignore[assignment]
        compiled[name.partition("::")[0]] += part  # type: ignore[assignment]
    print("\n    CPU s  compiled")
    for name, seconds in files.most_common(SHOWN):
        print(f"{seconds:9.1f} {compiled[name]:9.1f}  {name}")
    print(f"{sum(files.values()):9.1f} {sum(compiled.values()):9.1f}  in all, {len(rows) - 1} tests\n")
    for name, seconds, part in sorted(rows, key=lambda row: -row[1])[:SHOWN]:
        print(f"{seconds:9.2f} {part:9.2f}  {name}")


def main(arguments: list[str]) -> int:
    file = None
    if arguments[:1] == ["--json"]:
        file, arguments = Path(arguments[1]), arguments[2:]
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "MINIVAE_THREADS": "1"}
    seconds = Seconds()
    status = pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[seconds])
    show(seconds.rows)
    if file:
        file.write_text(json.dumps(seconds.rows))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
