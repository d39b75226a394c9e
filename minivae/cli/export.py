"""export: the command `minivae export`. `app.py` registers it; at import only typer is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .options import Force, RunFolder, say
from .plugin import Plugin


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder for the files.")],
    part: Annotated[str, typer.Option(metavar="P", help="encoder, decoder or both.")] = "both",
    opset: Annotated[int | None, typer.Option(metavar="N", help="Version of ONNX's operators; default: 17.")] = None,
    force: Force = False,
    plugin: Plugin = None,
) -> None:
    """Write a run's model as ONNX files, encoder.onnx and decoder.onnx, which take and give the data's units.

    Example: minivae export run -o onnx
    """
    from ..disk import write_whole
    from ..export import onnx
    from .runs import open_run

    if part not in onnx.PARTS:
        raise UsageError(f"--part {part}: expected one of {', '.join(onnx.PARTS)}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out} is a file: expected a folder, which is made if it is not there")
    onnx.require()
    vae = open_run(run, "numpy").vae
    contents = onnx.serialised(vae, part, onnx.OPSET if opset is None else opset)
    files = {out / f"{name}.onnx": data for name, data in contents.items()}
    taken = [str(file) for file in files if file.exists()]
    if taken and not force:
        raise UsageError(f"{' and '.join(taken)} exist already: choose another folder, or --force to replace them")
    out.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        write_whole(file, data)
        say(f"{file}: {len(data):,} bytes")
