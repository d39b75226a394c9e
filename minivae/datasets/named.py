"""The named sets: digits from scikit-learn, MNIST and Fashion-MNIST from their four IDX files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import UsageError, how_to_install
from .formats import brief, read_idx
from .rows import Array

_IDX_FILES = {
    "X": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "X_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_DOWNLOADS = {  # name: (where from, the published MD5 of each .gz in the order of _IDX_FILES)
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
        "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
        "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
NAMED = ("digits", *_DOWNLOADS)


def expand(path: str | os.PathLike[str]) -> Path:
    """The path with a leading ~ or ~user replaced by that home directory."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path}: there is no home directory for {Path(path).parts[0]}; write the path in full"
        ) from None


def read_named(name: str) -> tuple[dict[str, Array], str, str]:
    """The arrays of a named set, where they were found, and why they are pictures."""
    if name != "digits":
        return _read_mnist(name)
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError(f"'digits' needs scikit-learn, which is missing: {how_to_install('digits')}") from None
    bunch = load_digits()
    return {"X": (bunch.images / 16).astype(np.float32), "y": bunch.target}, name, "the digits are 8×8 pictures"


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
    parts = {key: read_idx(find(stem) or folder / f"{stem}.gz") for key, stem in _IDX_FILES.items()}
    return parts, str(folder), "IDX files hold pictures"


def _download(name: str, missing: list[str], folder: Path) -> None:
    """Fetch the missing files (.gz) into folder, each checked against its published MD5."""
    base, hashes = _DOWNLOADS[name]
    md5 = dict(zip(_IDX_FILES.values(), hashes.split(), strict=True))
    by_hand = f"put {', '.join(f'{stem}.gz' for stem in missing)} into {folder}"
    try:
        import pooch
    except ImportError:
        message = f"'{name}' is not here, and pooch, which would download it, is missing: "
        raise UsageError(f"{message}{how_to_install('download')}, or {by_hand}") from None
    for stem in missing:
        try:
            pooch.retrieve(f"{base}{stem}.gz", known_hash=f"md5:{md5[stem]}", fname=f"{stem}.gz", path=folder)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong hash is a ValueError
            raise UsageError(f"'{name}' cannot be downloaded from {base} ({brief(error)}); {by_hand}") from error
