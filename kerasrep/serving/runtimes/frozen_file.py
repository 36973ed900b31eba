"""A frozen GraphDef: one file of TensorFlow 1's kind, for runtimes that read no SavedModel of today.

Essentia's `TensorflowPredict` is one: its TensorFlow 2.5 cannot restore the variables, but runs these
operations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import ExportError
from kerasrep.serving.runtimes import Embed, Source, short

FILES = ("frozen.pb",)
BATCHES = (1, 3)
SEGMENTS = FILES[0]
TRACK = None
INPUT = "waveform"


def require() -> None:
    """Nothing but TensorFlow."""


def write(folder: Path, source: Source) -> None:
    """Write the graph; feed the node `waveform`, fetch `embedding` and `embedding_SOURCE`."""
    graph = frozen_graph(source.function)
    _drop_defaults(graph)
    (folder / SEGMENTS).write_bytes(graph.SerializeToString())


def frozen_graph(function: Any) -> Any:
    """A concrete function as a GraphDef of constants, with the outputs' names on nodes of their own.

    Raises:
        ExportError: Where it cannot be frozen.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    except Exception as error:
        raise ExportError(f"frozen: variables cannot be made constants ({short(error)})") from error
    graph = frozen.graph.as_graph_def()
    # Flat outputs come in the order of their sorted names.
    for name, tensor in zip(sorted(function.structured_outputs), frozen.outputs, strict=True):
        node = graph.node.add(name=name, op="Identity", input=[tensor.name])
        node.attr["T"].type = tensor.dtype.as_datatype_enum
    return graph


def _drop_defaults(graph: Any) -> None:
    """Drop attributes that have their default: older releases complain of those they do not know."""
    from tensorflow.python.framework import op_def_registry

    for node in graph.node:
        for attribute in op_def_registry.get(node.op).attr:
            name = attribute.name
            if name in node.attr and attribute.HasField("default_value"):
                value = node.attr[name]
                if value == attribute.default_value:
                    del node.attr[name]


def read(folder: Path, name: str) -> Embed:
    """Import the graph anew and run it in a session."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString((folder / name).read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    outputs = [
        node.name
        for node in definition.node
        if node.name == "embedding" or node.name.startswith(("embedding_", "layer_"))
    ]

    def embed(waveform: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        with tf.compat.v1.Session(graph=graph) as session:
            found: dict[str, NDArray[np.float32]] = session.run(
                {name: f"{name}:0" for name in outputs}, {f"{INPUT}:0": waveform}
            )
        return found

    return embed
