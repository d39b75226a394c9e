"""console: what people and machines are shown. Terminals, tables, numbers, JSON, a live line: one of each.

Rich is imported when something is drawn, so that importing this module costs nothing.
"""

from __future__ import annotations

import codecs
import html
import json
import math
import sys
import unicodedata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .errors import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

WIDTH = 120  # columns where there is no terminal
NOTHING = "—"  # a number that does not exist

_ASCII = {
    "−": "-", "–": "-", "—": "-", "‑": "-", "·": "*", "×": "x", "±": "+/-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~",
    "⁄": "/", "…": "...", "→": "->", "←": "<-", "∞": "inf", "√": "sqrt", "∑": "sum", "∫": "integral",
    "∂": "d", "∇": "grad", "‘": "'", "’": "'", "“": '"', "”": '"', "∈": "in", "∼": "~", "─": "-", "│": "|",
    "‖": "||", "⊙": "*", "∬": "integral", "⎧": "{", "⎨": "{", "⎩": "{", "⟨": "<", "⟩": ">", "\N{COMBINING TILDE}": "~",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
}  # fmt: skip
_COLOURS = {
    "ok": "green",
    "holds": "green",
    "wrong": "bold red",
    "FAILS": "bold red",
    "kinks": "bold yellow",
    "flat": "bold yellow",
    "note": "yellow",
    "loose": "yellow",
    "none": "dim",
}


# ---- terminals ------------------------------------------------------------------------------------------------------


def stdout() -> Console:
    """Standard output, 120 columns wide where it is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def write_in_any_encoding() -> None:
    """Let standard output and error write what their encoding lacks in ASCII: − as -, σ as sigma, ≤ as <=."""
    codecs.register_error("minivae", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not a StringIO, not None
            stream.reconfigure(errors="minivae")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    name = unicodedata.name(character, "")
    if character in _ASCII:
        return _ASCII[character]
    if name.startswith("GREEK"):
        return name.split()[-1].lower()
    parts = unicodedata.normalize("NFKD", character)  # é: e and an accent; ²: 2
    if character.isascii() or parts == character:
        return character if character.isascii() else "?"
    return "".join(_ascii(part) for part in parts if not unicodedata.combining(part))


def as_text(drawing: RenderableType, width: int = WIDTH) -> str:
    """The drawing as plain text."""
    from rich.console import Console

    console = Console(width=width, color_system=None, force_terminal=False, force_jupyter=False, highlight=False)
    with console.capture() as capture:
        console.print(drawing)
    return capture.get()


class Live:
    """Lines on standard error and, on a terminal, one live line below them. A closed pipe silences it.

    quiet   write nothing
    """

    def __init__(self, quiet: bool = False):
        from rich.console import Console

        console: Any = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        console.on_broken_pipe = self._silence  # where rich would end the process
        self.console = console
        self.status: Any = None

    @property
    def shown(self) -> bool:
        """Whether there is a terminal for the live line, or a notebook with widgets."""
        live = self.console.is_terminal or (self.console.is_jupyter and find_spec("ipywidgets") is not None)
        return bool(live) and not self.console.quiet

    def start(self, text: str) -> Live:
        """Show the live line, on a terminal."""
        if self.shown and self.status is None:
            self.status = self.console.status(text, spinner="line")
            self.status.start()
        return self

    def update(self, text: str) -> None:
        """Replace the live line."""
        if self.status is not None:
            self.status.update(text)

    def line(self, text: str, markup: bool = False) -> None:
        """Write a line that stays."""
        try:
            self.console.print(text if markup else printable(text), markup=markup)
        except OSError:
            self._silence()

    def stop(self) -> None:
        if self.status is not None:
            self.status.stop()
            self.status = None

    def _silence(self) -> None:
        """The reader has gone (`… 2>&1 | head`, a full disk): the work goes on."""
        self.console.quiet = True

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def in_notebook() -> bool:
    """Whether this is a Jupyter notebook, which shows what is displayed, and has no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


# ---- notebooks ------------------------------------------------------------------------------------------------------


