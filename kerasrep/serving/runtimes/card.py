"""The card beside files for other runtimes: their signatures, the audio that they take, and pooling."""

from __future__ import annotations

from typing import Any

from kerasrep import constants
from kerasrep.embedding.representations import model_fingerprint
from kerasrep.serving.runtimes import Source, runtime_of


def audio_facts(source: Source) -> dict[str, Any]:
    """What a program must know to give the right samples and to pool segments; also inside ONNX files."""
    card = source.card
    pieces = ", ".join(source.vector)
    return {
        "model_fingerprint": model_fingerprint(source.saved),
        "sample_rate_hz": card.sample_rate_hz,
        "segment_samples": card.segment_samples,
        "resampler": "soxr, quality HQ (res_type soxr_hq of librosa, its default)",
        "channels": "left, right, side by side for each sample (interleaved); mono is given twice",
        "range": "float in [-1, 1]; 16-bit samples are divided by 32768",
        "last_segment": "padded with zeros at its end; a recording without samples is one silent segment",
        "pooling": "over the n consecutive segments of a recording: mean = sum(x) / n, "
        "standard deviation = sqrt(sum((x - mean)^2) / n)",
        "vector": f"what kerasrep.load(...).embed gives: means of {pieces}; then their standard deviations",
    }


def runtime_card(source: Source, about: dict[str, Any]) -> dict[str, Any]:
    """Describe the files of some formats.

    Args:
        source: What was converted.
        about: Format -> what `write_formats` found of it.

    Returns:
        The card of the SavedModel, with signatures and advice of the files in place of its own.
    """
    card = source.card.model_dump(mode="json", exclude={"version", "warmup", "files"})
    return card | {
        "weights": constants.FLOAT32,
        "signatures": {name: _signatures(name, source) for name in about},
        "how_to_call": list(_how_to_call(about)),
        "audio": audio_facts(source),
        "formats": about,
    }


def _signatures(name: str, source: Source) -> dict[str, Any]:
    runtime, card = runtime_of(name), source.card
    batch = "batch" if max(runtime.BATCHES) > 1 else "1"
    outputs = source.function.structured_outputs
    described: dict[str, Any] = {
        runtime.SEGMENTS: {
            "inputs": {"waveform": f"float32 [{batch}, {card.segment_samples}, {constants.N_CHANNELS}]"},
            "outputs": {
                output: f"float32 [{batch}, {tensor.shape[-1]}]" for output, tensor in sorted(outputs.items())
            },
            "does": "one embedding per segment, the branches side by side",
        }
    }
    if runtime.TRACK is not None:
        widths = {output: 2 * width for output, width in source.widths.items()}
        widths = {"vector": sum(widths[output] for output in source.vector)} | widths
        described[runtime.TRACK] = {
            "inputs": {"waveform": f"float32 [samples, {constants.N_CHANNELS}]"},
            "outputs": {output: f"float32 [{width}]" for output, width in widths.items()},
            "does": "mean, then standard deviation, over the segments of one recording of any length",
        }
    return described


def _how_to_call(formats: dict[str, Any]) -> list[str]:
    lines = {
        "keras": "Keras: import kerasrep; keras.models.load_model('model.keras', compile=False)(waveform)",
        "tflite": "LiteRT: Interpreter('model.tflite').get_signature_runner('embed_track')(waveform=...)",
        "onnx": "ONNX Runtime: InferenceSession('track.onnx').run(['vector'], {'waveform': ...})",
        "frozen": "TensorFlow 1: feed the node waveform of frozen.pb, fetch embedding",
    }
    return [lines[name] for name in formats]
