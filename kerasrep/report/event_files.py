"""TensorBoard's files, written with TensorBoard's own parts and without TensorFlow.

`tensorboard.summary.writer.event_file_writer` would import TensorFlow for its file system; the record writer
and the protocol buffers below it do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from kerasrep.recipe.schema import Recipe
from kerasrep.storage.atomic import atomic_file

#: One name for ever, so that a second file replaces the first; TensorBoard looks for `tfevents` in it.
EVENT_FILE = "events.out.tfevents.0000000000.kerasrep"

#: Settings that HParams shows of every run and trial: one set, or their rows are blank for each other.
SETTINGS = (
    *("strategy", "training.schedule", "training.learning_rate", "training.decay", "training.epochs"),
    *("batches.size", "model.trunk", "model.width", "model.dropout", "model.l2", "seed"),
)


def shown_settings(recipe: Recipe) -> dict[str, bool | int | float | str]:
    """What HParams shows of a recipe, by the recipe's own keys."""
    shown: dict[str, bool | int | float | str] = {"sources": ",".join(recipe.sources)}
    for key in SETTINGS:
        value: Any = recipe
        for part in key.split("."):
            value = getattr(value, part)
        shown[key] = value
    return shown


def scalars_event(values: Mapping[str, float], step: int) -> Any:
    """An event with scalars, by tag."""
    found = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return event_pb2.Event(step=step, summary=summary_pb2.Summary(value=found))


def write_events(folder: Path, events: Iterable[Any], wall_time: float) -> Path:
    """Write the event file of a folder, whole or not at all; returns it."""
    path = folder / EVENT_FILE
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for event in [event_pb2.Event(file_version="brain.Event:2"), *events]:
            event.wall_time = wall_time
            writer.write(event.SerializeToString())
    return path
