"""The card of a run: what ran, on what, with which data, how it ended and what it scored."""

from __future__ import annotations

import contextlib
import datetime
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kerasrep
from kerasrep.errors import DataError
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.extras import versions
from kerasrep.runtime.run_log import peak_memory_mib
from kerasrep.storage.run_directory import read_json, write_json
from kerasrep.training.checkpoint import Progress
from kerasrep.training.devices import Execution
from kerasrep.training.summary import Summary

#: What a card says until its run has ended: it is under way, or was killed.
UNFINISHED = "unfinished"
PACKAGES = ("tensorflow", "keras", "kapre", "numpy", "scikit-learn", "librosa", "soundfile", "av", "soxr")


class RunCard:
    """Writes the card at the beginning and at the end of a run.

    `sessions` says for each time that the run was begun or resumed: when, how it ended, how far it came.
    """

    def __init__(
        self,
        recipe: Recipe,
        execution: Execution,
        data_fingerprint: str,
        parameters: Mapping[str, int],
        earlier: Path,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        """Collect what is known before training; `earlier` is the card of the session before."""
        self._earlier = _sessions_before(earlier)
        self._fixed: dict[str, Any] = {
            "kerasrep": kerasrep.__version__,
            "recipe": recipe.as_dict(),
            "recipe_fingerprint": recipe.fingerprint(),
            "data_fingerprint": data_fingerprint,
            "start": start,
            "parameters": {**parameters, "total": sum(parameters.values())},
            "batch_norm_over_replicas": recipe.distribution.batch_norm,
            "execution": execution.as_dict(),
            "versions": {"python": platform.python_version()} | versions(PACKAGES),
            "platform": platform.platform(),
            "started": _now(),
        }

    def write(
        self, path: Path, progress: Progress, ended: str = UNFINISHED, summary: Summary | None = None
    ) -> None:
        """Write the card.

        Args:
            path: Where.
            progress: Steps and seconds so far.
            ended: `unfinished`, `done`, `stopped by SIGNAL`, or `failed: ...`.
            summary: Scores, once there are any.
        """
        card = dict(self._fixed)
        card |= {"ended": ended, "written": _now(), "steps": progress.step}
        card["training_seconds"] = round(progress.seconds, 1)
        card["peak_memory_mib"] = peak_memory_mib()
        session = {key: card[key] for key in ("started", "written", "ended", "steps", "peak_memory_mib")}
        card["sessions"] = [*self._earlier, session]
        if summary is not None:
            card["scores"] = summary.as_dict()
        write_json(path, card)


def _sessions_before(path: Path) -> list[dict[str, Any]]:
    """Sessions of an earlier card; one without an end was killed, as this process holds the run now."""
    found: Any = None
    with contextlib.suppress(DataError):
        found = read_json(path) if path.is_file() else None
    sessions = found.get("sessions", found.get("sittings")) if isinstance(found, dict) else None
    if not isinstance(sessions, list):
        return []
    before = [dict(session) for session in sessions if isinstance(session, dict)]
    for session in before:
        if session.get("ended") == UNFINISHED:
            session["ended"] = "killed"
    return before


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
