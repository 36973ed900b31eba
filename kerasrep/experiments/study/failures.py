"""Why runs failed: what their processes said, and the record that a study keeps of it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence

from kerasrep.experiments.job import RunFolder, StudyFolder
from kerasrep.experiments.study.plan import PlannedRun

COMMAND = "kerasrep-study"


def failure_of(folder: RunFolder, code: int) -> str:
    """The error line in a run's log, or how its process ended."""
    try:
        lines = folder.log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    marker = f"{COMMAND}: error: "
    for line in reversed(lines[-50:]):
        if line.startswith(marker):
            return line.removeprefix(marker)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"the process {how}; see {folder.log}"


def note_failure(folder: RunFolder, code: int | None, reason: str) -> None:
    """Add a line to the run's failures."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with folder.failures.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"when": when, "code": code, "reason": reason}) + "\n")


def recorded_failures(folder: StudyFolder, runs: Sequence[PlannedRun], done: Sequence[str]) -> dict[str, str]:
    """Why runs that are not done failed last, in this call or an earlier one; others are left out.

    Args:
        folder: Of the study.
        runs: All; what a run needs stands before it.
        done: Runs that are done.

    Returns:
        Run -> reason.
    """
    found: dict[str, str] = {}
    for run in runs:
        if run.name in done:
            continue
        lost = [name for name in run.needs if name in found]
        reason = f"needs {lost[0]}, which failed" if lost else _last_reason(folder.run(run.name))
        if reason:
            found[run.name] = reason
    return found


def _last_reason(folder: RunFolder) -> str:
    try:
        line = folder.failures.read_text(encoding="utf-8", errors="replace").splitlines()[-1]
        return str(json.loads(line)["reason"])
    except (FileNotFoundError, IndexError):
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return f"failed, but its record cannot be read; see {folder.failures}"
