"""explore: the command `minivae explore`. `app.py` registers it; at import only typer is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, OtherData, RunFolder, Split, check_out, say, writing_file
from .plugin import Plugin


def explore(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.html", help="The page to write.")],
    data: OtherData = None,
    split: Split = None,
    rows: Annotated[
        int | None, typer.Option(metavar="N", help="The first N rows; default: about 1.4 MB of them, 2,000 at most.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Parameters as float16: half the size, three digits.")] = False,
    force: Force = False,
    plugin: Plugin = None,
) -> None:
    """Write a page that shows rows in the latent space, and decodes where you point. It opens without a network.

    Example: minivae explore run -o latent.html
    """
    from ..export.explorer import page
    from .runs import open_run

    check_out(out, (".html",), force)
    opened = open_run(run, "numpy")
    part = opened.part(data, split)
    title = f"The latent space of {opened.folder.resolve().name}"
    text = page(
        opened.vae, part.X, part.y, part.rows, opened.shape, title, part.name, most=rows, half=half
    ).encode()  # fmt: skip
    with writing_file(out, force) as file:
        file.write(text)
    say(f"{out}: {len(text) / 1e6:.2f} MB, of the {part.name}; open it in a browser")
