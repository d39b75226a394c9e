"""What the README shows is what happens: its Python block runs, and the commands it names exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_the_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_links_of_the_readme_resolve():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
