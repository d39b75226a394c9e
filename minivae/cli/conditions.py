"""conditions: the option --condition, which names columns to train with, and gives their values to sample with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..conditions import Condition

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="COL,…",
        help="Columns that the model is given, not explains: labels or numbers; 'label' for the labels of digits.",
        rich_help_panel="Data",
    ),
]
Given = Annotated[
    list[str] | None,
    typer.Option("--condition", metavar="COL=VALUE,…", help="What the rows are given, as the model was trained with."),
]


def names_of(given: list[str] | None) -> tuple[str, ...]:
    """["club,age", "job"] → ("club", "age", "job")."""
    names = tuple(name.strip() for text in given or () for name in text.split(","))
    if "" in names or len({*names}) < len(names):
        raise UsageError(f"--condition {','.join(names)}: expected names of columns, each once, with commas between")
    return names


def values_of(condition: Condition | None, given: list[str] | None) -> dict[str, Any] | None:
    """["club=A,age=30"] → {"club": "A", "age": 30.0}, as the model's condition has them; None where it has none."""
    if condition is None:
        if given:
            raise UsageError(f"--condition {given[0]}: this model was trained without one; train it with --condition")
        return None
    names = condition.names or tuple(str(k) for k in range(len(condition.columns)))
    wanted = "; expected " + ",".join(f"{name}={_example(c)}" for name, c in zip(names, condition.columns, strict=True))
    found: dict[str, str] = {}
    for part in _parts(given or []):
        name, equals, text = part.partition("=")
        if not equals or name.strip() in found:
            raise UsageError(f"--condition {part}: a value that belongs to no column, or a second one{wanted}")
        found[name.strip()] = text.strip()
    if {*found} != {*names}:
        extra = [name for name in found if name not in names]
        told = f"the model was not trained with {extra[0]!r}" if extra else "this model needs a value of each column"
        raise UsageError(f"--condition {','.join(given or []) or 'is missing'}: {told}{wanted}")
    return {name: _value(name, column, found[name]) for name, column in zip(names, condition.columns, strict=True)}


def _parts(given: list[str]) -> list[str]:
    """The texts at commas; a piece without = belongs to the value before it."""
    parts: list[str] = []
    for text in given:
        for k, piece in enumerate(text.split(",")):
            if k and "=" not in piece:
                parts[-1] += f",{piece}"
            else:
                parts.append(piece)
    return parts


def _value(name: str, column: Any, text: str) -> Any:
    """The level or the number that a text means."""
    if isinstance(column, list):
        for level in column:
            if text == str(level) or (isinstance(level, bool) and text.lower() == str(level).lower()):
                return level
        raise UsageError(f"--condition {name}={text}: the model was not trained with it; expected {_some(column)}")
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--condition {name}={text}: expected a number") from None


def _some(levels: list[Any]) -> str:
    return ", ".join(str(level)[:40] for level in levels[:8]) + (", …" if len(levels) > 8 else "")


def _example(column: Any) -> str:
    return str(column[0])[:40] if isinstance(column, list) else f"{column[0]:.4g}"


def describe(condition: Condition) -> str:
    """ "club (2 labels), age (a number)"."""
    kinds = [f"{len(c)} labels" if isinstance(c, list) else "a number" for c in condition.columns]
    names = condition.names or range(len(kinds))
    return ", ".join(f"{name} ({kind})" for name, kind in zip(names, kinds, strict=True))


def spread(condition: Condition, rows: dict[str, Any], n: int) -> tuple[dict[str, Any], str]:
    """What n samples of a picture are given, and that in words: each label in turn, or what the first rows have."""
    import numpy as np

    if len(condition.columns) == 1 and isinstance(levels := condition.columns[0], list):
        return {name: np.array(levels)[np.arange(n) * len(levels) // n] for name in rows}, "each label in turn"
    return {name: np.resize(values, n) for name, values in rows.items()}, "conditions of the first rows"
