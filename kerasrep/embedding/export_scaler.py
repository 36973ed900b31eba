"""The mel standardisation of an export: constants of its graph, because no variable holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import ExportError
from kerasrep.model.strategies import Scaler
from kerasrep.storage.export_directory import SAVED_MODEL_FILE

#: Arguments of the exported function that the layer `standardise` takes mean and variance from.
_MEAN = re.compile(r"standardise.*_sub_y$")
_VARIANCE = re.compile(r"standardise.*_sqrt_x$")

Graph = Any  # tensorflow.core.framework.graph_pb2.GraphDef
Function = Any  # tensorflow.core.framework.function_pb2.FunctionDef
Node = Any  # tensorflow.core.framework.node_def_pb2.NodeDef


def read_export_scaler(version: Path, n_mels: int) -> Scaler:
    """Read the standardisation that an export applies to its mel bands.

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
        mean, variance = _argument(graph, _MEAN), _argument(graph, _VARIANCE)
        if mean.size not in (n_mels, n_mels * constants.N_CHANNELS) or variance.size != mean.size:
            raise ValueError(f"{mean.size} means and {variance.size} variances")
    # Damaged files raise anything from OSError to protobuf's own kinds.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"{path}: the standardisation of {n_mels} mel bands cannot be read from it ({reason}); give the "
            "run that it was exported from"
        ) from error
    # The channels of a band have the same; exports made before Keras 3.14 hold it once.
    return Scaler(mean.reshape(n_mels, -1)[:, 0], np.sqrt(variance.reshape(n_mels, -1)[:, 0]))


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
