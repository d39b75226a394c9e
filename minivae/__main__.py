"""`python -m minivae`, and the command `minivae`: runs `cli.py` and turns what goes wrong into a line and a status.

0    done            2    a mistake of the user's: one line says what was expected, what came, what to do
1    training diverged, or a gradient is wrong                130  Ctrl-C; a run is saved first
143  SIGTERM, 129  SIGHUP: likewise

Of several processes that mpiexec has started, rank 0 alone prints, but for an error that one of them alone has met.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import suppress
from types import FrameType
from typing import Any


def main() -> None:
    """Run the command line and exit."""
    _open_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from .console import write_in_any_encoding
        from .environment import launched, launched_rank
        from .errors import UsageError

        if launched_rank() > 0:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115

        write_in_any_encoding()
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        begun = _times_begun()
        try:
            from .cli.app import app

            app()
        except SystemExit as end:  # typer's, which has printed why
            if end.code == 2 and launched() > 1 and _times_begun() == begun:
                _tell_other_ranks()
            raise
        except UsageError as error:
            _fail(str(error), 2, error)
        except OSError as error:
            _fail(f"{error.filename or 'file'}: {error.strerror or error}", 2, error)
        except ArithmeticError as error:
            _fail(str(error), 1, error)
        except MemoryError as error:
            _fail(f"out of memory: {error or 'a smaller model or --batch-size needs less'}", 2, error)
    except KeyboardInterrupt:
        _fail("interrupted", 130)


def _open_streams() -> None:
    """Open /dev/null for each closed standard stream: else a file takes its number, and what a library prints."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def _times_begun() -> int:
    """How often this process has joined the others that mpiexec has started."""
    ranks = sys.modules.get("minivae.distributed.mpi")
    return 0 if ranks is None else ranks.times_begun


def _tell_other_ranks() -> None:
    """Join the others to say that this command line was refused: they would wait for this rank for ever."""
    from .distributed import mpi
    from .errors import UsageError

    with suppress(UsageError), mpi.begin().agreeing():  # which others raise, or which stands there already
        raise UsageError("its command line was refused: start all with the same program and options")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt; but the end at once while a module is imported, where some swallow or print it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"minivae: interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def _fail(message: str, status: int, error: BaseException | None = None) -> None:
    from .errors import printable

    ranks = sys.modules.get("minivae.distributed.mpi")
    if ranks is not None and not getattr(error, "agreed", False):
        ranks.end_all(printable(message), status)
    print(f"minivae: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def _show_warning(message: Any, category: type, filename: str, lineno: int, *_: Any) -> None:
    from .errors import printable

    print(f"minivae: warning: {printable(' '.join(str(message).split()))}", file=sys.stderr)


if __name__ == "__main__":
    main()
