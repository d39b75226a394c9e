"""page: the book's page of results, made of the files in results/ when the book is built."""

from __future__ import annotations

from typing import Any

import burda
import jaanli
import kingma
import paper
import pythae

SCRIPTS: tuple[Any, ...] = (jaanli, pythae, burda, kingma)  # in this order
INTRODUCTION = """\
Published numbers, and ours by the same protocol. Each table is the output of one command; the same command continues
a run that stopped, and `--help` lists its options. The scripts are in [reproductions](../reproductions/README.md).

*Difference* is our number minus the published one. The *standard error* is that of the mean over test rows; *of
sampling z* is the part that the importance-sampling estimate of each row adds (the estimate is low on average, and
lower with fewer samples). *Training* is wall-clock time on cores shared with other work, without evaluation. A run in
part says how far it came, and does not count as a reproduction. All numbers are in nats.
"""


def markdown() -> str:
    """Return the page."""
    tables = [table(script) for script in SCRIPTS]
    return "\n\n".join(part.strip() for part in ("# Published results", INTRODUCTION, *tables)) + "\n"


def table(script: Any) -> str:
    """Return one table with its protocol, and where and when its lines were run."""
    result = paper.Result.read(paper.RESULTS / f"{script.NAME}.json")
    rows = [paper.COLUMNS, ("---", *["---:"] * 5, "---", "---:"), *paper.lines(result.figures)]
    facts = [f"Protocol: {line}." for line in result.protocol] + [f"Different: {line}." for line in result.differences]
    runs: dict[tuple[str, str, str], list[str]] = {}
    for figure in result.figures:
        if figure.ours is not None:
            runs.setdefault((figure.date[:10], figure.command, figure.machine), []).append(figure.what)
    ran = [f"Run {date}: `{command}`, on {machine}." for date, command, machine in runs]
    said = [f"Source: {result.source}.", f"Data: {result.data}.", *facts, *ran]
    parts = [f"## {result.title}", "\n".join("| " + " | ".join(row) + " |" for row in rows)]
    if result.curves:
        parts.append("![Training and test ELBO against the training samples seen](figures/out/results.svg)")
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in said)])
