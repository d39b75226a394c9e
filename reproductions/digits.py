"""digits: 0/1 MNIST as the papers have it: 50,000 rows to train on, 10,000 to validate, 10,000 to test.

Larochelle's fixed binarisation is one draw of every pixel, which the literature shares. minivae does not ship it: give
its files with --data. Without them each pixel of MNIST is drawn once from a fixed seed. Both are draws from the same
distribution, so figures can be compared, but they will not be equal.

    --data FOLDER    with binarized_mnist_train.amat, …_valid.amat and …_test.amat, or the same three as .npz
    --data FILE      .npz with the arrays train, valid, test
    an array         (N, 784) of 0 and 1, or (N, 98) bytes: eight pixels each, the first in the highest bit
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import minivae as mv
from minivae.datasets.formats import reader

PARTS = ("train", "valid", "test")
ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}
PIXELS = 784
STEM = "binarized_mnist_{}"
LAROCHELLE = "Larochelle's fixed binarisation"
OURS = "a static binarisation of our own (one Bernoulli draw of each grey pixel, PCG64, seeds 0, 1, 2)"
GREY = "grey MNIST"


@dataclass(frozen=True)
class Digits:
    """train, valid, test: (N, 784); `name` is what a table says of them."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    name: str

    def first(self, rows: int) -> Digits:
        """The first rows of each part."""
        return Digits(self.train[:rows], self.valid[:rows], self.test[:rows], f"the first {rows} rows of {self.name}")


def binary(data: str | None = None) -> Digits:
    """0/1 digits (uint8), from the user's files or drawn by us."""
    if data is not None:
        return read(data)
    pixels = grey()
    return Digits(draw(pixels.train, 0), draw(pixels.valid, 1), draw(pixels.test, 2), OURS)


def draw(pixels: np.ndarray, seed: int) -> np.ndarray:
    """One Bernoulli draw (uint8) of each pixel in [0, 1], float32."""
    return (np.random.default_rng(seed).random(pixels.shape, np.float32) < pixels).astype(np.uint8)


def grey() -> Digits:
    """MNIST's own pixels in [0, 1], float32: the last 10,000 of its 60,000 training rows validate."""
    mnist = mv.load("mnist")
    return Digits(mnist.X[: ROWS["train"]], mnist.X[ROWS["train"] :], mnist.X_test, GREY)


def read(data: str, rows: dict[str, int] = ROWS) -> Digits:
    """Larochelle's digits from the user's files; what is missing or damaged is a UsageError that names the file."""
    path = Path(data).expanduser()
    if path.is_dir():
        files = {part: _file(path, part) for part in PARTS}
        arrays = {part: reader(file)(file)[0]["X"] for part, file in files.items()}
        places = {part: str(file) for part, file in files.items()}
    elif path.suffix == ".npz":
        arrays, places = _archive(path), {part: f"{path}: {part}" for part in PARTS}
    else:
        raise mv.UsageError(
            f"--data {data}: expected a folder with {STEM.format('train')}.amat, _valid and _test, or one .npz with "
            f"{', '.join(PARTS)}; it is neither"
        )
    return Digits(*(_bits(arrays[part], rows[part], places[part]) for part in PARTS), LAROCHELLE)


def pack(digits: Digits, path: str | Path) -> None:
    """Write the three parts as one .npz of packed bits: 7 MB for 100 MB of text."""
    np.savez_compressed(path, **{part: np.packbits(getattr(digits, part), axis=1) for part in PARTS})


def _file(folder: Path, part: str) -> Path:
    for suffix in (".npz", ".amat"):
        file = folder / (STEM.format(part) + suffix)
        if file.is_file():
            return file
    raise mv.UsageError(f"--data {folder}: there is no {STEM.format(part)}.amat or .npz in it")


def _archive(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise mv.UsageError(f"--data {path}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [part for part in PARTS if part not in archive.files]
            if missing:
                raise mv.UsageError(f"{path}: expected the arrays {', '.join(PARTS)}; it holds {archive.files}")
            return {part: archive[part] for part in PARTS}
    except mv.UsageError:
        raise
    except Exception as error:  # a damaged archive raises from zipfile, zlib, NumPy …
        raise mv.UsageError(f"{path}: expected a whole .npz file; got {type(error).__name__}: {error}") from None


def _bits(X: np.ndarray, rows: int, place: str) -> np.ndarray:
    """Checked (rows, 784) uint8 of 0 and 1."""
    if X.ndim == 2 and X.shape[1] == PIXELS // 8 and X.dtype == np.uint8:
        X = np.unpackbits(X, axis=1)
    X = X.reshape(len(X), -1) if X.ndim == 3 else X
    if X.shape != (rows, PIXELS):
        raise mv.UsageError(
            f"{place}: expected {rows} rows of {PIXELS} pixels, or of {PIXELS // 8} bytes; got {X.shape}"
        )
    if not ((X == 0) | (X == 1)).all():
        raise mv.UsageError(f"{place}: expected pixels of 0 and 1 alone; they range from {X.min():g} to {X.max():g}")
    return X.astype(np.uint8)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("pack Larochelle's .amat files into one .npz: python reproductions/digits.py FOLDER FILE.npz")
    pack(read(sys.argv[1]), sys.argv[2])
