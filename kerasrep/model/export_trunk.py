"""What an export keeps of the network that it was made of: recipe, weights, mel standardisation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from kerasrep.errors import ExportError
from kerasrep.model.strategies import Scaler
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.export_directory import SAVED_MODEL_FILE, read_card

#: Arguments of the exported function that the layer `standardise` takes mean and variance from.
_MEAN = re.compile(r"standardise.*_sub_y$")
_VARIANCE = re.compile(r"standardise.*_sqrt_x$")

Graph = Any  # tensorflow.core.framework.graph_pb2.GraphDef
Function = Any  # tensorflow.core.framework.function_pb2.FunctionDef
Node = Any  # tensorflow.core.framework.node_def_pb2.NodeDef


def recipe_of_export(version: Path) -> Recipe:
    """The recipe in the card of an export.

    Raises:
        ExportError: Where the card is damaged, or another version of kerasrep wrote it.
    """
    try:
        return Recipe.model_validate(read_card(version).recipe)
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(str(part) for part in details["loc"])
        raise ExportError(
            f"{version}: its card holds a recipe of another version ({key}: {details['msg']}); export the "
            "run again"
        ) from error


def read_export_weights(version: Path) -> dict[str, NDArray[np.float32]]:
    """Weights and statistics of the trunk of an export, not folded, by the path of their variable.

    Raises:
        ExportError: Where the SavedModel cannot be loaded, or has folded weights alone.
    """
    import tensorflow as tf

    try:
        stored = getattr(tf.saved_model.load(str(version)), "stored", None)
    # Damaged files raise anything from OSError to protobuf's own kinds.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{version}: cannot be loaded ({reason}); export the run again") from error
    if stored is None:
        raise ExportError(
            f"{version}: has folded weights alone, as exports had before, and training cannot go on from "
            "them; export its run again"
        )
    return {path: variable.numpy().astype(np.float32) for path, variable in stored.items()}


def read_export_scaler(version: Path, n_mels: int) -> Scaler:
    """Read the standardisation that an export applies to its mel bands.

    It is read from the constants of the graph, because no variable holds it.

    Args:
        version: Folder of the SavedModel.
        n_mels: Bands, as the export's recipe says.

    Returns:
        Mean and deviation of each band, in decibels.

    Raises:
        ExportError: Where the SavedModel cannot be read or holds no such standardisation.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = version / SAVED_MODEL_FILE
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
        graph = saved.meta_graphs[0].graph_def
        mean, variance = (_bands(_argument(graph, pattern), n_mels) for pattern in (_MEAN, _VARIANCE))
    # Damaged files raise anything from OSError to protobuf's own kinds.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"{path}: the standardisation of {n_mels} mel bands cannot be read from it ({reason}); give the "
            "run that it was exported from"
        ) from error
    return Scaler(mean, np.sqrt(variance))


def _bands(values: NDArray[np.float32], n_mels: int) -> NDArray[np.float32]:
    """A value for each band out of [..., mels, channels], where all channels have the same."""
    by_band = values.reshape(n_mels, -1)
    if (by_band != by_band[:, :1]).any():
        raise ValueError("the channels have values of their own")
    return by_band[:, 0]


def _argument(graph: Graph, pattern: re.Pattern[str]) -> NDArray[np.float32]:
    """The constant that a function of the graph gets for the argument whose name matches."""
    for function in graph.library.function:
        for position, argument in enumerate(function.signature.input_arg):
            if pattern.search(argument.name):
                values = _passed(graph, function, position)
                if values is not None:
                    return values
    raise LookupError("no layer 'standardise' with constants")


def _passed(graph: Graph, function: Function, position: int) -> NDArray[np.float32] | None:
    """The constant that `function` gets at `position`, through however many calls it is handed on.

    Loops are not followed: the signature that embeds segments calls the same function without one.
    """
    import tensorflow as tf

    for caller, node in _calls(graph, function.signature.name):
        name = node.input[position].partition(":")[0]
        values: NDArray[np.float32] | None = None
        if caller is None:
            constants = [n for n in graph.node if n.name == name and n.op == "Const"]
            values = tf.make_ndarray(constants[0].attr["value"].tensor) if constants else None
        else:
            arguments = [argument.name for argument in caller.signature.input_arg]
            values = _passed(graph, caller, arguments.index(name)) if name in arguments else None
        if values is not None:
            return values
    return None


def _calls(graph: Graph, name: str) -> Iterator[tuple[Function | None, Node]]:
    """Nodes that call a function, and the function that each stands in; `None` is the graph itself."""
    for node in graph.node:
        if node.attr["f"].func.name == name:
            yield None, node
    for function in graph.library.function:
        for node in function.node_def:
            if node.attr["f"].func.name == name:
                yield function, node
