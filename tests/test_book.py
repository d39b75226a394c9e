"""The book does what it says: its blocks run and print what stands there, its code is the repository's, its solutions
pass `minivae gradcheck`. Marked `book`: `make docs-test`. The rest, about the machinery, is quick and in `make test`.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "book"))
import blocks  # noqa: E402
import equations  # noqa: E402
import include  # noqa: E402
import reference  # noqa: E402

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")) + ["README.md"]
CHAPTERS = [page for page in PAGES if page.startswith("docs/book/")]
SOLUTIONS = sorted((ROOT / "docs" / "solutions").glob("*.py"))


def classes(path):
    return [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]


# ---- what is long: marked `book` ------------------------------------------------------------------------------------


@pytest.mark.book
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_and_print_what_stands_there(page, tmp_path, monkeypatch):
    blocks.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks.blocks((ROOT / page).read_text()):
        where = f"{page}, line {block.line}"
        if block.language == "python":
            printed = blocks.run_python(block, namespace, page)
            if block.output is not None:
                assert printed == block.output, where
        elif block.language == "sh":
            for words in blocks.commands(block):
                if words[0] == "minivae":
                    result = blocks.run_command(words, tmp_path)
                    assert result.returncode == 0, f"{where}: {' '.join(words)}\n{result.stdout}{result.stderr}"
        else:
            assert block.language in ("text", "json"), f"{where}: nothing runs a block in {block.language!r}"


@pytest.mark.book
@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_the_solutions_of_the_exercises_pass_gradcheck(path):
    for name in classes(path):
        result = blocks.run_command(["minivae", "gradcheck", f"{path}:{name}"], ROOT)
        assert result.returncode == 0, result.stdout + result.stderr


# ---- the pages, read ------------------------------------------------------------------------------------------------


def test_every_command_of_the_pages_is_minivae_or_a_target_of_the_makefile_or_pip():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for block in blocks.blocks((ROOT / page).read_text()):
            for words in blocks.commands(block) if block.language == "sh" else []:
                words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]
                known = words[0] == "minivae" or words[:2] == ["pip", "install"]
                known = known or (words[0] == "make" and words[1] in targets)
                known = known or (words[0] == "python" and (ROOT / words[1]).is_file())
                assert known, f"{page}, line {block.line}: {' '.join(words)}"


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_includes_code_and_has_exercises_with_a_checked_solution(page):
    text = (ROOT / page).read_text()
    included = [path for _, path, _ in include.DIRECTIVE.findall(text)]
    assert any(path.startswith(("minivae/", "kernels/")) for path in included)
    solution = next(path for path in included if path.startswith("docs/solutions/"))
    assert "## Exercises" in text and classes(ROOT / solution)
    include.expand(text, page.removeprefix("docs/"))  # every name that it includes is there


def test_every_equation_of_the_article_has_its_place_in_the_book():
    tags = [int(n) for page in CHAPTERS for n in re.findall(r"\\tag\{(\d+)\}", (ROOT / page).read_text())]
    assert sorted(tags) == list(range(1, 25))


def test_every_picture_of_the_book_has_its_script():
    scripts = {path.stem for path in (ROOT / "docs" / "figures").glob("*.py") if path.name[0] != "_"}
    used = {name for page in PAGES for name in re.findall(r"figures/out/(\w+)\.svg", (ROOT / page).read_text())}
    assert used == scripts


# ---- the machinery --------------------------------------------------------------------------------------------------


def test_an_included_name_is_its_lines_in_the_file():
    text, first, last = include.find("minivae/latent.py", "GaussianPosterior.backward")
    lines = (ROOT / "minivae/latent.py").read_text().splitlines()
    assert text.startswith("def backward(self, dZ") and lines[first - 1].strip() == text.splitlines()[0]
    assert lines[last - 1].strip() == text.splitlines()[-1].strip()


@pytest.mark.parametrize("what", ["{{ minivae/latent.py:Gone }}", "{{ minivae/gone.py }}"])
def test_a_name_that_is_not_there_is_an_error(what):
    with pytest.raises(include.NotFound, match=r"gone|Gone"):
        include.expand(what, "index.md")


def test_links_out_of_docs_lead_to_the_page_that_shows_the_file():
    assert include.outside("[v](../minivae/vae.py#line-0-3)", "x.md") == "[v](source/minivae/vae.py.md#line-0-3)"
    untouched = "[a](glossary.md) [b](https://example.org/minivae/vae.py)\n```\n[v](../minivae/vae.py)\n```"
    assert include.outside(untouched, "x.md") == untouched


def test_the_api_page_holds_every_public_name():
    import minivae as mv

    page = reference.page()
    names = [name for name in (*mv.__all__, *mv.bayes.__all__) if name not in ("__version__", "LIKELIHOODS", "bayes")]
    assert [name for name in names if f"### {name} {{" not in page] == []


def test_a_name_without_a_docstring_is_an_error(monkeypatch):
    monkeypatch.setattr(reference, "CONTENTS", [("t", "", [("minivae/vae.py", ["Nothing"])])])
    with pytest.raises(reference.Undocumented, match="Nothing"):
        reference.page()


def test_formulas_become_mathml_and_unknown_commands_an_error():
    pytest.importorskip("latex2mathml")
    page = equations.replace(r'<p><span class="arithmatex">\(a &lt; b\)</span></p>')
    assert page.startswith("<p><math") and "&lt;" in page.replace("&#x0003C;", "&lt;")
    with pytest.raises(equations.Unknown, match="nosuch"):
        equations.replace(r'<div class="arithmatex">\[\nosuch{x}\]</div>')


def test_a_text_block_under_python_is_its_output_and_elsewhere_is_not():
    page = "```python\nprint(1)\n```\n\n```text\n1\n```\n\nwords\n\n```text\n2\n```\n"
    first, second = blocks.blocks(page)
    assert (first.output, second.output, second.language) == ("1\n", None, "text")


def test_quick_settings_replace_what_is_long_and_nothing_else():
    words = ["minivae", "train", "mnist", "--out", "run", "--epochs", "10", "--latent", "2"]
    assert blocks.quick(words) == ["minivae", "train", "digits", "--out", "run", "--epochs", "1", "--latent", "2"]


COMMANDS = ["train", "evaluate", "trace", "sample", "reconstruct", "encode", "info"]
COMMANDS += ["gradcheck", "explain", "verify", "bench"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_carries_an_example(command):
    text = subprocess.run(
        [sys.executable, "-m", "minivae", *command.split(), "--help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert re.search(rf"minivae {command or 'train'}\b", text.split("Usage:")[1].split("\n", 1)[1]), text
