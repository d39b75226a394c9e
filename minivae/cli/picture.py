"""picture: the command `minivae picture`. `app.py` registers it; at import only typer is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .conditions import Given, values_of
from .options import Force, OtherData, Out, RunFolder, Split, check_out, say, writing_file
from .plugin import Plugin

if TYPE_CHECKING:
    from .runs import Part, Run

KINDS = ("manifold", "latent", "traverse", "interpolate", "samples", "loss")
PAIRS = 6  # of rows to interpolate between, unless they are named


def picture(
    run: RunFolder,
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS), help="What to draw.")],
    out: Out,
    data: OtherData = None,
    split: Split = None,
    dims: Annotated[
        str | None, typer.Option(metavar="I,J", help="Latent dimensions: 1 is z₁. manifold, latent and traverse.")
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option("--range", metavar="R", help="From −R to R; manifold: the prior's quantiles."),
    ] = None,
    size: Annotated[int | None, typer.Option(metavar="N", help="Pictures along a side, or in a line.")] = None,
    rows: Annotated[
        str | None,
        typer.Option(metavar="I,J", help="Rows of the part, from 0: two to interpolate between, one to traverse from."),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", help="Samples, or rows of the latent plane.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the samples; default: the run's.")] = None,
    draw: Annotated[
        bool, typer.Option("--draw", help="Samples: draw x ~ p(x|z), as for a table, not its mean.")
    ] = False,
    mean: Annotated[bool, typer.Option("--mean", help="Samples: the mean E[x|z], as for pictures.")] = False,
    condition: Given = None,
    force: Force = False,
    plugin: Plugin = None,
) -> None:
    """Draw a picture of a finished run: .png, .svg or .pdf.

    Example: minivae picture run traverse -o traverse.svg
    """
    from .. import checks, plots
    from ..plots.draw import FORMATS
    from .runs import open_run

    if kind not in KINDS:
        raise UsageError(f"picture {kind}: expected one of {', '.join(KINDS)}")
    for option, value in (("--size", size), ("-n", n)):
        if value is not None:
            checks.integer(option, value, 2 if option == "--size" else 1)
    if reach is not None:
        checks.positive("--range", reach)
    if condition and kind != "samples":
        raise UsageError(f"--condition is for samples, and this is {kind}: leave it out")
    if draw and mean:
        raise UsageError("--draw and --mean are two things to sample: leave one of the two out")
    chosen, numbers = _numbers("--dims", dims, 1), _numbers("--rows", rows, 0)
    check_out(out, FORMATS, force)
    plots.require()
    opened = open_run(run, "numpy")
    own: dict[str, Any] = {}
    if chosen is not None:
        if max(chosen) > opened.vae.latent_dim:
            raise UsageError(f"--dims {dims}: expected dimensions from 1 to {opened.vae.latent_dim}")
        own["dims"] = [l - 1 for l in chosen]
    figure = _figure(kind, opened, data, split, own, reach, size, numbers, n, seed, draw, mean, condition)
    with writing_file(out, force) as file:
        plots.save(figure, file, out.suffix[1:])
    say(f"{out}: {kind}")


def _numbers(option: str, text: str | None, least: int) -> list[int] | None:
    """ "1,2" → [1, 2]; None stays None."""
    if text is None:
        return None
    try:
        found = [int(number) for number in text.split(",")]
        if min(found) >= least:
            return found
    except ValueError:
        pass
    raise UsageError(f"{option} {text!r}: expected integers ≥ {least} with a comma between, as in 1,2")


def _figure(
    kind: str, run: Run, data: str | None, split: str | None, own: dict[str, Any], reach: float | None,
    size: int | None, numbers: list[int] | None, n: int | None, seed: int | None, draw: bool, mean: bool,
    condition: list[str] | None,
) -> Any:  # fmt: skip
    from .. import plots
    from ..training.history import History, read_history

    vae = run.vae
    if kind == "loss":
        return plots.loss(History(read_history(run.folder)))
    if kind == "samples":
        draw = draw or (run.shape is None and not mean)
        what = "x ~ p(x|z) for z ~ N(0, I): draws" if draw else "E[x|z] for z ~ N(0, I): means, not draws"
        rows = vae.sample(64 if n is None else n, seed=seed, draw=draw, condition=values_of(vae.condition, condition))
        return plots.grid(rows, run.shape, title=what, names=vae.columns)
    if vae.condition is not None and kind != "latent":
        raise UsageError(f"{kind} decodes z alone, and this model decodes it with a condition: take samples or latent")
    needed = data is not None or numbers is not None or kind in ("latent", "interpolate")
    known = run.config["data"] is not None
    part = run.part(data, split) if needed or (known and kind == "traverse" and run.shape is None) else None
    if kind == "manifold":
        if run.shape is None:
            raise UsageError("a manifold is drawn of pictures, and these rows are none: take traverse")
        if vae.latent_dim < 2:
            raise UsageError("a manifold has two latent dimensions, and this model has one: take traverse")
        z = _row(vae, part, numbers[0]) if numbers and part else None
        return plots.manifold(vae, run.shape, reach=reach, size=size or 20, z=z, **own)
    if kind == "latent" and vae.latent_dim < 2:
        raise UsageError("the latent plane has two dimensions, and this model has one: minivae explore draws it")
    if kind == "traverse":
        limits = None if part is None or run.shape else part.limits()
        z = None if part is None or not numbers else _row(vae, part, numbers[0])
        return plots.traverse(vae, run.shape, z=z, reach=reach or 3.0, steps=size or 11, limits=limits, **own)
    assert part is not None
    if kind == "latent":
        some = part.first(5000 if n is None else n)
        rows = some.name if len(some.X) < len(part.X) else f"{len(part.X):,} rows of the {part.name}"
        return plots.latent(vae.encode(some.X)[0], some.y, rows=rows, **own)
    limits = None if run.shape else part.limits()
    first, second = _pairs(part, numbers)
    return plots.interpolate(vae, part.X[first], part.X[second], run.shape, steps=size or 9, limits=limits)


def _row(vae: Any, part: Part, number: int) -> Any:
    """The posterior mean of a row (L,)."""
    _check_rows(part, [number])
    return vae.encode(part.X[number : number + 1])[0][0]


def _check_rows(part: Part, numbers: list[int]) -> None:
    if max(numbers) >= len(part.X):
        raise UsageError(f"--rows {max(numbers)}: expected rows from 0 to {len(part.X) - 1}, of the {part.name}")


def _pairs(part: Part, numbers: list[int] | None) -> tuple[list[int], list[int]]:
    """The rows named, two by two; else the first few, each with a later row of another label."""
    if numbers is not None:
        if len(numbers) % 2:
            raise UsageError(f"--rows: expected pairs, as in 0,5 or 0,5,3,8; got {len(numbers)} rows")
        _check_rows(part, numbers)
        return numbers[::2], numbers[1::2]
    half = min(PAIRS, len(part.X) // 2)
    if half == 0:
        raise UsageError(f"the {part.name} has one row, and it takes two to interpolate between")
    first = list(range(half))
    later = range(half, len(part.X))
    if part.y is None:
        return first, list(later[:half])
    taken: list[int] = []
    for row in first:
        other = [k for k in later[:500] if k not in taken]
        taken.append(next((k for k in other if part.y[k] != part.y[row]), other[0]))
    return first, taken
