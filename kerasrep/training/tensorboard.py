"""What TensorBoard shows of a run: scalars, images, the graph, histograms, projector, hyperparameters."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.data.crops import read_crops
from kerasrep.data.shards import FULL_SCALE, ShardIndex
from kerasrep.model.strategies import Network
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.atomic import storage_faults
from kerasrep.storage.run_directory import write_text
from kerasrep.training.summary import Summary

MAX_PROJECTED_TRACKS = 2000
SHOWN_MELS = 4


class Board:
    """An event file in the run's TensorBoard folder."""

    def __init__(self, folder: Path, suffix: str = "") -> None:
        """Open an event file; `suffix` tells files of one run apart."""
        self._folder = folder
        with storage_faults(folder):
            self._writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix or ".train")

    @contextlib.contextmanager
    def _at(self, step: int) -> Iterator[None]:
        """Write at a step; TensorFlow writes to the file whenever its buffer is full."""
        with storage_faults(self._folder), self._writer.as_default(step):
            yield

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars."""
        with self._at(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def mels(self, mels: NDArray[np.float32]) -> None:
        """Show standardised log-mels, [segments, frames, mels, 2], left channel, low bands below."""
        pictures = np.clip((mels[:SHOWN_MELS, :, ::-1, :1] + 3.0) / 6.0, 0.0, 1.0).transpose(0, 2, 1, 3)
        with self._at(0):
            tf.summary.image("log_mel", pictures, max_outputs=SHOWN_MELS)

    def graph(self, network: Network) -> None:
        """Show the graph of the trunk."""
        mel = tf.TensorSpec((None, *network.trunk.inputs[0].shape[1:]), tf.float32)
        traced = tf.function(lambda x: list(network.trunk(x).values())).get_concrete_function(mel)
        with self._at(0):
            tf.summary.graph(traced.graph)

    def histograms(self, network: Network, step: int) -> None:
        """Show the distribution of every weight; variable paths are unique."""
        with self._at(step):
            for group in network.groups:
                for variable in network.variables(group):
                    tf.summary.histogram(f"weights/{group}/{variable.path}", variable.numpy())

    def hparams(self, recipe: Recipe, summary: Summary) -> None:
        """List the run among others by settings and final losses."""
        from tensorboard.plugins.hparams import api

        with self._at(0):
            api.hparams(_hparams(recipe), trial_id=recipe.fingerprint())
            for row in summary.rows:
                tf.summary.scalar(f"final_loss/{row.source}", row.after)
            tf.summary.scalar("final_loss/mean", float(np.mean([row.after for row in summary.rows])))

    def projector(self, network: Network, index: ShardIndex, rows: NDArray[np.int64], tracks: Path) -> None:
        """Lay out validation tracks by their embedding, with their labels.

        Args:
            network: With trained weights.
            index: Where the tracks lie.
            rows: int64 [tracks], validation rows.
            tracks: TSV of the prepared data: track_id, split, title, artist, label.
        """
        rows = rows[:MAX_PROJECTED_TRACKS]
        segment = int(network.embedder.inputs[0].shape[1])
        middle = (index.samples[rows] - segment) // 2
        vectors = []
        for first in range(0, len(rows), 32):
            part = slice(first, first + 32)
            crops = read_crops(index, rows[part], middle[part], segment).astype(np.float32) / FULL_SCALE
            vectors.append(network.embedder(crops)["embedding"].numpy())
        lines = ["\t".join(f"{value:.4g}" for value in vector) for vector in np.concatenate(vectors)]
        write_text(self._folder / "embeddings.tsv", "\n".join(lines) + "\n")
        write_text(self._folder / "metadata.tsv", _metadata(tracks, index.track_ids[rows].tolist()))
        write_text(
            self._folder / "projector_config.pbtxt",
            'embeddings {\n  tensor_name: "validation tracks"\n  tensor_path: "embeddings.tsv"\n'
            '  metadata_path: "metadata.tsv"\n}\n',
        )

    def flush(self) -> None:
        """Write what is pending."""
        with storage_faults(self._folder):
            self._writer.flush()

    def close(self) -> None:
        """Write what is pending and close the file."""
        with storage_faults(self._folder):
            self._writer.close()


def _hparams(recipe: Recipe) -> dict[str, Any]:
    training = recipe.training
    return {
        "strategy": recipe.strategy,
        "sources": ",".join(recipe.sources),
        "schedule": training.schedule,
        "learning_rate": training.learning_rate,
        "decay": training.decay,
        "epochs": training.epochs,
        "batch": recipe.batches.size,
        "dropout": recipe.model.dropout,
        "l2": recipe.model.l2,
        "width": recipe.model.width,
        "seed": recipe.seed,
    }


def _metadata(tracks: Path, wanted: list[str]) -> str:
    """Projector's metadata: a header, then one line a track in the order of `wanted`."""
    columns = ("track_id", "label", "artist", "title")
    found: dict[str, dict[str, str]] = {}
    if tracks.is_file():
        with tracks.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                found[row["track_id"]] = row
    lines = ["\t".join(columns)]
    for track in wanted:
        row = {"track_id": track, **found.get(track, {})}
        lines.append("\t".join((row.get(column) or "-").replace("\t", " ") for column in columns))
    return "\n".join(lines) + "\n"
