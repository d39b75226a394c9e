"""Run the notebooks of examples/ as a test, or run them in full and save their outputs.

    python scripts/notebooks.py                     quick settings (MINIVAE_QUICK=1); the files stay as they are
    python scripts/notebooks.py --write [NAME …]    full settings; outputs go into the files

A notebook's claims are its asserts: it fails if one does not hold, or if it warns. Files are written in one form, so
that a change of a cell changes only its lines; tests/test_notebooks.py checks the saved files.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
CELL_SECONDS, KERNEL_SECONDS = 3600, 300  # against what hangs; a busy machine is slow
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook, executed from the top in a fresh kernel. Raises CellExecutionError at the first cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=KERNEL_SECONDS,
        resources={"metadata": {"path": str(EXAMPLES)}},
        record_timing=False,
    ).execute()
    return notebook


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """Return outputs that a saved notebook must not have: warnings, and HTML, which a code host may not show."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                found.append(f"cell {number} writes to stderr: {output.text.strip()[:200]}")
            if "text/html" in output.get("data", {}):
                found.append(f"cell {number} shows HTML: print plain text")
    return found


def keep(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Write the notebook in a form that gives small diffs."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
        cell.get("outputs", [])[:] = _joined(cell.get("outputs", []))
        for output in cell.get("outputs", []):
            if output.output_type != "stream":
                output.metadata = nbformat.NotebookNode()
    text = nbformat.writes(notebook, version=4)
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join consecutive pieces of one stream, because the division into pieces depends on timing."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="file names, without .ipynb; all unless given")
    parser.add_argument("--write", action="store_true", help="full settings, and keep the outputs")
    options = parser.parse_args()
    if options.write:
        os.environ.pop("MINIVAE_QUICK", None)
    else:
        os.environ["MINIVAE_QUICK"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    paths = [EXAMPLES / f"{name}.ipynb" for name in options.names] or sorted(EXAMPLES.glob("*.ipynb"))
    failed = False
    for path in paths:
        start = time.perf_counter()
        try:
            notebook = execute(path)
        except CellExecutionError as error:
            print(f"{path.name}: FAILED after {time.perf_counter() - start:.0f} s\n{error}", file=sys.stderr)
            failed = True
            continue
        found = complaints(notebook)
        if options.write:
            keep(path, notebook)
        for line in found:
            print(f"{path.name}: {line}", file=sys.stderr)
        failed = failed or bool(found)
        print(f"{path.name}: {'ran' if not found else 'ran, but see above'}, {time.perf_counter() - start:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
