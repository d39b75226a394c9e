"""explain: the command `minivae explain`. `app.py` registers it; at import only typer is loaded."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def explain(
    which: Annotated[
        str | None, typer.Argument(metavar="N|NAME", help="1 to 24, or a name: kl, elbo, iwae … Without: the list.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Explain an equation: both notations, words, its places in the code, its test, and its value on an example.

    Example: minivae explain 16
    """
    from ..article.equations import explain as explained
    from ..console import print_json

    found = explained(which)
    if as_json:
        print_json(found.to_dict())
        return
    typer.echo(found.text(bold=not os.environ.get("NO_COLOR")))  # echo removes colours in a pipe
