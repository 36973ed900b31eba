"""Scores as TensorBoard scalars, written with TensorBoard's own parts and without TensorFlow.

`tensorboard.summary.writer.event_file_writer` would import TensorFlow for its file system; the record writer
and the protocol buffers below it do not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from kerasrep.evaluation.base import Evaluation
from kerasrep.evaluation.report.overview import Overview
from kerasrep.evaluation.results import safe_name
from kerasrep.storage.run_directory import atomic_file

#: One name for ever, so that a second report replaces the first; TensorBoard looks for `tfevents` in it.
EVENT_FILE = "events.out.tfevents.0000000000.kerasrep"


def write_event_files(folder: Path, overview: Overview) -> list[Path]:
    """Write one TensorBoard run a representation, with the tags `TASK/PROBE/METRIC` and folds as steps.

    Args:
        folder: What TensorBoard is started on; a representation is a folder in it.
        overview: Evaluations.

    Returns:
        The event files.
    """
    written = []
    for name in overview.representations:
        evaluations = [e for e in overview.cells.values() if e.representation == name]
        path = folder / safe_name(name) / EVENT_FILE
        _write_events(path, list(_scalars(evaluations)))
        written.append(path)
    return written


def _scalars(evaluations: list[Evaluation]) -> Iterator[tuple[str, int, float]]:
    for evaluation in evaluations:
        for probe in evaluation.probes:
            for score in probe.scores:
                tag = "/".join(map(_tag_part, (evaluation.task, probe.probe, score.metric)))
                yield tag, int(score.fold), float(score.value)


def _tag_part(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode().replace("/", "_")


def _write_events(path: Path, scalars: list[tuple[str, int, float]]) -> None:
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    events = [event_pb2.Event(wall_time=now, file_version="brain.Event:2")]
    for tag, step, value in scalars:
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])
        events.append(event_pb2.Event(wall_time=now, step=step, summary=summary))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
