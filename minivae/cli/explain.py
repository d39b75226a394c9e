"""command: the command line `minivae explain`. `cli.py` registers it; only typer is imported before it is called."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def explain(
    which: Annotated[
        str | None, typer.Argument(metavar="N|NAME", help="1 to 24, or a name: kl, elbo, iwae … Without: the list.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a machine.")] = False,
) -> None:
    """Explain an equation: both notations, words, where it stands in the code, its test, its number on a live toy.

    Example: minivae explain 16
    """
    from ..article.equations import explain as explained
    from ..console import print_json

    found = explained(which)
    if as_json:
        print_json(found.to_dict())
        return
    typer.echo(found.text(bold=not os.environ.get("NO_COLOR")))  # echo itself leaves a pipe plain
