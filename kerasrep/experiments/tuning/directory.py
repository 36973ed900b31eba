"""Every file that a tuning writes."""

from __future__ import annotations

from kerasrep.experiments.job import RunFolder
from kerasrep.storage.run_directory import LOG_NAME, Folder, Inside, RunDirectory

#: Folder in which keras-tuner keeps its state and one folder a trial.
TRIALS = "trials"


class TrialFolder(RunFolder):
    """What one trial writes: `trials/trial_NUMBER`, in which keras-tuner keeps `trial.json`."""

    #: Run directory of the training.
    training = Inside("run")
    #: JSON, written last: how the trial ended (see `tuning.trials`).
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
    #: JSON lines: what happened, session after session (see `run_log`).
    log = Inside(LOG_NAME)
    #: Folder of event files, one run a trial.
    tensorboard = Inside("tensorboard")

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of a trial."""
        return TrialFolder(self.root / TRIALS / f"trial_{trial_id}")
