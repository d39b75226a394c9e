"""checkpoint: a model, and where its training stands, in one safetensors file.

    tensors    the model's by name ("encoder.0.W" …); "best.<name>" where validation chose; "optimizer.<slot>", flat;
               "scale.shift", "scale.factor" where the data were scaled
    metadata   one JSON text under "minivae": {"version", "minivae", "model", "dtype", "training", "extra"}

Nothing is pickled and nothing in a file is run. A file is written beside its place, synced to the disk, and renamed: at
any moment there is the old one whole or the new one whole. The bytes depend on the state alone (one metadata key,
since safetensors keeps several in no fixed order), so that two runs that agree write the same file.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from .. import __version__, likelihoods
from ..backend import Backend, resolve
from ..buffers import Shape
from ..datasets.columns import Columns
from ..datasets.scale import Scale
from ..disk import write_whole
from ..errors import UsageError, UsageWarning
from ..model import Model
from . import schema

M = TypeVar("M", bound=Model)
MODEL_FILE = "model.safetensors"  # in the folder of a run
DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")  # those of NumPy


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
            "version": schema.VERSION,
            "minivae": __version__,
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
        inside = Path(path) / MODEL_FILE
        hint = f"; did you mean {inside}?" if inside.is_file() else ""
        raise UsageError(f"{path}: no such model file{hint}")
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get("minivae")
            if text is None:
                raise UsageError("a safetensors file, but not one that minivae wrote")
            held = schema.decode(text, schema.Metadata)
            tensors = {}
            for name in file.keys():  # noqa: SIM118
                if file.get_slice(name).get_dtype() not in DTYPES:
                    raise ValueError(f"{name!r} is {file.get_slice(name).get_dtype()}, not one of {', '.join(DTYPES)}")
                tensors[name] = file.get_tensor(name)
        training = msgspec.to_builtins(held.training)
        return Checkpoint(held.model, held.dtype, tensors, training, held.extra)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (SafetensorError, OSError, ValueError) as error:
        message = schema.one_line(error)
        raise UsageError(f"{path}: expected a model that minivae saved, whole; got: {message}") from None


def tensors_of(vae: Model, flat: Any = None, prefix: str = "") -> dict[str, np.ndarray]:
    """The named tensors of the model's state, or of another flat array laid out like it, on the host."""
    flat = vae.buffer.state if flat is None else flat
    return {prefix + name: vae.backend.to_host(vae.buffer.view(flat, name)) for name in vae.buffer.shapes}


def check_tensors(expected: dict[str, Shape], tensors: dict[str, np.ndarray], prefix: str, source: Any) -> None:
    """Raise UsageError unless the tensors of these names are there, floats of these shapes."""
    for name, shape in expected.items():
        array = tensors.get(prefix + name)
        if array is None:
            raise UsageError(f"{source}: the tensor {prefix + name!r} is missing")
        if array.shape != shape or array.dtype.kind != "f":
            raise UsageError(
                f"{source}: {prefix + name!r} is {array.dtype} {array.shape}; the model needs floats {shape}"
            )


def put_tensors(vae: Model, tensors: dict[str, np.ndarray], flat: Any, prefix: str = "", source: Any = "file") -> None:
    """Copy named tensors into a flat array laid out as the model's state is, checking every one."""
    check_tensors(vae.buffer.shapes, tensors, prefix, source)
    for name in vae.buffer.shapes:
        vae.backend.assign(vae.buffer.view(flat, name), tensors[prefix + name])


def describe(vae: Model) -> Checkpoint:
    """All that a model is: its arguments, tensors, scale, binarisation and column names."""
    tensors = tensors_of(vae)
    if vae.scale is not None:
        tensors |= {f"scale.{name}": array for name, array in vae.scale.to_arrays().items()}
    kind, columns = "none" if vae.scale is None else vae.scale.kind, None if vae.columns is None else list(vae.columns)
    extra = {"scale": kind, "binarize": vae.binarize, "columns": columns}
    extra |= {} if vae.schema is None else {"schema": vae.schema.to_builtins()}
    return Checkpoint(vae.config(), vae.backend.dtype.name, tensors, {"passes": vae.passes}, extra)


def pickled(vae: M) -> tuple[Any, ...]:
    """What `VAE.__reduce__` returns: the function that builds the model again, and its arguments.

    The tensors are the bytes of a safetensors file; the backend is pickled by its name.
    """
    from safetensors.numpy import save

    if vae.undecided:
        return (
            partial(type(vae), backend=vae.backend, **vae.config()),
            (),
            {"columns": vae.columns, "schema": vae.schema},
        )
    held = describe(vae)
    return unpickled, (type(vae), held.model, held.training, held.extra, save(held.tensors), vae.backend)


