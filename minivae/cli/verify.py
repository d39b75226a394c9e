"""command: the command line `minivae verify`. Only typer is imported here; everything else when it is asked for."""

from __future__ import annotations

from typing import Annotated

import typer


def verify(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N|NAME",
            help="Only this claim: its number, its name, its chapter, or an equation as eq16. May be repeated.",
            show_default=False,
        ),
    ] = None,
    list_claims: Annotated[bool, typer.Option("--list", help="List the claims, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a machine.")] = False,
) -> None:
    """Run every claim of the article, and see it hold, or see where it is loose.

    Exit status: 0 all claims hold (or are loose where they are known to be), 1 one fails.

    Examples:

        minivae verify

        minivae verify --only kl-formula --only eq23
    """
    import json
    import os

    from rich.console import Console

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported; `verify.one_thread` says why
    from ..article.claims import verify as runner
    from ..article.claims.table import equations

    if list_claims:
        chosen = runner.select(only or [])
        if as_json:
            found = [
                {"number": n, "name": c.name, "equations": list(c.equations), "sentence": c.sentence} for n, c in chosen
            ]
            print(
                json.dumps({"schema": runner.SCHEMA, "kind": "claims", "claims": found}, ensure_ascii=False, indent=1)
            )
        else:
            for number, claim in chosen:
                print(f"{number:3d}  {claim.name:22s} {equations(claim):18s} {claim.sentence}")
        return
    errors = Console(stderr=True, highlight=False)
    live = errors.is_terminal and not as_json
    with errors.status("", spinner="line") if live else _nothing() as status:

        def begin(done: int, total: int, name: str) -> None:
            if live:
                status.update(f"{done + 1} of {total}: {name} …")

        report = runner.run(only, begin)
    if as_json:
        print(json.dumps(report.to_json(), allow_nan=False, ensure_ascii=False, indent=1))
    else:
        console = Console(highlight=False)
        console = console if console.is_terminal else Console(highlight=False, width=120)
        console.print(report.render())
    raise typer.Exit(report.exit_code)


def _nothing():
    from contextlib import nullcontext

    return nullcontext()