def html_facts(title: str, facts: dict[str, Any]) -> str:
    """A title and a small table, for `_repr_html_`; facts that are None are left out."""
    left = ' style="text-align:left"'
    texts = {name: printable(value) for name, value in facts.items() if value is not None}
    rows = "".join(
        f"<tr><th{left}>{html.escape(name)}</th><td{left}>{html.escape(text)}</td></tr>" for name, text in texts.items()
    )
    return f"<table><caption><b>{html.escape(printable(title))}</b></caption>{rows}</table>"


def html_curve(name: str, x: list[float], y: list[float], width: int = 420, height: int = 140) -> str:
    """A line through the points as SVG, the limits written beside it; points that are not finite are left out."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    if not points:
        return ""
    (left, right), (low, high) = ((min(side), max(side)) for side in zip(*points, strict=True))
    places = " ".join(
        f"{5 + (a - left) / ((right - left) or 1) * (width - 90):.1f},"
        f"{height - 22 - (b - low) / ((high - low) or 1) * (height - 34):.1f}"
        for a, b in points
    )
    texts = [(width - 78, 16, f"{high:.4g}"), (width - 78, height - 22, f"{low:.4g}")]
    texts += [(5, height - 4, f"{name}, {left:g} to {right:g}")]
    drawn = "".join(f'<text x="{a}" y="{b}" fill="currentColor">{html.escape(text)}</text>' for a, b, text in texts)
    dot = places.split(" ")[-1].split(",")
    return (
        f'<svg width="{width}" height="{height}" style="font:12px sans-serif"><polyline points="{places}" fill="none" '
        f'stroke="#0072b2" stroke-width="2"/><circle cx="{dot[0]}" cy="{dot[1]}" r="3" fill="#0072b2"/>{drawn}</svg>'
    )


# ---- tables ---------------------------------------------------------------------------------------------------------


def table(*columns: str, left: tuple[int, ...] = (0,), title: str | None = None) -> Table:
    """A table: names to the left, numbers to the right. Columns called worst or error are never cut."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    made.title_style = "bold"
    for i, column in enumerate(columns):
        least = len("1.2e-10") if column in ("worst", "error") else None
        side: Any = "left" if i in left else "right"
        made.add_column(column, justify=side, no_wrap=i not in left, overflow="fold", min_width=least)
    return made


def verdict(word: str) -> Text:
    """A verdict in its colour."""
    from rich.text import Text

    return Text(word, style=_COLOURS.get(word, ""))


# ---- numbers --------------------------------------------------------------------------------------------------------


def number(x: float | None, digits: int = 4) -> str:
    """A value with so many digits: 1.235, 5.2e-09; a dash for none."""
    return NOTHING if x is None or x != x else f"{x:.{digits}g}"


def error(x: float) -> str:
    """A relative error: 1.2e-10."""
    return "∞" if x == math.inf else f"{x:.1e}"


def compact(x: float) -> str:
    """A value in at most seven characters, nearly always: 0.0123, -248, 5.2e3."""
    if x != x:
        return NOTHING
    if x == 0 or 0.01 <= abs(x) < 1000:
        return f"{x:.3g}"
    return f"{x:.1e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def quantity(x: float) -> str:
    """A number ≥ 0 with three digits and its prefix: 1.57M, 21.4µ."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if x >= factor:
            return f"{x / factor:.3g}{prefix}"
    return "0" if x == 0 else f"{x / 1e-9:.3g}n"


def measure(x: float | None) -> str:
    """A time or a rate with three digits: 0.0712, 1.50, 62.1; integers from 100 on."""
    return NOTHING if x is None else f"{x:,.0f}" if x >= 99.95 else f"{x:#.3g}"


def with_error(x: float, standard_error: float | None) -> str:
    """A value, and its standard error with two digits: −0.443147, 2.980 ± 0.017."""
    if standard_error is None:
        return f"{x:.6g}".replace("-", "−")
    digits = 1 - math.floor(math.log10(standard_error))
    return f"{x:.{digits}f} ± {standard_error:.{digits}f}"


# ---- JSON -----------------------------------------------------------------------------------------------------------


def plain(data: Any) -> Any:
    """The data as JSON has them: tuples as lists, numbers that are not finite as null."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def print_json(data: Any) -> None:
    """Print one JSON text."""
    print(json.dumps(plain(data), allow_nan=False, indent=1))
