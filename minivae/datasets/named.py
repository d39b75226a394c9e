"""named: the named sets: digits from scikit-learn, MNIST and Fashion-MNIST from their four IDX files."""

from __future__ import annotations

import gzip
import importlib.util
import os
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..hints import how_to_install
from .download import fetch
from .formats import read_idx
from .rows import Array

_IDX_FILES = {
    "X": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "X_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_DOWNLOADS = {  # name: (where from, (bytes, SHA-256) of each .gz in the order of _IDX_FILES)
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion-mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        (
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
}
NAMED = ("digits", *_DOWNLOADS)


def expand(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ~ or ~user of the path by that home directory."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path}: there is no home directory for {Path(path).parts[0]}; write the path in full"
        ) from None


def read_named(name: str) -> tuple[dict[str, Array], str, str]:
    """Return the arrays of a named set, the place where they were found, and why they are pictures."""
    if name != "digits":
        return _read_mnist(name)
    return _read_digits(), name, "the digits are 8×8 pictures"


def _read_digits() -> dict[str, Array]:
    """The file of scikit-learn's wheel, one digit a line: 64 pixels 0 … 16 and the label.

    It is read without scikit-learn, whose import takes longer than the first training steps.
    """
    package = importlib.util.find_spec("sklearn")
    path = Path(package.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if package else None
    if path is None or not path.is_file():
        raise UsageError(f"'digits' needs scikit-learn, which is missing: {how_to_install('digits')}")
    with gzip.open(path, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    return {"X": table[:, :-1].reshape(-1, 8, 8) / 16, "y": table[:, -1].astype(np.int64)}


def _read_mnist(name: str) -> tuple[dict[str, Array], str, str]:
    root = os.environ.get("MINIVAE_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = expand(root) / name if root else expand(cache) / "minivae" / name

    def find(stem: str) -> Path | None:
        return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)

    missing = [stem for stem in _IDX_FILES.values() if find(stem) is None]
    if missing and root:
        raise UsageError(
            f"MINIVAE_DATA is set to {root}, but {folder} lacks {', '.join(missing)} (each with or without .gz); "
            "put them there, or unset MINIVAE_DATA to use the cache folder"
        )
    if missing:
        _download(name, missing, folder)
    parts = {}
    for key, stem in _IDX_FILES.items():
        path = find(stem) or folder / f"{stem}.gz"
        try:
            parts[key] = read_idx(path)
        except UsageError as error:
            raise error if root else UsageError(f"{error}; delete it, and it is downloaded again") from None
    return parts, str(folder), "IDX files hold pictures"


def _download(name: str, missing: list[str], folder: Path) -> None:
    """Fetch the missing files (.gz) into folder; each must have its published size and SHA-256."""
    base, published = _DOWNLOADS[name]
    known = dict(zip(_IDX_FILES.values(), published, strict=True))
    try:
        for stem in missing:
            fetch(f"{base}{stem}.gz", folder / f"{stem}.gz", *known[stem])
    except UsageError as error:
        by_hand = f"put {', '.join(f'{stem}.gz' for stem in missing)} into {folder}"
        raise UsageError(f"'{name}' cannot be downloaded ({error}); try again, or {by_hand}") from error
