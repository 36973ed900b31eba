"""The card of an export: what it is, where it comes from, and how to call it."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import kerasrep
from kerasrep import constants
from kerasrep.export_directory import EMBED_TRACK, SERVING_DEFAULT, ExportCard
from kerasrep.model.restore import TrainedRun
from kerasrep.model.strategies import SHARED, Network
from kerasrep.recipe import AudioSettings
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
    recipe = trained.recipe
    return _card(trained.network, recipe.audio, name, difference, recipe=recipe.as_dict(), run=run_card)


def make_imported_card(
    network: Network, name: str, imported: dict[str, Any], difference: float
) -> ExportCard:
    """Describe an export of a network that was trained elsewhere.

    Args:
        network: Of the paper's audio settings.
        name: Of the export.
        imported: What it was read from.
        difference: Largest one found when the export was loaded back.
    """
    audio = AudioSettings()
    # All else that recipes say is unknown, and stays at its default where one is made of this.
    recipe = {
        "name": name,
        "strategy": network.strategy,
        "sources": list(network.sources),
        "audio": audio.model_dump(mode="json"),
    }
    return _card(network, audio, name, difference, recipe=recipe, run=None, imported=imported)


def _card(network: Network, audio: AudioSettings, name: str, difference: float, **origin: Any) -> ExportCard:
    segment_dimension = constants.EMBEDDING_SIZE * len(network.branches)
    return ExportCard(
        name=name,
        strategy=network.strategy,
        sources=network.sources,
        branches=network.branches,
        sample_rate_hz=audio.sample_rate_hz,
        segment_samples=audio.segment_samples,
        segment_dimension=segment_dimension,
        track_dimension=2 * segment_dimension,
        signatures=_signatures(network.branches, audio.segment_samples),
        how_to_call=(
            f"Audio is stereo float in [-1, 1] at {audio.sample_rate_hz} Hz; give mono twice.",
            f"REST: POST /v1/models/{name}:predict with"
            f' {{"signature_name": "{EMBED_TRACK}", "inputs": {{"waveform": ..., "length_samples": ...}}}}',
            f"TensorFlow: tf.saved_model.load(PATH).signatures['{EMBED_TRACK}']"
            "(waveform=..., length_samples=...)['embedding']",
            "Python: kerasrep.load(PATH).embed(waveform, sample_rate_hz)",
        ),
        versions={"kerasrep": kerasrep.__version__}
        | {library: metadata.version(library) for library in ("tensorflow", "keras", "kapre")},
        check={"largest_difference": difference, "tolerance": TOLERANCE},
        **origin,
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
