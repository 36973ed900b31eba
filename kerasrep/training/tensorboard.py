"""What TensorBoard shows of a run: scalars, images, sounds, graph, histograms, projector, hyperparameters.

TensorBoard lays curves of the same name in different runs over each other, so that a run has two folders of
event files: `training` and `validation`. It sorts groups of charts by name: `loss` is the first.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.data.batches import SplitExamples
from kerasrep.data.crops import read_crops
from kerasrep.data.shards import FULL_SCALE, ShardIndex
from kerasrep.errors import one_line
from kerasrep.model.dropout import Share
from kerasrep.model.strategies import Network
from kerasrep.recipe.file import recipe_text
from kerasrep.recipe.network import AudioSettings
from kerasrep.recipe.schema import Recipe
from kerasrep.report.drawing import one_panel, rendered_png
from kerasrep.report.event_files import shown_settings
from kerasrep.report.wording import shorten
from kerasrep.storage.atomic import storage_faults
from kerasrep.storage.run_directory import PreparedDirectory, read_json
from kerasrep.training.augmentation import ON_WAVEFORM, Draws, change_mel, change_waveform
from kerasrep.training.projector import label_columns, write_projector
from kerasrep.training.summary import Summary

MAX_PROJECTED_TRACKS = 2000
SHOWN_CROPS = 4
TRAINING, VALIDATION = "training", "validation"
#: Column of the history, up to its source -> folder, name, and what it means.
CURVES = {
    "train_loss": (
        TRAINING,
        "loss",
        "Mean over the batches since the last point, with dropout and augmentation.",
    ),
    "validation_loss": (
        VALIDATION,
        "loss",
        "Over all held-out tracks; `mean` is over the sources that decide.",
    ),
    "train_accuracy": (
        TRAINING,
        "top_1_accuracy",
        "Share of examples whose most probable class is the target's.",
    ),
    "validation_accuracy": (VALIDATION, "top_1_accuracy", "The same over all held-out tracks."),
    "learning_rate": (
        TRAINING,
        "progress/learning_rate",
        "As the recipe's `training.decay` and warm-up say.",
    ),
    "segments_per_second": (TRAINING, "progress/segments_per_second", "Of all replicas together."),
}


class Board:
    """Event files in the run's TensorBoard folder."""

    def __init__(self, folder: Path, suffix: str = "") -> None:
        """Open event files; `suffix` tells files of one run apart."""
        self._folder = folder
        with storage_faults(folder):
            self._writers = {
                part: tf.summary.create_file_writer(str(folder / part), filename_suffix=suffix or ".train")
                for part in (TRAINING, VALIDATION)
            }

    @contextlib.contextmanager
    def _at(self, step: int, part: str) -> Iterator[None]:
        """Write at a step; TensorFlow writes to the file whenever its buffer is full."""
        with storage_faults(self._folder), self._writers[part].as_default(step):
            yield

    def scalars(self, row: Mapping[str, float], step: int) -> None:
        """Write what a row of the history has of `CURVES`."""
        for column, value in row.items():
            kind, slash, source = column.partition("/")
            if kind in CURVES:
                part, name, description = CURVES[kind]
                with self._at(step, part):
                    tf.summary.scalar(f"{name}{slash}{source}", value, description=description)

    def recipe(self, recipe: Recipe) -> None:
        """Show the recipe as it is run."""
        lines = recipe_text(recipe).splitlines()
        with self._at(0, TRAINING):
            tf.summary.text("recipe", "\n".join(f"    {line}" for line in lines))  # Markdown's code

    def crops(
        self, network: Network, recipe: Recipe, index: ShardIndex, rows: NDArray[np.int64], tracks: Path
    ) -> None:
        """Show log-mels of the middle of some validation tracks, and let them be heard.

        Where the recipe changes crops in training, these are also shown with such changes.

        Args:
            network: Whose front end is shown.
            recipe: Of the run.
            index: Where the tracks lie.
            rows: int64 [tracks], validation rows.
            tracks: As `projector` takes it.
        """
        rows = rows[:SHOWN_CROPS]
        waveforms = tf.constant(_middles(network, index, rows))
        names = _names(tracks, index.track_ids[rows].tolist())
        listed = "  \n".join(f"{number}: {name}" for number, name in enumerate(names))
        mels = network.features(waveforms)
        self._sounds("", waveforms, _decibels(network, mels), names, recipe.audio, f"\n\n{listed}")
        if changes := recipe.augment.names():
            draws = Draws(recipe.seed, tf.constant(0, tf.int64), Share(tf.constant(0, tf.int64), 1, False))
            changed = change_waveform(waveforms, changes, recipe.augment, draws)
            mels = change_mel(network.features(changed), changes, recipe.augment, network.scaler, draws)
            said = f" After the changes of the recipe ({', '.join(changes)})"
            if seen := [name for name in changes if name not in ON_WAVEFORM]:
                said += f"; {', '.join(seen)} can be seen, not heard"
            described = f"{said}.\n\n{listed}"
            self._sounds("_augmented", changed, _decibels(network, mels), names, recipe.audio, described)

    def _sounds(
        self,
        suffix: str,
        waveforms: tf.Tensor,
        decibels: NDArray[np.float32],
        names: Sequence[str],
        audio: AudioSettings,
        description: str,
    ) -> None:
        """Waveforms [crops, samples, channels] and their log-mels [crops, frames, mels, channels]."""
        pictures = [_mel_picture(mel[..., 0], name, audio) for mel, name in zip(decibels, names, strict=True)]
        with self._at(0, VALIDATION):
            tf.summary.image(
                f"sound/log_mel{suffix}",
                np.stack(pictures),
                max_outputs=SHOWN_CROPS,
                description=f"Left channel.{description}",
            )
            tf.summary.audio(
                f"sound/crop{suffix}",
                waveforms,
                audio.sample_rate_hz,
                max_outputs=SHOWN_CROPS,
                description=f"What the pictures show.{description}",
            )

    def graph(self, network: Network) -> None:
        """Show the graph of the trunk."""
        mel = tf.TensorSpec((None, *network.trunk.inputs[0].shape[1:]), tf.float32)
        traced = tf.function(lambda x: list(network.trunk(x).values())).get_concrete_function(mel)
        with self._at(0, TRAINING):
            tf.summary.graph(traced.graph)

    def histograms(self, network: Network, step: int) -> None:
        """Show the distribution of every weight; variable paths are unique.

        Counted in NumPy: `tf.summary.histogram` writes the same, and takes three times as long.
        """
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        with self._at(step, TRAINING):
            for group in network.groups:
                for variable in network.variables(group):
                    histogram = histogram_pb(f"weights/{group}/{variable.path}", variable.numpy())
                    tf.summary.experimental.write_raw_pb(histogram.SerializeToString())

    def hparams(self, recipe: Recipe, summary: Summary) -> None:
        """List the run among others by settings and final losses."""
        from tensorboard.plugins.hparams import api

        losses = {row.source: row.after for row in summary.rows}
        losses["mean"] = float(np.mean(list(losses.values())))
        with self._at(0, VALIDATION):
            api.hparams(
                shown_settings(recipe), trial_id=f"{recipe.name} {self._folder.absolute().parent.name}"
            )
            for source, loss in losses.items():
                tf.summary.scalar(f"loss_kept/{source}", loss, description="Loss of the state that is kept.")

    def projector(
        self, network: Network, index: ShardIndex, held_out: SplitExamples, prepared: PreparedDirectory
    ) -> None:
        """Lay out validation tracks by their embedding, with their labels and log-mels.

        Args:
            network: With trained weights.
            index: Where the tracks lie.
            held_out: Validation tracks and their targets.
            prepared: Whose table of tracks and report of the targets are read.
        """
        rows = held_out.rows[:MAX_PROJECTED_TRACKS]
        vectors, mels = [], []
        for part in np.split(rows, range(32, len(rows), 32)):
            waveforms = _middles(network, index, part)
            vectors.append(network.embedder(waveforms)["embedding"].numpy())
            mels.append(_decibels(network, network.features(waveforms))[..., 0])
        of_tracks = _rows_of_tracks(prepared.tracks, index.track_ids[rows].tolist())
        columns = {
            name: [row.get(name) or "" for row in of_tracks]
            for name in ("track_id", "label", "artist", "title")
        }
        report = read_json(prepared.topics) if prepared.topics.is_file() else {}
        found = label_columns(held_out, rows, report)
        columns |= {f"{source} target": texts for source, texts in found.items()}  # `artist` is also a source
        folder = self._folder / VALIDATION
        write_projector(folder, np.concatenate(vectors), columns, np.concatenate(mels))

    def flush(self) -> None:
        """Write what is pending."""
        with storage_faults(self._folder):
            for writer in self._writers.values():
                writer.flush()

    def close(self) -> None:
        """Write what is pending and close the files."""
        with storage_faults(self._folder):
            for writer in self._writers.values():
                writer.close()


