"""`kernels/` is minivae.kernels however minivae is had: wheel, sdist, editable install, uninstalled checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "build", "dist", "*.egg-info", "__pycache__", ".*cache*", "demo")
KERNEL_FILES = {path.name for path in (ROOT / "kernels").iterdir() if path.suffix in (".py", ".cu", ".cuh")}

# Trains a step, and says where it all came from. A second copy of the kernels, or a top-level `kernels`, must not be.
PROBE = """
import sys, numpy as np, minivae as mv
vae = mv.VAE(6, 2, (5,), backend="numpy")
terms = vae.train_step(np.ones((4, 6), np.float32), mv.Adam())
assert np.isfinite(terms.loss)
assert [m for m in sys.modules if m.split(".")[0] == "kernels"] == []
print(mv.__file__, sys.modules["minivae.kernels.dense"].__file__)
"""


def call(*command, cwd, **environment):
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ | environment
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
    parent, tools = Path(sysconfig.get_path("purelib")), folder / "tools"
    tools.mkdir()
    # what builds it, and nothing else of the parent's: not minivae itself
    for part in (*parent.glob("setuptools*"), *parent.glob("_distutils_hack")):
        (tools / part.name).symlink_to(part)
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-build-isolation", "--quiet",
         "--disable-pip-version-check", *installation, cwd=folder, PYTHONPATH=str(tools))  # fmt: skip
    # behind: a .pth is read after the environment's own packages, so an installed minivae of ours comes second
    (site / "zzz_parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_symlink_is_tracked_as_one():
    link = ROOT / "minivae" / "kernels"
    assert link.is_symlink() or not (ROOT / ".git").exists()
    assert (link / "__init__.py").samefile(ROOT / "kernels" / "__init__.py")


def test_the_wheel_holds_the_kernels_as_files(built, tmp_path):
    wheel = next(built.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).name for name in names if name.startswith("minivae/kernels/")} == KERNEL_FILES
    assert not [name for name in names if name.startswith(("kernels", "tests", "bench"))]
    python = environment(tmp_path / "env", wheel)
    package, dense = call(python, "-c", PROBE, cwd=tmp_path).split()
    assert Path(package).is_relative_to(tmp_path / "env")
    assert Path(dense).is_relative_to(tmp_path / "env")
    assert "train" in call(tmp_path / "env/bin/minivae", "--help", cwd=tmp_path)


def test_the_sdist_holds_the_kernels_as_files(built, tmp_path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = [member for member in archive.getmembers() if "/minivae/kernels/" in member.name]
        assert {Path(member.name).name for member in held} == KERNEL_FILES
        assert all(member.isfile() for member in held)


def test_an_editable_install_reads_the_checkout(checkout, tmp_path):
    python = environment(tmp_path / "env", "-e", checkout)
    package, dense = call(python, "-c", PROBE, cwd=tmp_path).split()
    assert Path(package).samefile(checkout / "minivae" / "__init__.py")
    assert Path(dense).samefile(checkout / "kernels" / "dense.py")


def test_an_uninstalled_checkout_works_from_its_root(checkout):
    package, dense = call(sys.executable, "-c", PROBE, cwd=checkout).split()
    assert Path(package).samefile(checkout / "minivae" / "__init__.py")
    assert Path(dense).samefile(checkout / "kernels" / "dense.py")
    assert "train" in call(sys.executable, "-m", "minivae", "--help", cwd=checkout)


def test_read_only_installations_still_compile(checkout, tmp_path):
    """Numba falls back to a cache folder of the user's where it cannot write beside the kernels."""
    package, _ = call(sys.executable, "-c", PROBE, cwd=checkout, NUMBA_CACHE_DIR=str(tmp_path)).split()
    assert Path(package).exists()
    assert list(tmp_path.rglob("*.nbi"))
