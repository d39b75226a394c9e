"""What an installation holds: `kernels/` as minivae.kernels however minivae is had (wheel, sdist, editable install,
uninstalled checkout), one version everywhere, and the files that other people's tools look for."""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import minivae
from minivae.hints import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "build", "dist", "*.egg-info", "__pycache__", ".*cache*", "demo")
KERNELS = ROOT / "minivae" / "kernels"
KERNEL_FILES = {path.name for path in KERNELS.iterdir() if path.suffix in (".py", ".cu", ".cuh")}

# Trains a step, and says where it all came from. A second copy of the kernels, or a top-level `kernels`, must not be.
PROBE = """
import sys, numpy as np, minivae as mv
vae = mv.VAE(6, 2, (5,), backend=mv.Backend("numpy", KERNELS))
terms = vae.train_step(np.ones((4, 6), np.float32), mv.Adam())
assert np.isfinite(terms.loss)
assert [m for m in sys.modules if m.split(".")[0] == "kernels"] == []
print(mv.__file__, sys.modules["minivae.kernels.dense"].__file__)
"""
COMPILED, PLAIN = PROBE.replace("KERNELS", "'fused'"), PROBE.replace("KERNELS", "'reference'")


def call(*command, cwd, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it may name this tree
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300, env=inherited | environment
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of this tree, as a clone would be: the symlink a symlink."""
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    return copy


@pytest.fixture(scope="module")
def built(checkout):
    """The folder with an sdist, and the wheel built from it."""
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".", cwd=checkout)
    return checkout / "dist"


def environment(folder, *installation):
    """A fresh virtual environment that sees this one's packages behind its own; the path of its python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    parent, tools = Path(find_spec("setuptools").origin).parent.parent, folder / "tools"
    tools.mkdir()
    # what builds it, and nothing else of the parent's: not minivae itself
    for part in (*parent.glob("setuptools*"), *parent.glob("_distutils_hack")):
        (tools / part.name).symlink_to(part)
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-build-isolation", "--quiet",
         "--disable-pip-version-check", *installation, cwd=folder, PYTHONPATH=str(tools))  # fmt: skip
    # behind: a .pth is read after the environment's own packages, so an installed minivae comes second
    (site / "zzz_parent.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path) + "\n")
    return python


@pytest.mark.skipif(not (ROOT / "kernels").exists(), reason="an unpacked sdist holds the kernels in minivae/ alone")
def test_the_symlink_is_tracked_as_one():
    assert KERNELS.is_symlink()
    assert (KERNELS / "__init__.py").samefile(ROOT / "kernels" / "__init__.py")


def test_one_version_is_named_everywhere():
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]
    (cited,) = re.findall(r'^version: "(.+)"$', (ROOT / "CITATION.cff").read_text(), re.M)
    released = re.findall(r"^## \[(\d.+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert cited == released[0] == minivae.__version__


def test_the_changelog_has_a_section_for_what_is_not_released():
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert sections[0] == "Unreleased"


def test_messages_name_packages_that_their_extra_lists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        listed = {re.match(r"[\w-]+(\[\w+\])?", requirement).group() for requirement in extras[extra]}
        listed |= set(extras[extra])  # a message may name the version, the one that is promised
        assert set(packages.replace('"', "").split()) <= listed, extra


def test_no_message_installs_minivae_from_an_index_where_the_name_is_not_this_project():
    for path in (ROOT / "minivae").rglob("*.py"):
        assert not re.search(r"pip install \\?[\"']?minivae", path.read_text()), path


def test_the_metadata_of_the_wheel_name_licence_author_and_version(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(wheel.read(name))
        licence = wheel.read(name.replace("METADATA", "licenses/LICENSE")).decode()
        assert "minivae/py.typed" in wheel.namelist()
    assert metadata["Version"] == minivae.__version__
    assert metadata["License-Expression"] == "MIT" and licence.startswith("MIT License")
    assert metadata["Author"] == "the minivae developers" and "the minivae developers" in licence
    assert metadata["Keywords"] and metadata["Description-Content-Type"] == "text/markdown"


@pytest.mark.slow
def test_the_wheel_holds_the_kernels_as_files(built, tmp_path):
    wheel = next(built.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).name for name in names if name.startswith("minivae/kernels/")} == KERNEL_FILES
    assert not [name for name in names if name.startswith(("kernels", "tests", "bench"))]
    python = environment(tmp_path / "env", wheel)
    package, dense = call(python, "-c", COMPILED, cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache")).split()
    assert list((tmp_path / "cache").rglob("*.nbi"))  # where Numba cannot write beside the kernels
    assert Path(package).is_relative_to(tmp_path / "env")
    assert Path(dense).is_relative_to(tmp_path / "env")
    assert "train" in call(tmp_path / "env/bin/minivae", "--help", cwd=tmp_path)


def test_the_sdist_holds_the_kernels_as_files(built, tmp_path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = [member for member in archive.getmembers() if "/minivae/kernels/" in member.name]
        assert {Path(member.name).name for member in held} == KERNEL_FILES
        assert all(member.isfile() for member in held)
        names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "CONTRIBUTING.md", "Makefile"} <= names
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*") if path.is_file()}
    assert {name for name in tests if "__pycache__" not in name} <= names


def test_an_editable_install_reads_the_checkout(checkout, tmp_path):
    python = environment(tmp_path / "env", "-e", checkout)
    package, dense = call(python, "-c", PLAIN, cwd=tmp_path).split()
    assert Path(package).samefile(checkout / "minivae" / "__init__.py")
    assert Path(dense).samefile(checkout / "minivae" / "kernels" / "dense.py")


def test_an_uninstalled_checkout_works_from_its_root(checkout):
    package, dense = call(sys.executable, "-c", PLAIN, cwd=checkout).split()
    assert Path(package).samefile(checkout / "minivae" / "__init__.py")
    assert Path(dense).samefile(checkout / "minivae" / "kernels" / "dense.py")
    assert "train" in call(sys.executable, "-m", "minivae", "--help", cwd=checkout)
