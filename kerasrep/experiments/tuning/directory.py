"""Every file that a tuning writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerasrep.experiments.job import RunFolder
from kerasrep.storage.run_directory import LOG_NAME, RunDirectory

#: Folder in which keras-tuner keeps its state and one folder a trial.
TRIALS = "trials"


class TrialFolder(RunFolder):
    """What one trial writes: `trials/trial_NUMBER`, in which keras-tuner keeps `trial.json`."""

    @property
    def training(self) -> Path:
        """Run directory of the training."""
        return self.root / "run"

    @property
    def run(self) -> RunDirectory:
        """The files of the training."""
        return RunDirectory(self.training)

    @property
    def result(self) -> Path:
        """JSON, written last: how the trial ended (see `tuning.trials`)."""
        return self.root / "result.json"


@dataclass(frozen=True)
class TuningDirectory:
    """What a tuning writes.

    Attributes:
        root: The folder.
    """

    root: Path

    @property
    def tuning(self) -> Path:
        """YAML: the tuning recipe with overrides applied and the base recipe inside."""
        return self.root / "tuning.yaml"

    @property
    def oracle(self) -> Path:
        """JSON: keras-tuner's memory of what was tried."""
        return self.root / TRIALS / "oracle.json"

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of a trial."""
        return TrialFolder(self.root / TRIALS / f"trial_{trial_id}")

    @property
    def best(self) -> Path:
        """YAML: the best recipe, ready for `kerasrep-train`."""
        return self.root / "best.yaml"

    @property
    def table(self) -> Path:
        """CSV: one line a trial."""
        return self.root / "trials.csv"

    @property
    def picture(self) -> Path:
        """PNG: scores by trial and by setting."""
        return self.root / "trials.png"

    @property
    def log(self) -> Path:
        """JSON lines: what happened, session after session (see `run_log`)."""
        return self.root / LOG_NAME

    @property
    def tensorboard(self) -> Path:
        """Folder of event files, one run a trial."""
        return self.root / "tensorboard"
