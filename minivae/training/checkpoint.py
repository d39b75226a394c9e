"""checkpoint: a model, and where its training stands, in one safetensors file.

    tensors    the model's by name ("encoder.0.W" …); "best.<name>" where validation chose; "optimizer.<slot>", flat;
               "scale.shift", "scale.factor" where the data were scaled
    metadata   one JSON text under "minivae": {"version", "model", "dtype", "training", "extra"}

Nothing is pickled and nothing in a file is run. A file is written beside its place, synced to the disk, and renamed: at
any moment there is the old one whole or the new one whole. The bytes depend on the state alone (one metadata key,
since safetensors keeps several in no fixed order), so that two runs that agree write the same file.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..backend import Backend
from ..disk import write_whole
from ..errors import UsageError, UsageWarning
from ..model import Model

M = TypeVar("M", bound=Model)
MODEL_FILE = "model.safetensors"  # in the folder of a run
VERSION = 1


@dataclass
class Checkpoint:
    """What a file holds.

    model      the arguments of VAE
    dtype      "float32" or "float64"
    training   where training stands, {} for a bare model (`train.py`)
    extra      what the run wants to remember with the model, such as its scale's kind and binarisation
    tensors    name → array, as in the file
    """

    model: dict[str, Any]
    dtype: str
    tensors: dict[str, np.ndarray]
    training: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def write(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    from safetensors.numpy import save

    text = json.dumps(
        {
            "version": VERSION,
            "model": checkpoint.model,
            "dtype": checkpoint.dtype,
            "training": checkpoint.training,
            "extra": checkpoint.extra,
        },
        sort_keys=True,
    )
    tensors = {name: np.ascontiguousarray(array) for name, array in checkpoint.tensors.items()}
    write_whole(path, save(tensors, metadata={"minivae": text}))


def read(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint; anything but a whole file of minivae's is a UsageError that names it."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        inside = Path(path) / "model.safetensors"
        hint = f"; did you mean {inside}?" if inside.is_file() else ""
        raise UsageError(f"{path}: no such model file{hint}")
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get("minivae")
            if text is None:
                raise UsageError(f"{path}: a safetensors file, but not one that minivae wrote")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        held = json.loads(text)
        version = held["version"]
        if version != VERSION:
            raise UsageError(f"{path}: written in format {version}, and this minivae reads {VERSION}: update minivae")
        for name in ("model", "training", "extra"):
            if not isinstance(held[name], dict):
                raise TypeError(f"its {name!r} is {type(held[name]).__name__}")
        return Checkpoint(held["model"], held["dtype"], tensors, held["training"], held["extra"])
    except UsageError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: expected a model that minivae saved, whole; got {_short(error)}") from None


def tensors_of(vae: Model, flat: Any = None, prefix: str = "") -> dict[str, np.ndarray]:
    """The named tensors of the model's state, or of another flat array laid out like it, on the host."""
    flat = vae.buffer.state if flat is None else flat
    return {prefix + name: vae.backend.to_host(vae.buffer.view(flat, name)) for name in vae.buffer.shapes}


def put_tensors(vae: Model, tensors: dict[str, np.ndarray], flat: Any, prefix: str = "", source: Any = "file") -> None:
    """Copy named tensors into a flat array laid out as the model's state is, checking every one."""
    for name, shape in vae.buffer.shapes.items():
        array = tensors.get(prefix + name)
        if array is None:
            raise UsageError(f"{source}: the tensor {prefix + name!r} is missing")
        if array.shape != shape or array.dtype.kind != "f":
            raise UsageError(
                f"{source}: {prefix + name!r} is {array.dtype} {array.shape}; the model needs floats {shape}"
            )
        vae.backend.assign(vae.buffer.view(flat, name), array)


def save_model(vae: Model, path: str | os.PathLike) -> None:
    """`VAE.save`: the parameters alone."""
    if Path(path).is_dir():
        raise UsageError(f"{path} is a folder: name a file, such as {Path(path) / 'model.safetensors'}")
    if not Path(path).parent.is_dir():
        raise UsageError(f"{path}: there is no folder {Path(path).parent}; make it first")
    write(path, Checkpoint(vae.config(), vae.backend.dtype.name, tensors_of(vae), {"passes": vae.passes}))


def build(
    cls: type[M],
    checkpoint: Checkpoint,
    source: Any,
    backend: str | Backend = "auto",
    kernels: str | None = None,
    dtype: Any = None,
    which: str = "best",
) -> M:
    """The model of class `cls` that a checkpoint, read from `source`, describes."""
    if which not in ("best", "last"):
        raise UsageError(f"which={which!r}: expected 'best' or 'last'")
    if dtype is None and not isinstance(backend, Backend):
        dtype = checkpoint.dtype
    try:
        model = {**checkpoint.model, "hidden": tuple(checkpoint.model["hidden"])}
        vae = cls(backend=backend, kernels=kernels, dtype=dtype, **model)
        vae.passes = int(checkpoint.training.get("passes", 0))
    except UsageError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UsageError(f"{source}: the description of the model makes no sense: {_short(error)}") from None
    best = which == "best" and any(name.startswith("best.") for name in checkpoint.tensors)
    put_tensors(vae, checkpoint.tensors, vae.buffer.state, "best." if best else "", source)
    return vae


def load_model(cls: type[M], path: str | os.PathLike, backend: Any, kernels: str | None, dtype: Any, which: str) -> M:
    """`VAE.load`."""
    held = read(path)
    if held.extra.get("scale", "none") != "none":
        warnings.warn(
            f"{path} was trained on data scaled by {held.extra['scale']!r}: scale what you give it, or open the run's "
            "folder with minivae.cli.runs.open_run, which knows the scale",
            UsageWarning,
            stacklevel=3,
        )
    return build(cls, held, path, backend, kernels, dtype, which)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
