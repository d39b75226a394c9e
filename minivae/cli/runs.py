"""runs: open a run's folder and its data; every command except `train` starts with it.

config.json         the options of `minivae train`, the data's name or path and fingerprint, its pictures' shape
history.csv         one row an epoch (columns: `training/history.py`)
model.safetensors   the model, its best parameters, and the state of training (`training/checkpoint.py`)
*.png               pictures (`plots/`)
"""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from .. import checks
from ..backend import Backend
from ..conditions import Given, explained
from ..datasets.columns import Columns
from ..datasets.load import Dataset, at_rows, load
from ..datasets.named import NAMED
from ..datasets.rows import chosen, reduced
from ..disk import LOCK_FILE, TEMPORARY, write_whole
from ..errors import UsageError, UsageWarning
from ..training import checkpoint as files
from ..training import schema
from ..training.checkpoint import MODEL_FILE
from ..training.schema import Natural, Text
from ..vae import VAE

if TYPE_CHECKING:
    from ..distributed.world import World

CONFIG_FILE = "config.json"
PICTURES = ("loss.png", "reconstructions.png", "samples.png", "manifold.png", "latent.png")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Part:
    """Rows of a data set: X (n, D) in the data's units, y (n,) or None, rows (n,) their numbers in the source.

    condition   what the model is given of them, or None; `given` puts it beside X, as `Run.part` does
    """

    X: Any
    y: np.ndarray | None
    rows: np.ndarray
    name: str
    condition: dict[str, np.ndarray] | None = None

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest value of each column, (D,) each; NaN is a missing cell."""
        X = explained(self.X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value here is NaN
            return reduced(
                X,
                lambda rows: (np.nanmin(X[rows], axis=0), np.nanmax(X[rows], axis=0)),
                lambda a, b: (np.fmin(a[0], b[0]), np.fmax(a[1], b[1])),
            )

    def given(self, vae: VAE, ranks: World | None = None) -> Part:
        """These rows as the model takes them, with its condition beside them, which the ranks of a host share."""
        if ranks is None or self.condition is None:
            return replace(self, X=vae.given(self.X, self.condition))
        encoded = ranks.once_a_host(lambda: vae.given(self.X, self.condition).condition)
        return replace(self, X=Given(self.X, encoded, None))

    def first(self, n: int | None) -> Part:
        """Return the first n rows; None: all."""
        if n is None:
            return self
        checks.integer("-n", n)
        name, X = f"first {min(n, len(self.X)):,} rows of the {self.name}", chosen(self.X, slice(n))
        return replace(self, X=X, y=None if self.y is None else self.y[:n], rows=self.rows[:n], name=name)


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run: its folder, its config and its model."""

    folder: Path
    config: dict[str, Any]
    vae: VAE

    @property
    def shape(self) -> tuple[int, int] | None:
        """(h, w) if rows are pictures, else None."""
        shape = self.config.get("shape")
        return None if shape is None else (int(shape[0]), int(shape[1]))

    def part(self, source: str | None = None, split: str | None = None, ranks: World | None = None) -> Part:
        """Return rows of the run's data, or of other data for the same model, as the model takes them.

        split   "train", "validation" or "test". None: the test part, or every row of other data without one
        ranks   as in `load`: each checks a share of the rows
        """
        return self._part(source, split, ranks).given(self.vae, ranks)

    def training_part(self, source: str | None, ranks: World | None = None) -> Part:
        """Return the run's training rows; where it does not know its data, those of `source`, or all its rows."""
        if source is None or self.config["data"] is not None:
            return self.part(None, "train", ranks)
        seed = self.config["options"]["seed"]
        data = self._fitting(load(source, seed, hold_out=False, **self.reading(), ranks=ranks))
        return split_of(data, "train", {"validation": 0, "seed": seed}, ranks).given(self.vae, ranks)

    def _part(self, source: str | None, split: str | None, ranks: World | None) -> Part:
        options = self.config["options"]
        if source is None and self.config["data"] is None:
            if self.folder.is_file() and (self.folder.parent / CONFIG_FILE).exists():
                raise UsageError(f"{self.folder} alone does not know its data: give its run, {self.folder.parent}")
            raise UsageError(f"{self.folder} was saved from Python and does not know its data: name them after it")
        if source is None:
            data = self._fitting(load(self.config["data"], options["seed"], **self.reading(), ranks=ranks))
            if not is_digest_of(data, self.config.get("sha256"), ranks):
                message = f"{self.config['data']} has changed since {self.folder} was trained on it"
                warnings.warn(message, UsageWarning, stacklevel=2)
            return split_of(data, split or "test", options, ranks)
        if split is not None:
            data = self._fitting(load(source, options["seed"], **self.reading(), ranks=ranks))
            return split_of(data, split, options, ranks)
        data = self._fitting(load(source, options["seed"], hold_out=False, **self.reading(), ranks=ranks))
        if data.X_test is None:
            return Part(data.X, data.y, data.rows, f"whole of {data.name}", data.condition)
        return split_of(data, "test", options, ranks)

    def reading(self) -> dict[str, Any]:
        """How `load` reads a table for this model: the columns that it was trained on, in any order."""
        options, vae, schema = self.config["options"], self.vae, self.vae.schema
        how = {"label": options["label"], "ignore": options["ignore"], "unseen": options["unseen"]}
        how["gaps"] = vae.missing
        if vae.condition is not None:
            how["condition"] = vae.condition.names or () if schema is None else schema.conditions
        if schema is not None and vae.likelihood.name.startswith("mixed:"):
            return how | {"columns": schema}
        return how | columns_of(self.config if self.config["data"] is not None else {"names": vae.columns})

    def _fitting(self, data: Dataset) -> Dataset:
        if data.features != self.vae.features:
            raise UsageError(
                f"{data.name} has {data.features} features, and the model of {self.folder} takes {self.vae.features}"
            )
        if self.config["data"] is None:
            self.config["shape"] = data.shape
        return data