def _middles(network: Network, index: ShardIndex, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The segment in the middle of each track, float32 [tracks, segment_samples, 2]."""
    segment = int(network.embedder.inputs[0].shape[1])
    middle = (index.samples[rows] - segment) // 2
    return read_crops(index, rows, middle, segment).astype(np.float32) / FULL_SCALE


def _decibels(network: Network, mels: tf.Tensor) -> NDArray[np.float32]:
    """Standardised log-mels [tracks, frames, mels, channels] in decibels again."""
    scaler = network.scaler
    decibels: NDArray[np.float32] = np.asarray(mels) * scaler.sd[:, np.newaxis] + scaler.mean[:, np.newaxis]
    return decibels


def _mel_picture(decibels: NDArray[np.float32], name: str, audio: AudioSettings) -> NDArray[np.uint8]:
    """Log-mels [frames, mels] as a picture, [height, width, 3], with time, frequency and decibels."""
    from librosa import mel_frequencies
    from matplotlib.image import imread

    bands_hz = mel_frequencies(n_mels=audio.n_mels + 2, fmin=0, fmax=audio.sample_rate_hz / 2)[1:-1]
    marks_hz = [mark for mark in (125, 500, 1000, 2000, 4000, 8000) if mark < bands_hz[-1]]
    with one_panel(3.2) as (figure, axes):
        extent = (0.0, audio.segment_seconds, -0.5, audio.n_mels - 0.5)
        image = axes.imshow(decibels.T, origin="lower", aspect="auto", extent=extent, cmap="magma")
        axes.set_yticks(np.interp(marks_hz, bands_hz, np.arange(audio.n_mels)), [f"{m:,}" for m in marks_hz])
        axes.set(title=one_line(shorten(name, 60)), xlabel="time (s)", ylabel="mel band (Hz)")
        figure.colorbar(image, label="level (dB)")
        png = rendered_png(figure, f"Log-mels of {name}")
    pixels: NDArray[np.uint8] = np.round(imread(io.BytesIO(png))[..., :3] * 255).astype(np.uint8)
    return pixels


def _rows_of_tracks(tracks: Path, wanted: Sequence[str]) -> list[dict[str, str]]:
    """What the table of tracks says of each."""
    found: dict[str, dict[str, str]] = {}
    if tracks.is_file():
        with tracks.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                found[row["track_id"]] = row
    return [{"track_id": track, **found.get(track, {})} for track in wanted]


def _names(tracks: Path, wanted: Sequence[str]) -> list[str]:
    """Title and artist of each track, or its identity."""
    rows = _rows_of_tracks(tracks, wanted)
    return [
        " - ".join(filter(None, (row.get("artist"), row.get("title")))) or row["track_id"] for row in rows
    ]
