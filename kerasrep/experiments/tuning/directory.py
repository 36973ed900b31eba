"""Every file that a tuning writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerasrep.storage.run_directory import LOG_NAME, RunDirectory

#: Folder in which keras-tuner keeps its state and one folder a trial.
TRIALS = "trials"


@dataclass(frozen=True)
class TrialDirectory:
    """What one trial writes: `trials/trial_NUMBER`.

    Attributes:
        root: The folder; keras-tuner keeps `trial.json` in it.
    """

    root: Path

    @property
    def run(self) -> RunDirectory:
        """The training: a run directory as any other."""
        return RunDirectory(self.root / "run")

    @property
    def evaluation(self) -> Path:
        """Folder of downstream scores, as `kerasrep-evaluate` writes it."""
        return self.root / "evaluation"

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

    def trial(self, trial_id: str) -> TrialDirectory:
        """The folder of a trial."""
        return TrialDirectory(self.root / TRIALS / f"trial_{trial_id}")

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
        """JSON lines: what happened, sitting after sitting (see `run_log`)."""
        return self.root / LOG_NAME

    @property
    def tensorboard(self) -> Path:
        """Folder of event files, one run a trial."""
        return self.root / "tensorboard"
