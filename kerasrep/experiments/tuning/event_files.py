"""All trials in TensorBoard's HParams: settings, score and how each ended; and their losses by epoch."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api, api_pb2, metadata, plugin_data_pb2, summary_v2

from kerasrep.experiments.tuning.directory import TrialResult, TuningDirectory
from kerasrep.experiments.tuning.reading import Tuning, takes_fractions
from kerasrep.experiments.tuning.settings import Parameter
from kerasrep.report.event_files import scalars_event, write_events

SCORE = "score"


def write_experiment(directory: TuningDirectory, tuning: Tuning) -> None:
    """Say which settings and metrics there are."""
    settings = [api.HParam(key, _domain(key, parameter)) for key, parameter in tuning.space.items()]
    metrics = [
        api.Metric(SCORE, display_name=SCORE, description=tuning.score_text),
        api.Metric("epochs", display_name="epochs"),
    ]
    summary = summary_v2.hparams_config_pb(settings, metrics, time_created_secs=0.0)
    write_events(directory.tensorboard, [event_pb2.Event(step=0, summary=summary)], 0.0)


def write_trial(directory: TuningDirectory, tuning: Tuning, result: TrialResult) -> None:
    """Write one trial, done or not, as one session of the experiment."""
    start = result.ended - result.seconds
    values = {key: _shown(parameter, result.values[key]) for key, parameter in tuning.space.items()}
    events = [event_pb2.Event(step=0, summary=summary_v2.hparams_pb(values, result.trial, start))]
    events += _curves(directory.trial(result.trial).run.history)
    scalars = {"epochs": float(result.epochs)}
    if result.score is not None:
        scalars[SCORE] = result.score
        scalars |= {f"score/{name}": value for name, value in result.details.items()}
    events.append(scalars_event(scalars, result.epochs))
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


def _domain(key: str, parameter: Parameter) -> Any:
    if parameter.choice is not None:
        return api.Discrete([_shown(parameter, value) for value in parameter.choice])
    low, high = parameter.min, parameter.max
    if takes_fractions(key):
        return api.RealInterval(float(low or 0), float(high or 0))
    return api.IntInterval(int(low or 0), int(high or 0))


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
            losses = {name: float(text) for name, text in row.items() if "_loss/" in name and text}
            yield scalars_event(losses, int(float(row["epoch"])))