def unpickled(
    cls: type[M], model: dict[str, Any], training: dict[str, Any], extra: dict[str, Any], data: bytes, backend: Backend
) -> M:
    """The model of `pickled`."""
    from safetensors.numpy import load

    return build(cls, Checkpoint(model, backend.dtype.name, load(data), training, extra), "the pickle", backend)


def save_model(vae: Model, path: str | os.PathLike) -> None:
    """`VAE.save`: the parameters alone."""
    if Path(path).is_dir():
        raise UsageError(f"{path} is a folder: name a file, such as {Path(path) / 'model.safetensors'}")
    if not Path(path).parent.is_dir():
        raise UsageError(f"{path}: there is no folder {Path(path).parent}; make it first")
    write(path, describe(vae))


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
    prefix = "best." if which == "best" and any(name.startswith("best.") for name in checkpoint.tensors) else ""
    backend = resolve(backend, kernels, dtype)
    try:
        # before anything is allocated: a small file may describe a model of any size
        check_tensors(shapes(checkpoint.model, backend), checkpoint.tensors, prefix, source)
        vae = cls(backend=backend, **{**checkpoint.model, "hidden": tuple(checkpoint.model["hidden"])})
    except UsageError as error:
        raise (
            error if str(error).startswith(str(source)) else UsageError(f"{source}: {schema.one_line(error)}")
        ) from None
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        message = schema.one_line(error)
        raise UsageError(f"{source}: the description of the model makes no sense: {message}") from None
    vae.passes = checkpoint.training.get("passes", 0)
    put_tensors(vae, checkpoint.tensors, vae.buffer.state, prefix, source)
    broken = [name for name in vae.buffer.shapes if not np.isfinite(checkpoint.tensors[prefix + name]).all()]
    if broken:
        message = f"{source}: {prefix + broken[0]!r} holds NaN or infinite values, and so will all that it computes"
        warnings.warn(message, UsageWarning, stacklevel=3)
    _put_units(vae, checkpoint, source)
    return vae


def _put_units(vae: Model, checkpoint: Checkpoint, source: Any) -> None:
    """The scale, binarisation and column names of a file; an older bare model has none."""
    extra, tensors = checkpoint.extra, checkpoint.tensors
    try:
        if extra.get("scale", "none") != "none":
            arrays = {key: tensors[f"scale.{key}"] for key in ("shift", "factor") if f"scale.{key}" in tensors}
            vae.scale = Scale.from_arrays(extra["scale"], arrays)
        vae.binarize = extra.get("binarize", "none")
        vae.columns = extra.get("columns")
        vae.schema = None if extra.get("schema") is None else _schema(vae, extra["schema"])
    except UsageError as error:
        raise UsageError(f"{source}: {schema.one_line(error)}") from None


def _schema(vae: Model, held: Any) -> Columns:
    """The schema of a file; UsageError where it is not that of the model's columns."""
    schema = Columns.from_builtins(held)
    mixed = vae.likelihood.name.startswith("mixed:")
    if tuple(schema.names) != vae.columns or (mixed and likelihoods.name_of(schema) != vae.likelihood.name):
        raise UsageError("the schema of its table does not fit its model: the columns or their kinds are others")
    return schema


def shapes(model: dict[str, Any], backend: Backend) -> dict[str, Shape]:
    """The tensors of a model, name → shape, from the arguments of VAE; nothing of their size is allocated."""
    described = msgspec.convert(model, schema.Architecture)
    if likelihoods.find(described.likelihood) is None:
        raise UsageError(
            f"no likelihood is called {described.likelihood!r}: register it first, by mv.register_likelihood or "
            "--plugin FILE.py"
        )
    vae = Model(
        described.features, described.latent_dim, tuple(described.hidden), described.activation, "auto",
        backend=backend, inputs=described.inputs, missing=described.missing, condition=model.get("condition"),
    )  # fmt: skip
    learned, fitted = vae.networks(described.likelihood)
    return dict(learned + fitted)


def load_model(cls: type[M], path: str | os.PathLike, backend: Any, kernels: str | None, dtype: Any, which: str) -> M:
    """`VAE.load`: a model's file, or the folder of a run."""
    inside = Path(path) / MODEL_FILE
    path = inside if inside.is_file() else path
    held = read(path)
    if held.extra.get("scale", "none") != "none" and "columns" not in held.extra:
        warnings.warn(
            f"{path} was written by an older minivae, whose models took rows that had been scaled "
            f"({held.extra['scale']!r}): this one takes rows in the data's own units, and scales them itself",
            UsageWarning,
            stacklevel=3,
        )
    return build(cls, held, path, backend, kernels, dtype, which)