def is_digest_of(data: Dataset, recorded: str | None, ranks: World | None) -> bool:
    """Whether a run's config.json has recorded this data, now or as earlier versions did."""
    if data.sha256(ranks) == recorded:
        return True
    earlier = lambda: data.sha256(whole=True) == recorded  # noqa: E731
    return earlier() if ranks is None else ranks.first(earlier)


def columns_of(config: dict[str, Any]) -> dict[str, Any]:
    """The columns of a run's config, for `load`: its schema, or its names, or all as they stand."""
    if config.get("columns") is not None:
        return {"columns": Columns.from_builtins(config["columns"])}
    names = config.get("names")
    return {"columns": list(names)} if names else {"mixed": False}


def split_of(data: Dataset, split: str, options: dict[str, Any], ranks: World | None = None) -> Part:
    """Return one part of a data set; the run's options define the validation part.

    ranks   those of a host share what is a copy: the chosen rows of a sparse matrix
    """
    if ranks is not None and hasattr(data.X, "tocsr") and options["validation"] and split != "test":
        return ranks.once_a_host(lambda: split_of(data, split, options))
    fraction, seed = options["validation"], options["seed"]
    if split not in SPLITS:
        raise UsageError(f"split={split!r}: expected one of {', '.join(SPLITS)}")
    if split == "test":
        if data.X_test is None or data.rows_test is None:
            raise UsageError(f"{data.name} has no test part (fewer than 5 rows): take --split train")
        return Part(data.X_test, data.y_test, data.rows_test, f"test part of {data.name}", data.condition_test)
    if not fraction:
        if split == "validation":
            raise UsageError("the run set no validation rows aside (--validation 0): take --split train or test")
        return Part(data.X, data.y, data.rows, f"training part of {data.name}", data.condition)
    train, X, y, rows = data.split_validation(fraction, seed)
    if split == "train":
        return Part(train.X, train.y, train.rows, f"training part of {data.name}", train.condition)
    held = at_rows(data.condition, np.searchsorted(data.rows, rows))  # both ascend
    return Part(X, y, rows, f"validation part of {data.name}", held)


def open_run(folder: str | os.PathLike, backend: str = "auto", kernels: str | None = None, which: str = "best") -> Run:
    """Open a run's folder; a missing or damaged file is a UsageError that names it."""
    folder = Path(folder)
    file = folder if folder.is_file() else folder / MODEL_FILE
    if folder.is_file() or (file.is_file() and not (folder / CONFIG_FILE).exists()):  # saved from Python
        vae = files.build(VAE, files.read(file), file, backend, kernels, which=which)
        options = msgspec.to_builtins(TrainOptions(seed=vae.seed))
        return Run(folder, {"data": None, "shape": None, "features": vae.features, "options": options}, vae)
    config = read_config(folder)
    vae = files.build(VAE, files.read(file), file, backend, kernels, which=which)
    if vae.features != config["features"]:
        raise UsageError(
            f"{folder / CONFIG_FILE} says {config['features']} features, and the model beside it takes {vae.features}: "
            "they are of different runs"
        )
    return Run(folder, config, vae)


