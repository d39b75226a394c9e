"""The book does what it says: its blocks run and print what stands there, its code is the repository's. Marked `book`:
`make docs-test`. The rest, about the machinery, is quick and in `make test`. test_exercises.py has the exercises.
"""

import ast
import os
import pkgutil
import re
import sys
from pathlib import Path

import pytest
from test_cli import minivae, ok

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "book"))
import blocks  # noqa: E402
import equations  # noqa: E402
import generated  # noqa: E402
import include  # noqa: E402
import pictures  # noqa: E402

sys.path.insert(0, str(ROOT / "scripts"))
import check_book  # noqa: E402

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")) + ["README.md"]
CHAPTERS = [page for page in PAGES if page.startswith("docs/book/")]


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
            if "import torch" in block.text:
                pytest.importorskip("torch", reason=f"{where} needs PyTorch: pip install torch")
            printed = blocks.run_python(block, namespace, page)
            if block.output is not None:
                assert printed == block.output, where
        elif block.language == "sh":
            for words in blocks.commands(block):
                if words[0] == "minivae":
                    result = minivae(*blocks.quick(words)[1:], cwd=tmp_path, pictures=True)
                    assert result.returncode == 0, f"{where}: {' '.join(words)}\n{result.stdout}{result.stderr}"
        else:
            assert block.language in ("text", "json"), f"{where}: nothing runs a block in {block.language!r}"


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
    texts = [*((ROOT / page).read_text() for page in PAGES), *generated.pages().values()]
    used = {name for text in texts for name in re.findall(r"figures/out/(\w+)\.svg", text)}
    assert used == scripts


# ---- the machinery --------------------------------------------------------------------------------------------------


def test_an_included_name_is_its_lines_in_the_file():
    text, first, last = include.find("minivae/latent.py", "GaussianPosterior.backward")
    lines = (ROOT / "minivae/latent.py").read_text().splitlines()
    assert text.startswith("def backward(self, dZ") and lines[first - 1].strip() == text.splitlines()[0]
    assert lines[last - 1].strip() == text.splitlines()[-1].strip()


def test_included_code_has_its_decorators_and_a_module_its_docstring():
    text, first, _ = include.find("minivae/model.py", "Model.seed")
    assert text.startswith("@property\ndef seed(self)")
    assert (ROOT / "minivae/model.py").read_text().splitlines()[first - 1].strip() == "@property"
    assert include.find("minivae/model.py", "__doc__")[0].startswith("model: the mathematics")


def test_every_file_that_a_page_includes_or_links_to_is_shown():
    shown = include.shown()
    assert {"minivae/model.py", "kernels/latent.py", "docs/solutions/encoder.py"} <= set(shown)
    assert all((ROOT / path).is_file() for path in shown)


@pytest.mark.parametrize("what", ["{{ minivae/latent.py:Gone }}", "{{ minivae/gone.py }}"])
def test_a_name_that_is_not_there_is_an_error(what):
    with pytest.raises(include.NotFound, match=r"gone|Gone"):
        include.expand(what, "index.md")


def test_links_out_of_docs_lead_to_the_page_that_shows_the_file():
    assert include.outside("[v](../minivae/vae.py#line-0-3)", "x.md") == "[v](source/minivae/vae.py.md#line-0-3)"
    untouched = "[a](glossary.md) [b](https://example.org/minivae/vae.py)\n```\n[v](../minivae/vae.py)\n```"
    assert include.outside(untouched, "x.md") == untouched


def test_the_api_page_has_every_public_name_and_each_a_docstring():
    import minivae as mv

    page = (ROOT / "docs" / "api.md").read_text()
    shown = re.findall(r"^::: (\S+)$", page, re.M)
    names = [
        name
        for name in (*mv.__all__, *mv.bayes.__all__, *mv.plots.__all__)
        if name not in ("__version__", "LIKELIHOODS", "bayes", "plots")
    ]
    assert set(names) <= {path.rpartition(".")[2] for path in shown}
    for path in shown:
        assert pkgutil.resolve_name(path).__doc__, path


