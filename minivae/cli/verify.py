"""verify: the command `minivae verify`. At import only typer is loaded; the command imports the rest."""

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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Measure every claim of the article: each holds, or is shown to be loose.

    Exit status: 0 all claims hold (or are loose where they are known to be), 1 one fails.

    Examples:

        minivae verify

        minivae verify --only kl-formula --only eq23
    """
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported; see `verify.one_thread`
    from ..article.claims import report as found
    from ..article.claims import verify as runner
    from ..console import Live, print_json, stdout

    if list_claims:
        chosen = runner.select(only or [])
        if as_json:
            claims = [
                {"number": n, "name": c.name, "equations": list(c.equations), "sentence": c.sentence} for n, c in chosen
            ]
            print_json({"schema": found.SCHEMA, "kind": "claims", "claims": claims})
        else:
            for number, claim in chosen:
                print(f"{number:3d}  {claim.name:22s} {found.equations(claim):18s} {claim.sentence}")
        return
    with Live(quiet=as_json).start("") as live:
        report = runner.run(only, lambda done, total, name: live.update(f"{done + 1} of {total}: {name} …"))
    if as_json:
        print_json(report.to_json())
    else:
        stdout().print(report.render())
    raise typer.Exit(report.exit_code)
