"""ONNX, through tf2onnx, for ONNX Runtime, OpenVINO and their like: a file for segments, one for recordings.

tf2onnx 1.17 converts a Fourier transform only where nothing but its magnitude is used; here its real and
imaginary parts are squared and added. So those three operations are converted here, to ONNX's own DFT.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kerasrep
from kerasrep.errors import ExportError
from kerasrep.serving.runtimes import Embed, Source, audio_facts, installed, short
from kerasrep.serving.runtimes.frozen_file import INPUT, frozen_graph

FILES = SEGMENTS, TRACK = ("model.onnx", "track.onnx")
BATCHES = (1, 3)
#: The first with DFT.
OPSET = 17
EXTRA = "onnx"


def require() -> None:
    """Raise ExportError where the extra is not installed."""
    for module in ("tf2onnx", "onnxruntime"):
        installed("onnx", module, EXTRA)


def write(folder: Path, source: Source) -> None:
    """Convert for any batch of segments, and for a recording of any length.

    Raises:
        ExportError: Where tf2onnx cannot convert an operation.
    """
    from kerasrep.serving.runtimes.recording import recording_function

    recording = recording_function(source).get_concrete_function()
    for name, function, free in ((SEGMENTS, source.function, "batch"), (TRACK, recording, "samples")):
        model = _convert(function)
        _describe(model, source, free)
        (folder / name).write_bytes(model.SerializeToString())


def _convert(function: Any) -> Any:
    import tf2onnx

    outputs = sorted(function.structured_outputs)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            frozen_graph(function),
            name="kerasrep",
            input_names=[f"{INPUT}:0"],
            output_names=[f"{name}:0" for name in outputs],
            opset=OPSET,
            custom_op_handlers={
                "RFFT": (_convert_rfft, ["DFT"]),
                "Real": (partial(_take_part, part=0), ["Gather"]),
                "Imag": (partial(_take_part, part=1), ["Gather"]),
            },
            tensors_to_rename={f"{name}:0": name for name in [INPUT, *outputs]},
        )
    except Exception as error:
        raise ExportError(f"onnx: tf2onnx cannot convert the graph ({short(error)})") from error
    return model


def _describe(model: Any, source: Source, free: str) -> None:
    """Name the free dimension, and put into the file what a card beside it may get lost."""
    from onnx import helper

    for value in [*model.graph.input, *model.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = free
    card = source.card
    model.producer_name, model.producer_version = "kerasrep", kerasrep.__version__
    model.graph.name = card.name
    facts = {"name": card.name, **audio_facts(source), "licence": " ".join(card.licence)}
    helper.set_model_props(model, {key: str(value) for key, value in facts.items()})


def read(folder: Path, name: str) -> Embed:
    """Load a file in ONNX Runtime.

    Raises:
        ExportError: Where it is refused.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnx: ONNX Runtime refuses the graph ({short(error)})") from error
    names = [output.name for output in session.get_outputs()]

    def embed(waveform: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, {INPUT: waveform}), strict=True))

    return embed


def _convert_rfft(graph: Any, node: Any, *_: Any) -> None:
    """RFFT of [..., n] -> one-sided DFT of [..., n, 1]: [..., n // 2 + 1, 2], the two parts last."""
    name, output = node.name, node.output[0]
    rank, shape = len(graph.get_shape(node.input[0])), graph.get_shape(output)
    axes = _constant(graph, f"{name}__axes", [-1])
    column = graph.make_node("Unsqueeze", [node.input[0], axes]).output[0]
    graph.remove_node(name)
    graph.make_node(
        "DFT",
        [column],
        attr={"axis": rank - 1, "onesided": 1},
        name=name,
        outputs=[output],
        shapes=[[*shape, 2]],
        dtypes=[_float32()],
    )


def _take_part(graph: Any, node: Any, *_: Any, part: int) -> None:
    """Real or imaginary part of what `_convert_rfft` gives."""
    name, source, output = node.name, node.input[0], node.output[0]
    shape = graph.get_shape(output)
    index = _constant(graph, f"{name}__part", part)
    graph.remove_node(name)
    graph.make_node(
        "Gather",
        [source, index],
        attr={"axis": -1},
        name=name,
        outputs=[output],
        shapes=[shape],
        dtypes=[_float32()],
    )


def _constant(graph: Any, name: str, value: int | list[int]) -> str:
    made: str = graph.make_const(name, np.array(value, np.int64)).output[0]
    return made


def _float32() -> int:
    import onnx

    return int(onnx.TensorProto.FLOAT)
