"""The card of a run: what ran, on what, with which data, how it ended and what it scored."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import kerasrep
from kerasrep.recipe import Recipe
from kerasrep.run_directory import write_json
from kerasrep.training.checkpoint import Progress
from kerasrep.training.devices import Execution
from kerasrep.training.summary import Summary

PACKAGES = ("tensorflow", "keras", "kapre", "numpy", "scikit-learn", "librosa", "soundfile", "soxr")


class RunCard:
    """Writes the card at the beginning and at the end of a run."""

    def __init__(
        self, recipe: Recipe, execution: Execution, data_fingerprint: str, parameters: Mapping[str, int]
    ) -> None:
        """Collect what is known before training."""
        self._fixed: dict[str, Any] = {
            "kerasrep": kerasrep.__version__,
            "recipe": recipe.as_dict(),
            "recipe_fingerprint": recipe.fingerprint(),
            "data_fingerprint": data_fingerprint,
            "parameters": {**parameters, "total": sum(parameters.values())},
            "batch_norm_over_replicas": recipe.distribution.batch_norm,
            "execution": execution.as_dict(),
            "versions": _versions(),
            "platform": platform.platform(),
            "started": _now(),
        }

    def write(self, path: Path, ended: str, progress: Progress, summary: Summary | None = None) -> None:
        """Write the card.

        Args:
            path: Where.
            ended: `running`, `done`, `interrupted`, or `failed: ...`.
            progress: Steps and seconds so far.
            summary: Scores, once there are any.
        """
        card = dict(self._fixed)
        card |= {"ended": ended, "written": _now(), "steps": progress.step}
        card["training_seconds"] = round(progress.seconds, 1)
        if summary is not None:
            card["scores"] = summary.as_dict()
        write_json(path, card)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
