"""evaluate: the work of `minivae evaluate`, from its options to its figures, as a dict and as lines of text."""

from __future__ import annotations

import csv
import io
import math
from operator import add
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..conditions import explained
from ..datasets.rows import reduced
from ..errors import UsageError, printable
from ..evaluation.annealing import annealed, enclose
from ..evaluation.bounds import evaluate, log_likelihood
from ..evaluation.columns import reconstruction
from ..evaluation.dealt import by_first
from ..evaluation.latents import ACTIVE, COLLAPSED, usage
from .columns import columns_of
from .runs import Part, Run

if TYPE_CHECKING:
    from ..distributed.world import World

LEAPFROG = 10  # steps in each transition of AIS
SHOWN, WIDEST = 20, 40  # columns of a table, and letters of a name, that are printed
SIMULATED = 16  # rows that the bidirectional check draws


def assess(
    run: Run,
    part: Part,
    importance: int | None = None,
    ais: int | None = None,
    chains: int = 16,
    bidirectional: bool = False,
    report: bool = False,
    ranks: World | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compute the figures of a run's model on a part of data, and if an estimate is requested ln p(x) of each row.

    importance   K, samples for each row: ln p(x) by importance sampling
    ais          T, temperatures: ln p(x) by annealed importance sampling with `chains` chains
    bidirectional   bound the error of AIS from both sides, on rows drawn from the model
    report       measure which latent dimensions are used
    ranks        what shares out the work (`distributed/`): rank 0 alone gets all rows
    """
    if bidirectional and ais is None:
        raise UsageError("--bidirectional checks annealed importance sampling: give --ais T as well")
    for option, value in (("--importance", importance), ("--ais", ais), ("--chains", chains)):
        if value is not None:
            checks.integer(option, value)
    figures: dict[str, Any] = {"part": part.name, **evaluate(run.vae, part.X, rows=part.rows, ranks=ranks).to_dict()}
    rows: dict[str, np.ndarray] = {}
    if run.vae.columns is not None:
        figures["columns"] = of_columns(run, part, ranks)
    if report:
        figures["report"] = usage(run.vae, part.X, rows=part.rows, ranks=ranks).to_dict()
    if importance is not None:
        log_px, error = log_likelihood(run.vae, part.X, importance, rows=part.rows, ranks=ranks, everywhere=False)
        figures |= {"importance_samples": importance, **by_first(ranks, lambda: _mean(log_px, error))}
        rows = {"log_px": log_px, "standard_error": error}
    if ais is not None:
        found = annealed(run.vae, part.X, ais, chains, LEAPFROG, rows=part.rows, ranks=ranks, everywhere=False)
        mean = by_first(ranks, lambda: _mean(found.log_px, found.error))
        figures["ais"] = {"temperatures": ais, "chains": chains, **mean}
        figures["ais"]["acceptance"] = found.acceptance
        rows = {"log_px": found.log_px, "standard_error": found.error}
        if bidirectional:
            both = enclose(run.vae, SIMULATED, ais, chains, LEAPFROG, ranks=ranks)
            lower, upper = _mean(both.lower, both.lower_error), _mean(both.upper, both.upper_error)
            figures["ais"]["bidirectional"] = {"rows": SIMULATED, "lower": lower, "upper": upper, "gap": both.gap}
    return figures, rows


def of_columns(run: Run, part: Part, ranks: World | None = None) -> list[dict[str, Any]]:
    """−ln p(x_d|z) of each column of a table, a mean over the rows that have it: its name, kind, nats and rows."""
    vae, X, schema = run.vae, explained(part.X), columns_of(run)

    def found() -> list[float]:
        return reconstruction(vae, part.X, part.rows).tolist()

    own = vae.likelihood.name
    mixed = own.startswith("mixed:")
    nll = by_first(ranks, found)
    there = reduced(X, lambda block: (X[block] == X[block]).sum(axis=0), add, ranks).tolist()
    return [
        {"name": column.name, "kind": column.kind if mixed else own, "nll": x if rows else None, "rows": rows}
        for column, x, rows in zip(schema.features, nll, there, strict=True)
    ]


def _mean(log_px: np.ndarray, error: np.ndarray) -> dict[str, float | None]:
    """Return the mean over rows and its standard error: that of the estimates, not that of the choice of rows."""
    error_of_mean = float(np.sqrt((error**2).sum()) / len(error))
    return {
        "log_likelihood": float(log_px.mean()),
        "standard_error": error_of_mean if math.isfinite(error_of_mean) else None,
    }


def describe(figures: dict[str, Any]) -> list[str]:
    """Format the figures as lines of text."""
    lines = [f"{figures['part']}, {figures['rows']:,} rows, nats a row"]
    if "iwae" in figures:
        lines.append(f"  iwae  {figures['iwae']:10.3f}   (its training objective)")
    lines.append(f"  elbo  {figures['elbo']:10.3f}   (−elbo {-figures['elbo']:.3f})")
    lines += [f"  nll   {figures['nll']:10.3f}", f"  kl    {figures['kl']:10.3f}"]
    if "columns" in figures:
        lines += _describe_columns(figures["columns"], figures["rows"])
    if "importance_samples" in figures:
        lines.append(_estimate(figures, f"importance sampling, {figures['importance_samples']} samples"))
    if "ais" in figures:
        lines += _describe_ais(figures["ais"])
    if "report" in figures:
        lines += _describe_report(figures["report"])
    return lines


def _describe_columns(columns: list[dict[str, Any]], rows: int) -> list[str]:
    """A line for each column, those of the largest −ln p first: they add up to the NLL where no cell is missing."""
    order = sorted(columns, key=lambda c: -math.inf if c["nll"] is None else c["nll"], reverse=True)
    width = max(8, max(len(printable(c["name"])[:WIDEST]) for c in order[:SHOWN]))
    lines = [f"  {'column':{width}s} {'kind':12s} {'−ln p(x_d|z)':>13s}"]
    for c in order[:SHOWN]:
        nll = "no cell" if c["nll"] is None else f"{c['nll']:.3f}"
        gaps = "" if c["rows"] in (0, rows) else f"   of {c['rows']:,} cells"
        lines.append(f"  {printable(c['name'])[:WIDEST]:{width}s} {c['kind']:12s} {nll:>13s}{gaps}")
    if len(order) > SHOWN:
        lines.append(f"  and {len(order) - SHOWN} more, in --json")
    return lines


def _estimate(found: dict[str, Any], how: str) -> str:
    spread = meaning = ""
    if found["standard_error"] is not None:
        spread, meaning = f" ± {found['standard_error']:.3f}", "; ± is its own error, not that of the rows"
    return f"  ln p(x) {found['log_likelihood']:8.3f}{spread}   ({how}{meaning})"


def _describe_ais(ais: dict[str, Any]) -> list[str]:
    lines = [_estimate(ais, f"AIS, {ais['temperatures']} temperatures, {ais['chains']} chains")]
    if ais["temperatures"] > 1:
        lines[0] = lines[0][:-1] + f"; {ais['acceptance']:.0%} of transitions accepted)"
    if "bidirectional" in ais:
        both = ais["bidirectional"]
        low, high = both["lower"]["log_likelihood"], both["upper"]["log_likelihood"]
        lines.append(
            f"  on {both['rows']} rows of the model's own: {low:.3f} ≤ ln p(x) ≤ {high:.3f} on average, "
            f"a gap of {both['gap']:.3f} that bounds AIS's error there"
        )
    return lines


def _describe_report(report: dict[str, Any]) -> list[str]:
    L, used = len(report["kl_dims"]), len(report["active"])
    lines = [
        f"  rate {report['rate']:.3f} (the KL), distortion {report['distortion']:.3f} (the NLL)",
        f"  information of z on the row: {report['mutual_information']:.3f} of at most "
        f"{math.log(report['mutual_information_rows']):.3f} = ln {report['mutual_information_rows']}",
        f"  {used} of {L} latent dimensions are active (variance of the posterior's mean > {ACTIVE:g})"
        + (": collapsed, the decoder ignores z" if used == 0 else ""),
    ]
    if report["rate"] < COLLAPSED and used:
        lines.append(f"  collapsed all the same: the KL of all together is under {COLLAPSED} nats a row")
    lines += [
        "  dimension       kl  variance",
    ]
    order = np.argsort(report["kl_dims"])[::-1].tolist()
    for l in order:
        sleeps = "" if l in report["active"] else "  unused"
        lines.append(f"  {l:9d} {report['kl_dims'][l]:8.3f} {report['variances'][l]:9.4f}{sleeps}")
    return lines


def write_rows(file: IO[bytes], suffix: str, part: Part, rows: dict[str, np.ndarray]) -> None:
    """Write ln p(x) of each row with its error, row number and label as a table (.csv) or arrays (.npz)."""
    columns: dict[str, np.ndarray] = {"row": part.rows, **rows}
    if part.y is not None:
        columns["y"] = part.y
    if suffix == ".npz":
        np.savez(file, **columns)  # type: ignore[arg-type]
        return
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(_cell, column.tolist()) for column in columns.values()), strict=True))
    text.detach()  # flushes, and leaves the file open


def write_codes(file: IO[bytes], mean: np.ndarray) -> None:
    """Write posterior means (n, L) as tab-separated numbers, a line a row, without a header."""
    np.savetxt(file, mean, fmt="%.9g" if mean.dtype == np.float32 else "%.17g", delimiter="\t")


def write_metadata(file: IO[bytes], part: Part) -> None:
    """Write the rows' numbers, and their labels under a header: one column alone has none, as the projector has it."""
    numbers = [str(number) for number in part.rows.tolist()]
    if part.y is None:
        lines = numbers
    else:
        lines = ["row\tlabel", *(f"{row}\t{_cell(y)}" for row, y in zip(numbers, part.y.tolist(), strict=True))]
    file.write(("\n".join(lines) + "\n").encode())


def _cell(value: Any) -> Any:
    """Escape a value for a spreadsheet: text that it would run as a formula gets an apostrophe in front."""
    if not isinstance(value, (str, bytes)):
        return value
    text = printable(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
