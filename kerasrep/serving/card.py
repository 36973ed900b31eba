"""The card of an export: what it is, where it comes from, and how to call it."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import kerasrep
from kerasrep import constants
from kerasrep.export_directory import EMBED_TRACK, SERVING_DEFAULT, ExportCard
from kerasrep.model.restore import TrainedRun
from kerasrep.model.strategies import SHARED
from kerasrep.serving.check import TOLERANCE


def make_card(
    trained: TrainedRun, name: str, run_card: dict[str, Any] | None, difference: float
) -> ExportCard:
    """Describe an export.

    Args:
        trained: The run it is made of.
        name: Of the export.
        run_card: Of the run; `None` where it has none.
        difference: Largest one found when the export was loaded back.
    """
    recipe, network = trained.recipe, trained.network
    segment_dimension = constants.EMBEDDING_SIZE * len(network.branches)
    return ExportCard(
        name=name,
        strategy=recipe.strategy,
        sources=recipe.sources,
        branches=network.branches,
        sample_rate_hz=recipe.audio.sample_rate_hz,
        segment_samples=recipe.audio.segment_samples,
        segment_dimension=segment_dimension,
        track_dimension=2 * segment_dimension,
        signatures=_signatures(network.branches, recipe.audio.segment_samples),
        how_to_call=(
            f"Audio is stereo float in [-1, 1] at {recipe.audio.sample_rate_hz} Hz; give mono twice.",
            f"REST: POST /v1/models/{name}:predict with"
            f' {{"signature_name": "{EMBED_TRACK}", "inputs": {{"waveform": ..., "length_samples": ...}}}}',
            f"TensorFlow: tf.saved_model.load(PATH).signatures['{EMBED_TRACK}']"
            "(waveform=..., length_samples=...)['embedding']",
            "Python: kerasrep.load(PATH).embed(waveform, sample_rate_hz)",
        ),
        recipe=recipe.as_dict(),
        run=run_card,
        versions={"kerasrep": kerasrep.__version__}
        | {library: metadata.version(library) for library in ("tensorflow", "keras", "kapre")},
        check={"largest_difference": difference, "tolerance": TOLERANCE},
    )


def _signatures(branches: tuple[str, ...], segment_samples: int) -> dict[str, Any]:
    width = constants.EMBEDDING_SIZE
    single = (
        {} if branches == (SHARED,) else {f"embedding_{b}": f"float32 [batch, {width}]" for b in branches}
    )
    return {
        SERVING_DEFAULT: {
            "inputs": {"waveform": f"float32 [batch, {segment_samples}, {constants.N_CHANNELS}]"},
            "outputs": {"embedding": f"float32 [batch, {width * len(branches)}]"} | single,
            "does": "one embedding a segment, the branches side by side",
        },
        EMBED_TRACK: {
            "inputs": {
                "waveform": f"float32 [batch, samples, {constants.N_CHANNELS}]",
                "length_samples": "int32 [batch]",
            },
            "outputs": {"embedding": f"float32 [batch, {2 * width * len(branches)}]"},
            "does": "mean, then standard deviation, over consecutive segments of each track; samples at or "
            "beyond length_samples are ignored, the last segment is padded with zeros, and a length of 0 is "
            "one silent segment",
        },
    }
