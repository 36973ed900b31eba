"""All trials in TensorBoard's HParams: settings, score and how each ended; and their losses by epoch.

An experiment is not described: HParams would show its settings alone, and blank rows for all other runs
below the same folder.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2

from kerasrep.experiments.tuning.directory import TrialResult, TuningDirectory
from kerasrep.experiments.tuning.reading import Tuning
from kerasrep.experiments.tuning.settings import Parameter
from kerasrep.report.event_files import scalars_event, shown_settings, write_events

SCORE = "score"


def write_trial(directory: TuningDirectory, tuning: Tuning, result: TrialResult) -> None:
    """Write one trial, done or not, as one session of the experiment."""
    start = result.ended - result.seconds
    values = shown_settings(tuning.base) | {"training.epochs": result.epochs}
    values |= {key: _shown(parameter, result.values[key]) for key, parameter in tuning.space.items()}
    name = f"{tuning.base.name} {directory.root.absolute().name} trial {result.trial}"
    events = [event_pb2.Event(step=0, summary=summary_v2.hparams_pb(values, name, start))]
    events += _curves(directory.trial(result.trial).run.history)
    if result.score is not None:
        scores = {SCORE: result.score} | {f"{SCORE}/{part}": value for part, value in result.details.items()}
        events.append(scalars_event(scores, result.epochs))
    status = api_pb2.STATUS_SUCCESS if result.status == "done" else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=result.ended)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    value = summary_pb2.Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    events.append(event_pb2.Event(step=0, summary=summary_pb2.Summary(value=[value])))
    write_events(directory.tensorboard / f"trial-{result.trial}", events, result.ended)


def _shown(parameter: Parameter, value: Any) -> Any:
    """A value that HParams can show; all as text where choices are of mixed kinds, for it takes one kind."""
    kinds = {type(_plain(choice)) for choice in parameter.choice or ()}
    return str(value) if len(kinds) > 1 else _plain(value)


def _plain(value: Any) -> Any:
    """A value as it is, or lists and null as text."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _curves(history: Path) -> Iterator[Any]:
    """Losses by epoch, as the run's history has them."""
    if not history.is_file():
        return
    with history.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            prefix = "validation_loss/"
            losses = {
                f"loss/{n.removeprefix(prefix)}": float(v)
                for n, v in row.items()
                if n.startswith(prefix) and v
            }
            yield scalars_event(losses, int(float(row["epoch"])))
