"""Every file that a tuning writes, and how a trial ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kerasrep.errors import DataError
from kerasrep.experiments.job import RunFolder
from kerasrep.storage.run_directory import LOG_NAME, Folder, Inside, RunDirectory, read_json, write_json

#: Folder in which keras-tuner keeps its state and one folder a trial.
TRIALS = "trials"


class TrialFolder(RunFolder):
    """What one trial writes: `trials/trial_NUMBER`, in which keras-tuner keeps `trial.json`."""

    #: Run directory of the training.
    training = Inside("run")
    #: JSON, written last: how the trial ended (see `TrialResult`).
    result = Inside("result.json")

    @property
    def run(self) -> RunDirectory:
        """The files of the training."""
        return RunDirectory(self.training)


class TuningDirectory(Folder):
    """What a tuning writes."""

    #: YAML: the tuning recipe with overrides applied and the base recipe inside.
    tuning = Inside("tuning.yaml")
    #: JSON: keras-tuner's memory of what was tried.
    oracle = Inside(TRIALS, "oracle.json")
    #: YAML: the best recipe, ready for `kerasrep-train`.
    best = Inside("best.yaml")
    #: CSV: one line a trial.
    table = Inside("trials.csv")
    #: PNG: scores by trial and by setting.
    picture = Inside("trials.png")
    #: HTML: the best trial, picture and table of all.
    page = Inside("report.html")
    #: JSON lines: what happened, session after session (see `run_log`).
    log = Inside(LOG_NAME)
    #: Folder of event files, one run a trial.
    tensorboard = Inside("tensorboard")

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of a trial."""
        return TrialFolder(self.root / TRIALS / f"trial_{trial_id}")


Status = Literal["done", "invalid", "failed"]


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        trial: Its id.
        status: `done`; `invalid`, its recipe is impossible; or `failed`.
        values: Dotted key -> the value that was tried.
        epochs: How long it was trained, those of the trial that it goes on from included.
        score: What the objective says of it; None unless it is done.
        details: Source -> loss relative to the mean-prediction baseline, or task -> score.
        reason: Why it is not done.
        seconds: Wall time, in the session that ended it.
        ended: When, seconds since 1970.
    """

    trial: str
    status: Status
    values: Mapping[str, Any]
    epochs: int
    score: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0
    ended: float = 0.0

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_json(path, asdict(self))


def read_result(path: Path) -> TrialResult | None:
    """How a trial ended, where it did.

    Raises:
        DataError: Where the file is malformed.
    """
    if not path.is_file():
        return None
    value = read_json(path)
    try:
        return TrialResult(**value)
    except TypeError as error:
        raise DataError(
            f"{path}: is not a result of a trial ({error}); delete it to run the trial again"
        ) from error


def best_of(results: Iterable[TrialResult], more_is_better: bool) -> TrialResult | None:
    """The best trial that is done, the earliest of equals."""
    done = [(result.score, result) for result in results if result.score is not None]
    if not done:
        return None
    choose = max if more_is_better else min
    return choose(done, key=lambda pair: pair[0])[1]
