"""compare: the command `minivae compare`. `app.py` registers it; at import only typer is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import NOTHING, print_json, stdout, table
from ..errors import UsageError, printable
from .options import Force, Json, check_out, say, writing_file
from .plugin import Plugin


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN …", help="Folders of runs.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw their curves: .png, .svg or .pdf.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Compare runs: one table of their models and last figures, and a picture of their curves.

    Example: minivae compare run other -o curves.png
    """
    from .. import plots
    from ..plots.draw import FORMATS
    from ..training.history import History, read_history
    from .runs import open_run

    if out is not None:
        check_out(out, FORMATS, force)
        plots.require()
    names = _names(runs)
    found, histories = [], {}
    for name, folder in zip(names, runs, strict=True):
        opened, rows = open_run(folder, "numpy"), read_history(folder)
        if not rows:
            raise UsageError(f"{folder}: no epoch is finished yet, so there is nothing to compare")
        histories[name] = History(rows)
        found.append({"run": str(folder), **_figures(opened, rows)})
    different = sorted({key for key in ("data", "likelihood", "scale") if len({str(one[key]) for one in found}) > 1})
    if as_json:
        print_json({"runs": found, "differ_in": different})
    else:
        _print(names, found)
        if different:
            say(f"They differ in {', '.join(different)}: their nats may not be of the same thing.")
    if out is not None:
        with writing_file(out, force) as file:
            plots.save(plots.compare(histories), file, out.suffix[1:])
        if not as_json:
            say(f"{out}: the curves of {len(runs)} runs")


def _names(folders: list[Path]) -> list[str]:
    """The folders' own names, or their paths where two have the same."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _figures(run: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the table says of a run: the last epoch's figures, and the best validation ELBO where there is one."""
    vae, last = run.vae, rows[-1]
    held = [row for row in rows if row["val_elbo"] != ""]
    best = max(held, key=lambda row: row["val_elbo"]) if held else None
    return {
        "data": Path(run.config["data"]).name if run.config["data"] else None,
        "model": "-".join(map(str, (vae.features, *vae.hidden, vae.latent_dim))),
        "likelihood": vae.likelihood.name,
        "scale": "none" if vae.scale is None else vae.scale.kind,
        "objective": vae.loss_fn.name,
        "parameters": vae.buffer.count,
        "epochs": last["epoch"],
        "elbo": last["elbo"],
        "nll": last["nll"],
        "kl": last["kl"],
        "best_val_elbo": None if best is None else best["val_elbo"],
        "best_epoch": None if best is None else best["epoch"],
        "seconds": last["seconds"],
    }


def _print(names: list[str], found: list[dict[str, Any]]) -> None:
    columns = ("run", "data", "model", "likelihood", "parameters", "epochs", "elbo", "nll", "kl", "val elbo", "seconds")
    drawn = table(*columns, left=(0, 1, 2, 3))
    for name, one in zip(names, found, strict=True):
        best = NOTHING if one["best_val_elbo"] is None else f"{one['best_val_elbo']:.2f} at {one['best_epoch']}"
        figures = [f"{one[key]:.2f}" for key in ("elbo", "nll", "kl")]
        texts = [printable(name), printable(one["data"] or NOTHING), one["model"], one["likelihood"]]
        numbers = [f"{one['parameters']:,}", str(one["epochs"]), *figures, best, f"{one['seconds']:,.0f}"]
        from rich.text import Text

        drawn.add_row(*map(Text, texts), *numbers)
    stdout().print(drawn)