def check_model(folder: Path, arguments: dict[str, Any], backend: Backend) -> None:
    """Raise UsageError unless a run to be resumed holds the tensors of the model that these arguments of VAE make.

    Nothing of their size is allocated.
    """
    path = folder / MODEL_FILE
    if not path.exists():  # the training says so
        return
    saved = files.read(path)
    for name in ("features", "latent_dim", "hidden"):
        if saved.model.get(name) != arguments[name]:
            raise UsageError(
                f"{folder / CONFIG_FILE} and its data say {name} {arguments[name]}, and the model beside it has "
                f"{saved.model.get(name)!r:.80}: they are of different runs"
            )
    files.check_tensors(files.shapes(arguments, backend), saved.tensors, "", path)


class TrainOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The options of `minivae train` in config.json. One that a file lacks was trained with the value here."""

    likelihood: Text = "auto"
    scale: Text = "none"  # the command's default until it was "auto"
    latent: int = 20
    hidden: Text = "500"
    activation: Text = "relu"
    epochs: Annotated[int, Meta(ge=1, lt=2**32)] = 10
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: Text = "adam"
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: Text = "constant"
    clip: float | None = None
    init: Text = "glorot"
    objective: Text = "elbo"
    samples: int = 1
    antithetic: bool = False
    free_bits: float = 0.0
    beta: float = 1.0
    kl_warmup: float = 0.0
    beta_cycle: float = 0.0
    binarize: Text = "auto"
    columns: Annotated[str, Meta(max_length=4096)] | None = None
    label: Annotated[str, Meta(max_length=4096)] | None = None
    ignore: tuple[str, ...] = ()
    condition: tuple[str, ...] = ()
    unseen: Literal["error", "missing"] = "error"
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    patience: int | None = None
    seed: Annotated[int, Meta(ge=0)] = 0
    backend: Text = "auto"
    kernels: Text = "fused"
    dtype: Literal["float32", "float64"] = "float32"
    tf32: bool = False
    shards: int | None = None
    threads: int | None = None
    order: Text = "rows"


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """The contents of config.json."""

    data: Annotated[str, Meta(max_length=4096)]
    shape: tuple[Natural, Natural] | None
    features: Natural
    sha256: str
    options: TrainOptions
    minivae: str
    names: list[str] | None = None
    columns: dict[str, Any] | None = None


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check a run's config.json."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        what = "is not a run's folder: there is no config.json in it" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}; `minivae train DATA --out {folder}` makes a run")
    try:
        config = schema.decode(path.read_bytes(), Config)
        if config.shape is not None and math.prod(config.shape) != config.features:
            raise ValueError(f"pictures of {config.shape[0]}×{config.shape[1]} have not {config.features} features")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except ValueError as error:
        raise UsageError(
            f"{path}: expected the config.json that `minivae train` wrote; it is damaged: {error}"
        ) from None
    return msgspec.to_builtins(config)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json atomically."""
    write_whole(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def free_folder(data: str) -> Path:
    """The folder of a run that is given none: runs/mnist-1, or the first number that is free."""
    stem = Path(data).stem or "data"
    k = 1
    while os.path.lexists(folder := Path("runs") / f"{stem}-{k}"):
        k += 1
    return folder


def check_folder(folder: Path, force: bool) -> None:
    """Raise UsageError for a folder that is not empty; with `force`, for one that holds anything but a run."""
    held = sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE and not path.match(TEMPORARY))
    if held and not force:
        what = "holds a run" if CONFIG_FILE in held else f"is not empty ({held[0]})"
        raise UsageError(f"--out {folder} {what}: --resume continues a run, --force replaces it, or choose another")
    if held and CONFIG_FILE not in held:
        raise UsageError(
            f"--out {folder} is not a run's folder (it has no config.json), so --force leaves it alone: choose another"
        )


def delete_pictures(folder: Path) -> None:
    """Delete the pictures of a run that --force replaces."""
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)


def source_name(data: str) -> str:
    """Return the data's name for config.json: a set's name, or a file's absolute path."""
    return str(Path(data).resolve()) if data not in NAMED and Path(data).exists() else data
