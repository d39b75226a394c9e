"""page: docs/results.md and its picture, made of the files of results: `python reproductions/page.py`.

Nobody edits that page: a test makes it again from reproductions/results/, and compares. A table that no file has is
there with its published numbers, marked as not run.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import burda
import jaanli
import kingma
import paper
import pythae

SCRIPTS: tuple[Any, ...] = (jaanli, pythae, burda, kingma)  # in this order
DOCS = paper.HERE.parent / "docs"
PAGE, PICTURE = "results.md", "results-samples.png"
INTRODUCTION = """\
Numbers of the literature, and ours by the same protocol. Each table is a command, and going on with one that stopped
is the same command again; `--help` says what else it takes. They are in [reproductions](../reproductions/README.md).

*Difference* is ours less the published number. A *standard error* is that of the mean over the rows, for a test set is
a sample too; *of sampling z* is what the importance-sampling estimate of each row adds to it, which is low on average,
the more so the fewer its samples. *Training* is the time of the optimisation by the clock, on cores shared with other
work; evaluation is left out. What was run in part says how far it came, and is no reproduction; what was not
run says so. Nats.
"""


def markdown(results: Path) -> str:
    """The page, of the files in `results`."""
    tables = [table(script, results) for script in SCRIPTS]
    made = f"made by `python reproductions/page.py` from {_seen(results)}, sha256 {digest(results)[:16]}: do not edit"
    return (
        "\n\n".join(part.strip() for part in ("# Published results", f"<!-- {made} -->", INTRODUCTION, *tables)) + "\n"
    )


def table(script: Any, results: Path) -> str:
    """One table with its protocol, and where and when its lines were run."""
    path = results / f"{script.NAME}.json"
    result = paper.Result.read(path) if path.exists() else None
    if result is None:
        result = paper.Result(
            script.NAME, script.TITLE, script.SOURCE, script.PROTOCOL, script.DIFFERENCES, "–", figures=script.LINES
        )
    rows = [paper.COLUMNS, ("---", *["---:"] * 5, "---", "---:"), *paper.lines(result.figures)]
    facts = [f"Protocol: {line}." for line in result.protocol] + [f"Different: {line}." for line in result.differences]
    runs: dict[tuple[str, str, str], list[str]] = {}
    for figure in result.figures:
        if figure.ours is not None:
            runs.setdefault((figure.date[:10], figure.command, figure.machine), []).append(figure.what)
    ran = [f"Run {date}: `{command}`, on {machine}." for date, command, machine in runs]
    said = [f"Source: {result.source}.", f"Data: {result.data}.", *facts, *(ran or [f"Not run: `{whole(script)}`."])]
    parts = [f"## {result.title}", "\n".join("| " + " | ".join(row) + " |" for row in rows)]
    if result.curves:
        parts.append(f"![Training and test ELBO against the training samples seen]({PICTURE})")
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in said)])


def whole(script: Any) -> str:
    """The command that runs all of a table."""
    return f"python reproductions/{script.NAME}.py"


def digest(results: Path) -> str:
    """Of the files' contents, in the order of the page."""
    total = hashlib.sha256()
    for script in SCRIPTS:
        path = results / f"{script.NAME}.json"
        total.update(path.read_bytes() if path.exists() else b"-")
    return total.hexdigest()


def draw(results: Path, path: Path) -> bool:
    """The curves of Fig. 2; False where there are none."""
    source = results / f"{kingma.NAME}.json"
    curves = paper.Result.read(source).curves if source.exists() else {}
    if not curves:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        samples, training, test = zip(*curve, strict=True)
        axes.plot(samples, test, color=f"C{number}", label=f"{name}, test")
        axes.plot(samples, training, color=f"C{number}", linestyle="--", linewidth=1, label=f"{name}, training")
    axes.set(xscale="log", xlabel="training samples seen", ylabel="ELBO, nats", ylim=(-160, -95))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None, "Source": digest(results)})
    return True


def _seen(results: Path) -> str:
    return f"../{results.relative_to(DOCS.parent)}" if results.is_relative_to(DOCS.parent) else results.name


def main(results: Path = paper.RESULTS, docs: Path = DOCS) -> None:
    (docs / PAGE).write_text(markdown(results), encoding="utf-8")
    print(docs / PAGE)
    if draw(results, docs / PICTURE):
        print(docs / PICTURE)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