@pytest.mark.book
def test_a_numbered_formula_has_its_number_beside_it_and_no_tag_inside():
    page = equations.replace(r'<div class="arithmatex">\[\mathcal{L} = \ln x \tag{13}\]</div>')
    assert 'class="equation"' in page and 'display="block"' in page and "(13)" in page
    assert page.count("13") == 1


@pytest.mark.book
def test_the_logarithm_stands_apart_from_a_letter_and_not_from_a_bracket():
    assert "<mspace" in equations.convert(r"\ln x", False)
    for bracket in (r"\ln(x)", r"\ln (x)"):
        assert "<mspace" not in equations.convert(bracket, False)


@pytest.mark.book
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
    assert blocks.quick(["minivae", "verify", "--json"]) == ["minivae", "verify", "--json", "--only", "normalised"]
    assert blocks.quick(["minivae", "gradcheck"]) == ["minivae", "gradcheck", "layers"]
    for selected in (["minivae", "gradcheck", "vae"], ["minivae", "verify", "--list"], ["minivae", "info"]):
        assert blocks.quick(selected) == selected


def test_every_quick_setting_is_taken():
    words = ["minivae", "train", "fashion-mnist", "--hidden", "500", "--importance", "1000", "--ais", "500", "-n", "64"]
    expected = ["minivae", "train", "digits", "--hidden", "16", "--importance", "5", "--ais", "4", "-n", "8"]
    assert blocks.quick(words) == expected
    assert set(blocks.QUICK) == {"mnist", "--epochs", *(w for w in words if w in blocks.QUICK)}


def test_a_picture_is_drawn_again_when_its_script_is_newer(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(pictures, "FIGURES", tmp_path)
    monkeypatch.setattr(pictures, "OUT", tmp_path)
    monkeypatch.setattr(pictures, "draw", lambda script, full: drawn.append((script.stem, full)))
    for name, script_time, picture_time in (
        ("fresh", 1, 2),
        ("stale", 2, 1),
        ("missing", 1, None),
        ("_shared", 1, None),
    ):
        (tmp_path / f"{name}.py").touch()
        os.utime(tmp_path / f"{name}.py", (script_time, script_time))
        if picture_time:
            (tmp_path / f"{name}.svg").touch()
            os.utime(tmp_path / f"{name}.svg", (picture_time, picture_time))
    pictures.on_pre_build(None)
    assert drawn == [("missing", False), ("stale", False)]


@pytest.fixture
def chromium():
    with check_book.chromium() as browser:
        yield browser or pytest.skip("there is no Chromium (apt install chromium) or no playwright")


@pytest.mark.book
@pytest.mark.parametrize("body, said", [
    ("<script>console.error('bad')</script>", "console error: bad"),
    ("<script>console.assert(false, 'bad')</script>", "console assert: bad"),
    ("<script>throw Error('bad')</script>", "exception: bad"),
    ("<img src='https://example.invalid/a.png'>", "asks for https://example.invalid/a.png"),
    ("<img src='gone.png'>", "a request failed: "),
    ("<script>console.log('fine')</script>", None),
])  # fmt: skip
def test_errors_of_a_browser_are_reported(chromium, tmp_path, body, said):
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><title>x</title>{body}")
    page = chromium.new_page()
    found = check_book.listen(page)
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_timeout(150)
    assert any(said in complaint for complaint in found) if said else found == []


COMMANDS = ["train", "evaluate", "trace", "sample", "reconstruct", "encode", "info"]
COMMANDS += ["gradcheck", "explain", "verify", "bench", "export", "explore", "score"]
COMMANDS += ["picture", "compare", "race", "columns", "impute"]


def test_the_commands_are_all_that_there_are():
    from minivae.cli.app import app

    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert sorted(name.replace("_", "-") for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_carries_an_example(command):
    text = ok(*command.split(), "--help")
    assert re.search(rf"minivae {command or 'train'}\b", text.split("Usage:")[1].split("\n", 1)[1]), text
