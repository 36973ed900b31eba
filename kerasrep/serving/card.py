"""The card of an export: what it is, where it comes from, its licences, and how to call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kerasrep
from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.model.layers import layer_pieces
from kerasrep.model.restore import TrainedRun
from kerasrep.model.strategies import Network
from kerasrep.recipe.network import AudioSettings
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.extras import versions
from kerasrep.serving.check import tolerance
from kerasrep.serving.warmup import prepared_directory
from kerasrep.storage.export_directory import EMBED_TRACK, SERVING_DEFAULT, ExportCard
from kerasrep.storage.run_directory import RunDirectory, read_object
from kerasrep.storage.segment_vector import LAST, embedding_pieces, layers_text, parse_layers, whole_outputs
from kerasrep.storage.tables import read_rows

CODE_LICENCE = "The graph is made by kerasrep, under the MIT licence."
IMPORTED_LICENCE = (
    "The weights are those of the checkpoint that was imported: ask its authors for their terms."
)
#: Corpus -> what its terms mean for weights trained on it; descriptions, not legal advice.
LICENCES = {
    "demo": (
        "Trained on audio rendered from scores with the SoundFont TimGM6mb (GNU GPL 2). The works are out of "
        "copyright; some encodings state the GNU GPL (josquin) or CC BY-SA (some of songs), most no "
        "restriction. Whether weights trained on such audio are derived works is not settled; no claim that "
        "they are is known. See docs/demo-corpus.md.",
        "Many labels are simulated or chosen at rendering: the weights demonstrate, they say nothing of "
        "listeners.",
    ),
    "folder": ("Trained on audio and labels of whoever trained it: their terms apply to the weights.",),
    "million_song": (
        "Trained on the Million Song Dataset and its companions: look up the terms of each part, several of "
        "which allow research alone, before passing the weights on.",
    ),
}
#: Name of the table in `assets.extra`.
LICENCES_FILE = "licences.tsv"
LICENCE_COLUMNS = ("path", "title", "author", "licence", "package", "source")
NOT_SETTLED = (
    "Whether weights trained on audio are derived works of it is not settled; no claim that they are is "
    "known. Who wants to be sure keeps to all of these licences: names the authors, and passes the weights "
    "on under the same terms where a licence asks for that (GNU GPL, CC BY-SA, Free Art License)."
)


@dataclass(frozen=True)
class Origin:
    """Where a network comes from.

    Attributes:
        recipe: As it was run; of an imported network, what a recipe would say of it.
        run: The card of the run; `None` where it has none.
        imported: What an imported network was read from.
        training_data: Corpus and fingerprint; `None` where nothing is known of them.
        scores: `validation` by source, `downstream` by task.
        licence: Lines on what may be done with the weights.
    """

    recipe: dict[str, Any]
    run: dict[str, Any] | None = None
    imported: dict[str, Any] | None = None
    training_data: dict[str, Any] | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    licence: tuple[str, ...] = ()


def run_origin(
    trained: TrainedRun,
    run_card: dict[str, Any] | None,
    downstream: dict[str, Any] | None,
    licences: Path | None = None,
) -> Origin:
    """Describe a run.

    Args:
        trained: The run.
        run_card: `None` where it has none.
        downstream: Scores on downstream tasks, where they were measured.
        licences: Table of the licences of the training data (see `licence_lines`), where there is one.
    """
    recipe = trained.recipe
    terms = LICENCES[recipe.corpus.name] if licences is None else licence_lines(licences)
    scores = {}
    if run_card is not None and "scores" in run_card:
        scores["validation"] = run_card["scores"]
    if downstream is not None:
        scores["downstream"] = downstream
    return Origin(
        recipe=recipe.as_dict(),
        run=run_card,
        training_data=_training_data(trained.run, recipe),
        scores=scores,
        licence=(*terms, *_start_licence(run_card or {}), CODE_LICENCE),
    )


def _start_licence(run_card: dict[str, Any]) -> Iterator[str]:
    """Terms of the trunks that training began with, the latest first."""
    start = run_card.get("start")
    while start:
        terms = start.get("licence") or LICENCES.get(start.get("corpus"), ("Its terms are unknown.",))
        told = " ".join(line for line in terms if line != CODE_LICENCE)
        yield f"Training began with the weights of {start.get('export') or start['path']}. {told}"
        start = start.get("start")


def imported_origin(network: Network, name: str, imported: dict[str, Any]) -> Origin:
    """Describe a network that was trained elsewhere.

    Args:
        network: Of the paper's audio settings.
        name: Of the export.
        imported: What it was read from.
    """
    # All else that recipes say is unknown, and stays at its default where one is made of this.
    recipe = {
        "name": name,
        "strategy": network.strategy,
        "sources": list(network.sources),
        "audio": AudioSettings().model_dump(mode="json"),
    }
    return Origin(recipe, imported=imported, licence=(IMPORTED_LICENCE, CODE_LICENCE))


def _training_data(run: RunDirectory, recipe: Recipe) -> dict[str, Any] | None:
    """What the prepared folder says of itself, or at least which one it was."""
    prepared = prepared_directory(run)
    if prepared is not None:
        manifest = read_object(prepared.manifest, corpus=dict)
        corpus = manifest["corpus"]
        return {
            "corpus": corpus.get("name"),
            "corpus_fingerprint": corpus.get("fingerprint"),
            "fingerprint": manifest.get("fingerprint"),
            "tracks": manifest.get("tracks"),
            "hours": manifest.get("hours"),
            "notices": corpus.get("notices"),
        }
    if run.prepared.is_file():
        return {"corpus": recipe.corpus.name, "fingerprint": read_object(run.prepared).get("fingerprint")}
    return None


def make_card(
    network: Network,
    audio: AudioSettings,
    name: str,
    origin: Origin,
    difference: float,
    warmup: dict[str, Any],
    weights: str = constants.FLOAT32,
    default_layers: str = LAST,
) -> ExportCard:
    """Describe an export.

    Args:
        network: What was exported.
        audio: Its rates and mel geometry.
        name: Of the export.
        origin: Where the network comes from.
        difference: Largest one from the trained model, when it was written.
        warmup: Where the audio of the warm-up requests is from, and how many each signature has.
        weights: Type that kernels are stored in.
        default_layers: What an embedding is made of where nobody names layers.
    """
    widths = {name: output.shape[-1] for name, output in network.embedder.output.items()}
    layers = tuple(p for p in layer_pieces(network.embedder, network.branches) if p.output in widths)
    pieces = (*embedding_pieces(network.branches), *layers)
    chosen = parse_layers(default_layers)
    return ExportCard(
        name=name,
        strategy=network.strategy,
        sources=network.sources,
        branches=network.branches,
        sample_rate_hz=audio.sample_rate_hz,
        segment_samples=audio.segment_samples,
        layers=layers,
        segment_dimension=widths["embedding"],
        track_dimension=2 * widths["embedding"],
        default_layers=layers_text(chosen),
        default_dimension=2 * sum(piece.width for piece in pieces if piece.layer in chosen),
        weights=weights,
        signatures=_signatures(widths, audio.segment_samples),
        how_to_call=_how_to_call(name, audio.sample_rate_hz),
        front_end=_front_end(audio),
        versions={"kerasrep": kerasrep.__version__} | versions(("tensorflow", "keras", "kapre")),
        check={"largest_difference": difference, "tolerance": tolerance(network, weights)},
        warmup=warmup,
        **vars(origin),
    )


def _how_to_call(name: str, sample_rate_hz: int) -> tuple[str, ...]:
    return (
        f"Audio is stereo float in [-1, 1] at {sample_rate_hz} Hz; give mono twice.",
        f"REST: POST /v1/models/{name}:predict with"
        f' {{"signature_name": "{EMBED_TRACK}", "inputs": {{"waveform": ..., "length_samples": ...}}}}',
        f"TensorFlow: tf.saved_model.load(PATH).signatures['{EMBED_TRACK}']"
        "(waveform=..., length_samples=...)['embedding']",
        "Python: kerasrep.load(PATH).embed(waveform, sample_rate_hz)",
        f"Python, from a server: kerasrep.serving.client.Client('grpc://HOST:8500', '{name}')"
        ".embed(waveform, sample_rate_hz)",
    )


def _front_end(audio: AudioSettings) -> dict[str, Any]:
    return {
        "channels": constants.N_CHANNELS,
        "segment_seconds": audio.segment_seconds,
        "fft_samples": audio.fft_samples,
        "hop_samples": audio.hop_samples,
        "window": "hann",
        "centred": True,
        "frames": audio.segment_frames,
        "mel_bands": audio.n_mels,
        "mel_scale": "slaney",
        "decibels": {
            "of": "power",
            "reference": constants.DB_REFERENCE if audio.reference == "absolute" else audio.reference,
            "amin": constants.DB_AMIN,
            "top_db": constants.DB_TOP,
        },
        "standardised": "per band, with the training set's mean and standard deviation",
    }


def _signatures(widths: Mapping[str, int], segment_samples: int) -> dict[str, Any]:
    return {
        SERVING_DEFAULT: {
            "inputs": {"waveform": f"float32 [batch, {segment_samples}, {constants.N_CHANNELS}]"},
            "outputs": {name: f"float32 [batch, {width}]" for name, width in widths.items()},
            "does": "one embedding per segment, the branches side by side",
        },
        EMBED_TRACK: {
            "inputs": {
                "waveform": f"float32 [batch, samples, {constants.N_CHANNELS}]",
                "length_samples": "int32 [batch]",
            },
            "outputs": {
                name: f"float32 [batch, {2 * width}]" for name, width in whole_outputs(widths).items()
            },
            "does": "mean, then standard deviation, over consecutive segments of each track; samples at or "
            "beyond length_samples are ignored, the last segment is padded with zeros, and a length of 0 is "
            "one silent segment",
        },
    }


def licence_lines(table: Path) -> tuple[str, ...]:
    """What a table of licences means for weights, for a card; descriptions, not legal advice.

    Args:
        table: TSV or CSV, one row per recording: `path`, `title`, `author`, `licence`, `package`, `source`.

    Raises:
        DataError: Where it cannot be read, has no row, or a row names no licence.
    """
    counts: Counter[str] = Counter()
    for place, (_, _, _, licence, _, _) in read_rows(table, LICENCE_COLUMNS):
        if not licence:
            raise DataError(f"{place}: names no licence; give one, or leave the recording out")
        counts[licence] += 1
    if not counts:
        raise DataError(f"{table}: has no row; give a table of the recordings that were trained on")
    told = ", ".join(f"{licence} ({count})" for licence, count in counts.most_common())
    return (
        f"Trained on {counts.total()} recordings under these licences: {told}. Titles, authors and sources "
        f"are in {LICENCES_FILE} beside this card.",
        NOT_SETTLED,
    )
