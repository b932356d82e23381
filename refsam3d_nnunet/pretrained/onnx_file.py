"""Reading the weights out of an ONNX file, under the names that they had in PyTorch."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from onnx import GraphProto


def read_onnx(path: str | Path) -> dict[str, Tensor]:
    """Reads the state dict of a plain ViT that ``torch.onnx.export`` wrote.

    Tensors that the export left as they are have kept their names. Linear layers were turned
    into products with a transposed, nameless matrix; the layer's name is that of the product.
    The table of positions was cut into the class token's and the others', which the export added
    to the tokens one behind the other.

    Args:
        path: File of the form that torch.onnx.export gives a Dinov2 of transformers.

    Raises:
        ValueError: If the file cannot be read as ONNX, or the package onnx is not installed.
    """
    graph = _graph(Path(path))
    from onnx import numpy_helper

    constants = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    nameless = {name: tensor for name, tensor in constants.items() if "::" in name}
    state = {name: tensor for name, tensor in constants.items() if name not in nameless}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in nameless:
            state[f"{_module(node.name)}.weight"] = nameless[node.input[1]].T.contiguous()
    return state | _positions(graph, nameless)


def _graph(path: Path) -> GraphProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ValueError(f"Reading {path} needs the package onnx: pip install onnx") from error
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError as error:
        raise ValueError(f"{path} is damaged, cut short or no ONNX file: fetch it again") from error
    if not graph.initializer:
        raise ValueError(f"{path} is damaged, or an ONNX file without weights: fetch it again")
    return graph


def _module(node: str) -> str:
    """Name of the PyTorch module of a node such as /encoder/layer.0/mlp/fc1/MatMul."""
    return node.strip("/").rpartition("/")[0].replace("/", ".")


def _positions(graph: GraphProto, nameless: dict[str, Tensor]) -> dict[str, Tensor]:
    """The table of positions of each module that adds nameless rows to its tokens."""
    rows: dict[str, list[Tensor]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            if node.op_type in ("Concat", "Reshape") and name in nameless:
                rows[f"{_module(node.name)}.position_embeddings"].append(nameless[name])
    return {
        name: torch.cat(sorted(parts, key=lambda part: part.shape[1]), dim=1)
        for name, parts in rows.items()
    }
