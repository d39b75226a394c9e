"""What the README shows is what happens: its Python block runs, its figures are printed, what it names exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minivae import kernels

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_of_the_readme_runs(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    script = tmp_path / "readme.py"
    script.write_text(block + "\nprint(again.config() == vae.config(), samples.shape, log_px.shape)\n")
    result = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert "True (16, 64) (359,)" in result.stdout
    assert (tmp_path / "digits.safetensors").exists()


def test_the_commands_of_the_readme_exist():
    commands = set(re.findall(r"^minivae (\w+)", README, re.M))
    text = subprocess.run([sys.executable, "-m", "minivae", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert commands
    assert all(command in text for command in commands)


PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/architecture.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_targets_of_a_page_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([\w-]+)", (ROOT / page).read_text(), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_resolve(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def script(name, *arguments):
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / name, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_reading_list_has_the_lines_that_the_script_counts():
    counted = {
        name: int(lines.replace(",", "")) for lines, name in re.findall(r"([\d,]+)  (.+)", script("engine_lines.py"))
    }
    listed = re.findall(r"^\| (\[`.+?\)) \| (\d+) \|", README, re.M)
    assert len(listed) >= 12
    for files, lines in listed:
        assert int(lines) == sum(counted[name] for name in re.findall(r"\]\((\S+?)\)", files)), files
    (total, files), (counted_total, counted_files) = (
        re.findall(r"\*\*([\d,]+) lines\*\* in (\d+) files", README)[0],
        max((lines, name.split()[1]) for name, lines in counted.items() if name.startswith("in ")),
    )
    assert int(total.replace(",", "")) == counted_total and files == counted_files


def test_a_step_is_a_short_way():
    """Upper bounds: the way from `fit` through the first step may become shorter."""
    said = script("step_path.py", "--list")
    depth, lines = (int(re.search(rf"^{name} +(\d+)", said, re.M)[1]) for name in ("depth", "lines"))
    assert 5 <= depth <= 9 and 400 <= lines <= 700  # 15 and 1,107 at 0.1.0; fewer: it lost its way
    listed = re.findall(r"^ *(\d+)  \S+:\d+ (\S+)$", said, re.M)
    counted = [
        sum(map(int, re.findall(rf"{name} +(\d+)", said))) for name in ("functions", "lines")
    ]  # Python's, kernels'
    assert counted == [len(listed), sum(int(count) for count, _ in listed)]
    way = {"VAE.fit", "Model.step", "MLP.forward", "MLP.backward", "Dense.backward", "Bernoulli.nll_and_grad"}
    assert way <= {name for _, name in listed}
    launchers, compiled = (set(re.findall(r"kernels/\S+:\d+", block)) for block in said.split("\n\n")[:2])
    codes = [op.fused.py_func.__code__ for op in kernels.ops().values() if hasattr(op.fused, "py_func")]
    ops = {f"kernels/{Path(code.co_filename).name}:{code.co_firstlineno}" for code in codes}
    assert ops & compiled and not ops & launchers  # an op may be a compiled function, which no launcher calls
