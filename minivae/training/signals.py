"""signals: Ctrl-C, SIGTERM and SIGHUP ask a training to stop between two steps, with its run saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Terminated(SystemExit):
    """SIGTERM or SIGHUP has stopped a training, its run saved. Uncaught, the process exits with 128 + its number."""

    def __init__(self, signum: int):
        self.status = 128 + signum
        super().__init__(self.status)


def stopped_by(signum: int, agreed: bool) -> BaseException:
    """The exception of a training that a signal has stopped; agreed: all ranks raise it."""
    error = KeyboardInterrupt() if signum == signal.SIGINT else Terminated(signum)
    error.agreed = agreed  # type: ignore[union-attr]
    return error


@contextlib.contextmanager
def noting(asked: list[int], run: bool) -> Iterator[None]:
    """Inside, append each signal to `asked`, for the loop to stop between two steps; a second Ctrl-C stops at once.

    run   whether there is a run to save: without one SIGTERM and SIGHUP do what they did

    A signal that is ignored stays ignored, and a handler that the user has set for SIGTERM or SIGHUP stays in place.
    Outside the main thread Python sets no handlers: nothing is noted.
    """

    def note(signum: int, frame: Any) -> None:
        asked.append(signum)
        if signum == signal.SIGINT and asked.count(signum) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in _noted(run)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _noted(run: bool) -> list[int]:
    """The signals that are noted: of SIGTERM and SIGHUP those that still end the process."""
    if threading.current_thread() is not threading.main_thread():
        return []
    ends = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if run and hasattr(signal, name)]  # not on Windows
    found = [number for number in ends if signal.getsignal(number) is signal.SIG_DFL]
    return found if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None) else [signal.SIGINT, *found]
