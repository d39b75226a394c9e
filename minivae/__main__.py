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
import traceback
import warnings
from types import FrameType, TracebackType
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
        if launched() > 1:
            sys.excepthook = _leave_the_others

        write_in_any_encoding()
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        begun = _times_begun()
        try:
            from .cli.app import app

            app()
        except SystemExit as end:  # typer's, which has printed why
            if end.code == 2 and launched() > 1 and _times_begun() == begun:
                _tell_other_ranks("its command line was refused: start all with the same program and options")
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


def _tell_other_ranks(message: str) -> None:
    """Join the others to say what this one has met before it joined them: they would wait for it for ever."""
    from .errors import UsageError

    try:
        from .distributed import mpi

        with mpi.begin().agreeing():
            raise UsageError(message)
    except (UsageError, ImportError) as error:
        if not getattr(error, "agreed", False) and not _times_begun():  # it cannot be loaded
            from .distributed import launcher

            launcher.leave(message)


def _leave_the_others(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook of an exception that nothing has caught, until this process joins the others."""
    from .distributed import launcher

    launcher.leave("ends all ranks", printed=False)
    traceback.print_exception(kind, error, trace, file=sys.__stderr__)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt; but the end at once while a module is imported, where some swallow or print it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"minivae: interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def _fail(message: str, status: int, error: BaseException | None = None) -> None:
    from .environment import launched
    from .errors import printable

    if not getattr(error, "agreed", False):
        if _times_begun():
            sys.modules["minivae.distributed.mpi"].end_all(printable(message), status)
        elif status != 130 and launched() > 1:  # Ctrl-C comes to all
            _tell_other_ranks(printable(message))
    print(f"minivae: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def _show_warning(message: Any, category: type, filename: str, lineno: int, *_: Any) -> None:
    from .errors import printable

    print(f"minivae: warning: {printable(' '.join(str(message).split()))}", file=sys.stderr)


if __name__ == "__main__":
    main()
