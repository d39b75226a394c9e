"""The notebooks as they are committed: run from the top, without an error, small, and readable where nothing runs.

That they still run, and that what they claim still holds, is `make notebooks`: each claim is an assert in its notebook.
"""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import minivae as mv
from minivae import gradcheck

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LARGEST = 300_000  # bytes
MACHINE = re.compile(r"/(home|root|tmp|work|Users|usr|opt)/|ipykernel_")


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def outputs(path):
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def test_there_are_three_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["backprop_by_hand", "mse_or_cross_entropy", "one_sample_or_many"]


def test_a_trace_and_a_report_are_text_alone_inside_a_notebook(monkeypatch):
    """rich knows a notebook, and would show an empty box beside the text."""
    shown = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *box: shown.append(box))
    vae = mv.VAE(4, latent_dim=1, hidden=(), backend="numpy", dtype="float64")
    assert "encoder.0.Y" in str(vae.trace(np.ones((2, 4))))
    assert "right" in str(gradcheck.check(lambda x: (float(x @ x), (2 * x,)), [np.ones(3)]))
    assert not shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_small(self, path):
        assert path.stat().st_size <= LARGEST

    def test_was_run_from_the_top(self, path):
        counts = [cell["execution_count"] for cell in code_cells(path)]
        assert counts == list(range(1, len(counts) + 1))

    def test_shows_text_and_pictures_and_no_error_or_warning(self, path):
        kinds = {output["output_type"] for output in outputs(path)}
        assert kinds <= {"stream", "display_data", "execute_result"}
        assert {output["name"] for output in outputs(path) if output["output_type"] == "stream"} == {"stdout"}
        shown = [kind for output in outputs(path) for kind in output.get("data", {})]
        assert "image/png" in shown and "text/html" not in shown

    def test_shows_no_path_of_the_machine_it_ran_on(self, path):
        for output in outputs(path):
            text = "".join(output.get("text", [])) + "".join(output.get("data", {}).get("text/plain", []))
            assert not MACHINE.search(text), text

    def test_asserts_what_it_claims(self, path):
        assert sum("assert " in "".join(cell["source"]) for cell in code_cells(path)) >= 4

    def test_has_no_metadata_that_differs_from_run_to_run(self, path):
        """So that a change of a cell is a change of its lines alone; `make notebooks WRITE=1` clears it."""
        notebook = json.loads(path.read_text())
        assert notebook["metadata"] == {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        assert all(cell["metadata"] == {} for cell in notebook["cells"])

    def test_becomes_a_page_whose_equations_are_paragraphs(self, path):
        pytest.importorskip("nbconvert")
        text, pictures = runpy.run_path(str(ROOT / "scripts" / "book" / "notebooks.py"))["page"](path)
        assert len(pictures) == sum("image/png" in output.get("data", {}) for output in outputs(path)) > 0
        assert all(f"({name})" in text for name in pictures)
        lines = text.splitlines()
        marks = [i for i, line in enumerate(lines) if "$$" in line]
        assert all(lines[i] == "$$" for i in marks) and len(marks) % 2 == 0
        for opens, closes in zip(marks[::2], marks[1::2], strict=True):
            assert lines[opens - 1] == lines[closes + 1] == "", "a displayed equation is a paragraph of its own"
