"""onnx: encoder and decoder as ONNX files, for runtimes in other languages (`graph.py` says what is in them).

The same model gives the same bytes. Needs the package onnx to write, and nothing of minivae to read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, checks
from ..disk import write_whole
from ..errors import UsageError
from ..hints import how_to_install
from ..model import Model
from . import graph as graphs

PARTS = ("encoder", "decoder", "both")
OPSET = 17  # of 2022: what is computed needs no later one
LEAST_OPSET = 13
MOST_BYTES = 2**31 - 1  # of one protobuf message


def require() -> Any:
    """The package onnx, or a UsageError that says what to install."""
    try:
        import onnx
    except ImportError:
        raise UsageError(f"ONNX files need the package onnx: {how_to_install('onnx')}") from None
    return onnx


def write(vae: Model, path: str | os.PathLike, part: str = "both", opset: int = OPSET) -> list[Path]:
    """Write one part as the file `path`, or both as encoder.onnx and decoder.onnx in the folder `path` → the files.

    opset   the version of ONNX's operators, from 13 to the newest that the package onnx knows
    """
    path = Path(path)
    if part not in PARTS:
        raise UsageError(f"part={part!r}: expected one of {', '.join(PARTS)}")
    contents = serialised(vae, part, opset)  # before anything is written
    if part == "both":
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file: the encoder and the decoder go to a folder; or write one part")
        files = {path / f"{name}.onnx": data for name, data in contents.items()}
        path.mkdir(parents=True, exist_ok=True)
    else:
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(f"{path}: expected a file, such as {part}.onnx, in a folder that exists")
        files = {path: contents[part]}
    for file, data in files.items():
        write_whole(file, data)
    return list(files)


def serialised(vae: Model, part: str, opset: int = OPSET) -> dict[str, bytes]:
    """The bytes of "encoder", "decoder", or of each for "both", by name."""
    makers = {"encoder": graphs.encoder, "decoder": graphs.decoder}
    names = ("encoder", "decoder") if part == "both" else (part,)
    return {name: _bytes(makers[name](vae), opset) for name in names}


def _bytes(graph: graphs.Graph, opset: int) -> bytes:
    onnx = require()
    newest = onnx.defs.onnx_opset_version()
    if not LEAST_OPSET <= checks.integer("opset", opset) <= newest:
        raise UsageError(
            f"opset={opset}: expected {LEAST_OPSET} to {newest}, the newest that onnx {onnx.__version__} knows"
        )
    size = sum(array.nbytes for array in graph.constants.values())
    if size > MOST_BYTES:
        raise UsageError(f"the {graph.part} has {size / 2**30:.1f} GiB of parameters; one ONNX file holds 2 GiB")
    helper, to_proto = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype

    def declared(values: dict[str, tuple[Any, ...]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, to_proto(graph.dtype), shape) for name, shape in values.items()]

    nodes = []
    for node in graph.nodes:
        attributes = {k: to_proto(np.dtype(v)) if k == "to" else v for k, v in node.attributes.items()}
        nodes.append(helper.make_node(node.op, node.inputs, [node.output], name=node.output, **attributes))
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    made = helper.make_graph(nodes, graph.part, declared(graph.inputs), declared(graph.outputs), tensors)
    versions = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        made,
        opset_imports=versions,
        ir_version=helper.find_min_ir_version_for(versions),
        producer_name="minivae",
        producer_version=__version__,
    )
    helper.set_model_props(model, _metadata(graph))
    return model.SerializeToString(deterministic=True)


def _metadata(graph: graphs.Graph) -> dict[str, str]:
    """What a reader may want to know, by name; column names as a JSON list."""
    vae = graph.model
    facts = {
        "minivae": __version__,
        "part": graph.part,
        "likelihood": vae.likelihood.name,
        "latent_dim": str(vae.latent_dim),
        "features": str(vae.features),
        "scale": "none" if vae.scale is None else vae.scale.kind,
        "binarize": vae.binarize,
    }
    return facts if vae.columns is None else {**facts, "columns": json.dumps(list(vae.columns), ensure_ascii=False)}
