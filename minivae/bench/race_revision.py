"""race_revision: revisions of a git repository, each checked out and built in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import UsageError
from .race_code import Side

PATIENCE = 1800  # seconds for one build


@contextmanager
def built(sides: list[Side], revisions: list[str], folder: Path, say: Callable[[str], None]) -> Iterator[list[Side]]:
    """Check out and build each side's revision below `folder`; the checkouts are removed afterwards.

    A file that is raced is the revision's own, or this folder's if the revision has none of that name. Raises
    UsageError for changes that are not committed, an unknown revision, or a build that fails.
    """
    top = _repository()
    commits = [_commit(revision) for revision in revisions]
    made: list[Path] = []
    try:
        ready = []
        for number, (side, revision, commit) in enumerate(zip(sides, revisions, commits, strict=True)):
            say(f"building {revision}")
            tree = folder / f"tree{number}"
            _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
            made.append(tree)
            python = _build(tree, folder / f"venv{number}", revision)
            ready.append(_placed(side, top, tree, python, revision))
        yield ready
    finally:
        for tree in made:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except OSError as error:
        raise UsageError(f"--revision needs git: {error.strerror}") from None
    if done.returncode != 0:
        raise UsageError(f"git {arguments[0]}: {_last_line(done.stderr)}")
    return done.stdout.rstrip()


def _repository() -> Path:
    """Return the top folder of this repository. Raises UsageError if it has changes that no commit holds."""
    try:
        top = Path(_git("rev-parse", "--show-toplevel"))
    except UsageError:
        raise UsageError("--revision: this folder is in no git repository") from None
    changed = _git("status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UsageError(
            f"--revision: {changed[0][2:].strip()}{more} changed since the last commit, and no revision holds that: "
            "commit or stash it first"
        )
    return top


def _commit(revision: str) -> str:
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
    except UsageError:
        raise UsageError(f"--revision {revision}: this repository has no such revision") from None


def _build(tree: Path, folder: Path, revision: str) -> str:
    """Install the project of a checkout into a new virtual environment → its interpreter.

    The environment sees this one's packages behind its own, so that only what is missing is installed.
    """
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = next(str(path) for path in (folder / "bin/python", folder / "Scripts/python.exe") if path.exists())
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    here = next(iter(folder.glob("lib*/python*/site-packages")), folder / "Lib/site-packages")
    (here / "packages.pth").write_text("\n".join(packages) + "\n")
    if not any((tree / name).exists() for name in ("pyproject.toml", "setup.py")):
        return python
    options = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", python, "install", *options, str(tree)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"--revision {revision} was not built in {PATIENCE} s") from None
    if "No module named pip" in done.stderr:
        raise UsageError("--revision needs pip in this environment: python -m ensurepip")
    if done.returncode != 0:
        raise UsageError(f"--revision {revision} does not build: {_first_error(done.stderr)}")
    return python


def _placed(side: Side, top: Path, tree: Path, python: str, revision: str) -> Side:
    """Return the side as it runs in the checkout."""
    here = Path.cwd().resolve()
    there = tree / here.relative_to(top.resolve()) if here.is_relative_to(top.resolve()) else tree
    cwd = there if there.is_dir() else tree
    where = side.target.rpartition(":")[0]
    after = dict.fromkeys(map(str, ((there / where).parent if where.endswith(".py") else cwd, cwd, tree)))
    label = f"{side.label} at {revision}"
    target, inputs = _file(side.target, there), side.inputs and _file(side.inputs, there)
    return replace(side, target=target, inputs=inputs, label=label, python=python, after=tuple(after), cwd=str(cwd))


def _file(target: str, there: Path) -> str:
    """Return a target whose file is the checkout's, or the present one if the checkout has none of that name."""
    where, _, name = target.rpartition(":")
    if not where.endswith(".py"):
        return target
    return f"{there / where}:{name}" if (there / where).is_file() else f"{Path(where).absolute()}:{name}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it failed and said nothing"


def _first_error(text: str) -> str:
    """Return the line of pip's output that tells most: the last that names an error, else the last."""
    lines = [line.strip(" │╰─>×") for line in text.splitlines()]
    errors = [line for line in lines if "Error" in line and not line.startswith("note:")]
    plain = [line for line in lines if line and not line.startswith(("note:", "hint:", "[notice]"))]
    return (errors or plain or ["it failed and said nothing"])[-1]
