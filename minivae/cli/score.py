"""score: the command `minivae score`. `app.py` registers it; at import only typer is loaded."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .. import console
from ..errors import UsageError
from .options import (
    BackendName,
    Force,
    Json,
    KernelKind,
    OtherData,
    Out,
    RunFolder,
    Split,
    check_out,
    ranks_of_command,
    say,
    write_file,
)
from .plugin import Plugin

REFERENCE = 10_000  # training rows at most whose scores a score is compared with: drawn with the run's seed
SURE = 2.0  # standard errors between a score and the threshold, or else the row is undecided


def score(
    context: typer.Context,
    run: RunFolder,
    out: Out,
    data: OtherData = None,
    split: Split = None,
    contamination: Annotated[
        float | None, typer.Option(metavar="F", help="Outliers score above all but this share of the training rows.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="T", help="Outliers score above T, −ln p(x) in nats.")
    ] = None,
    columns_top: Annotated[
        int | None, typer.Option(metavar="N", help="Also the N columns that add most to a row's score.")
    ] = None,
    importance: Annotated[int, typer.Option(metavar="K", help="Samples of z for each row.")] = 100,
    force: Force = False,
    as_json: Json = False,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    plugin: Plugin = None,
) -> None:
    """Score rows for anomalies: −ln p(x) of each, its standard error, and its percentile among the training rows.

    With --contamination or --threshold also whether a row is an outlier: yes, no, or undecided where the threshold lies
    within two standard errors.

    Example: minivae score run new.csv -o scores.csv --contamination 0.01 --columns-top 3
    """
    from .evaluate import write_rows
    from .runs import open_run

    ranks = ranks_of_command(context)
    with ranks.agreeing():
        ranks.first(lambda: check_out(out, (".csv", ".npz"), force))
        check_options(contamination, threshold)
        opened = open_run(run, backend, kernels)
        part = opened.part(data, split, ranks)
        columns, figures = scored(opened, data, part, contamination, threshold, columns_top, importance, ranks)
    write_file(out, force, lambda file: write_rows(file, out.suffix, part, columns), ranks)
    if ranks.rank > 0:  # rank 0 has the figures
        return
    if as_json:
        console.print_json(figures)
        return
    for line in describe(figures):
        say(line)
    say(f"{out}: {_rows(figures)}")


def check_options(contamination: float | None, threshold: float | None) -> None:
    """Raise UsageError for a threshold that is given twice, or is none."""
    import math

    if contamination is not None and threshold is not None:
        raise UsageError("--contamination and --threshold both set the threshold: leave one of the two out")
    if contamination is not None and not 0 < contamination <= 0.5:
        raise UsageError(f"--contamination {contamination:g}: expected a share of the training rows in (0, 0.5]")
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"--threshold {threshold:g}: expected a finite number of nats")


def scored(
    run: Any,
    data: str | None,
    part: Any,
    contamination: float | None,
    threshold: float | None,
    top: int | None,
    importance: int,
    ranks: Any = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The table's columns by name, and the figures of the summary, for a `runs.Run` and a `runs.Part`; on rank 0 alone.

    data    where part is from; None: the run's own data
    ranks   what shares out the work (`distributed/`); None: this process does it all
    """
    import numpy as np

    from .. import checks
    from ..conditions import explained
    from ..datasets.order import permutation
    from ..datasets.rows import chosen
    from ..evaluation.bounds import log_likelihood
    from ..evaluation.columns import explain
    from ..evaluation.dealt import hashes

    vae, N = run.vae, len(part.X)
    if checks.integer("--importance", importance) < 2:
        raise UsageError("--importance 1 has no standard error: expected at least 2 samples")
    if top is not None and not 1 <= checks.integer("--columns-top", top) <= vae.features:
        raise UsageError(f"--columns-top {top}: expected at most {vae.features}, the number of columns")
    train = run.training_part(data, ranks).X
    if len(train) > REFERENCE:
        train = chosen(train, np.sort(permutation(vae.seed, len(train), "split", 2)[:REFERENCE]))
    how: dict[str, Any] = {"samples": importance, "ranks": ranks, "everywhere": False}
    how["rows"] = hashes(explained(part.X), ranks)
    log_px, error = log_likelihood(vae, part.X, **how)
    trained, _ = log_likelihood(vae, train, **how | {"rows": hashes(explained(train), ranks)})
    shares = None if top is None else explain(vae, part.X, **how)
    if ranks is not None and ranks.rank > 0:
        return {}, {}
    score, reference = -log_px, np.sort(-trained)
    percentile = 100 * np.searchsorted(reference, score, side="right") / len(reference)
    columns = {"score": score, "standard_error": error, "percentile": percentile}
    figures: dict[str, Any] = {
        "part": part.name, "rows": N, "importance_samples": importance, "training_rows": len(reference),
        "median": float(np.median(score)), "training_median": float(np.median(reference)),
        "contamination": contamination, "threshold": threshold,
    }  # fmt: skip
    if contamination is not None:
        figures["threshold"] = threshold = float(np.quantile(reference, 1 - contamination))
    if threshold is not None:
        sure = np.abs(score - threshold) >= SURE * error
        columns["outlier"] = np.where(sure, np.where(score > threshold, "yes", "no"), "undecided")
        found = {"outliers": "yes", "inliers": "no", "undecided": "undecided"}
        figures |= {name: int((columns["outlier"] == word).sum()) for name, word in found.items()}
    if shares is not None:
        order = np.argsort(-shares, axis=1, kind="stable")[:, :top]
        names = np.array(vae.columns or [str(d) for d in range(vae.features)])
        for k in range(order.shape[1]):
            columns[f"column_{k + 1}"] = names[order[:, k]]
            columns[f"share_{k + 1}"] = np.take_along_axis(shares, order[:, k : k + 1], axis=1)[:, 0]
    return columns, figures


def _rows(figures: dict[str, Any]) -> str:
    return "1 row" if figures["rows"] == 1 else f"{figures['rows']:,} rows"


def describe(figures: dict[str, Any]) -> list[str]:
    """The summary in lines."""
    lines = [
        f"{figures['part']}, {_rows(figures)}; the score is −ln p(x) in nats, by importance sampling with "
        f"{figures['importance_samples']} samples a row",
        f"  median     {figures['median']:10.3f}   ({figures['training_median']:.3f} of {figures['training_rows']:,} "
        "training rows)",
    ]
    if figures["threshold"] is not None:
        share = figures["contamination"]
        why = "" if share is None else f"   ({share:g} of the training rows lie above)"
        lines.append(f"  threshold  {figures['threshold']:10.3f}{why}")
        lines.append(
            f"  outliers   {figures['outliers']:6,}   and {figures['undecided']:,} undecided, within {SURE:g} standard "
            "errors of the threshold"
        )
    return lines
