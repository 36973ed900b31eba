"""From a study recipe to the scores of all its runs: check the tasks, prepare once, make the runs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kerasrep.errors import DataError, RunError
from kerasrep.experiments.job import Job, RunFolder, StudyFolder
from kerasrep.experiments.study.design import Design
from kerasrep.experiments.study.design_file import write_design
from kerasrep.experiments.study.plan import PlannedRun, check_trained
from kerasrep.experiments.study.processes import RunMaker, Slot
from kerasrep.experiments.study.recipe import Study
from kerasrep.experiments.study.schedule import Progress, Schedule
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.file import write_recipe
from kerasrep.runtime.pool.base import Pool
from kerasrep.storage.run_directory import read_json, write_text

CHECK = ".check"


def begin(folder: StudyFolder, study: Study, design: Design, runs: Sequence[PlannedRun]) -> None:
    """Write recipe, design and jobs.

    Raises:
        RecipeError: Where the folder holds runs that were trained with other settings.
    """
    check_trained(folder, runs)
    write_text(folder.recipe, strict_yaml.dump(study.recipe.model_dump(mode="json")))
    write_design(folder.design, design.cells)
    for run in runs:
        folder.run(run.name).give(run.job, run.recipe)


def finished(folder: StudyFolder, runs: Sequence[PlannedRun]) -> list[str]:
    """Runs whose scores are there and still valid."""
    return [run.name for run in runs if _key_of(folder.run(run.name)) == run.job.key]


def make_runs(
    folder: StudyFolder,
    study: Study,
    runs: Sequence[PlannedRun],
    pool: Pool[Path],
    listener: Callable[[Progress, str], None],
    ray: str | None = None,
) -> Progress:
    """Make all runs that are not done yet.

    Args:
        folder: Of the study.
        study: Its recipe.
        runs: All.
        pool: Who makes them.
        listener: Told how far they are (see `Schedule`).
        ray: Address of a Ray cluster that decodes the corpus, where that is not done.

    Raises:
        Stopped: On SIGINT, SIGTERM or SIGHUP.
        RunError: Where corpus or tasks cannot be used, before any run; or nobody is left to make runs.
    """
    done = finished(folder, runs)
    if len(done) < len(runs):
        _check_tasks(folder, runs[0].job)
        _prepare(folder, study, ray)
    with _shared_checks(folder, runs):
        return Schedule(folder, pool, study.recipe.retries, listener).run(runs, done)


@contextlib.contextmanager
def _shared_checks(folder: StudyFolder, runs: Sequence[PlannedRun]) -> Iterator[None]:
    """Shards that one run has compared with their checksums are not read again by the others."""
    checked = folder.run(runs[0].name).checked
    shutil.rmtree(checked, ignore_errors=True)  # of a command that was killed
    with contextlib.suppress(OSError):  # then each compares them by itself
        checked.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(checked, ignore_errors=True)


def _prepare(folder: StudyFolder, study: Study, ray: str | None) -> None:
    """Shards and targets of each seed, which all its runs share."""
    design = study.recipe.design
    code = "import sys; from kerasrep.cli.prepare import entry; sys.exit(entry())"
    for seed in study.recipe.seeds:
        recipe = study.run_recipe("prepare", design.strategies[0], design.sources, seed)
        path = folder.root / f"prepare.s{seed}.yaml"
        write_recipe(path, recipe)
        options = [str(path), "--quiet", *([] if ray is None else ["--ray", ray])]
        result = subprocess.run([sys.executable, "-c", code, *options], check=False)
        if result.returncode:
            raise RunError(f"{path}: its corpus could not be prepared; see the line above")


def _check_tasks(folder: StudyFolder, like: Job) -> None:
    """Read the tasks once in a process of its own, so that what is missing is told before any work."""
    run = folder.run(CHECK)
    job = like.model_copy(
        update={
            "name": CHECK,
            "kind": "check",
            "parts": (),
            "export": False,
            "key": "",
            "representation": None,
        }
    )
    run.give(job)
    run.log.unlink(missing_ok=True)
    ended = RunMaker(Slot())(run.root).value
    if ended.code:
        raise RunError(ended.reason)


def _key_of(run: RunFolder) -> str | None:
    if not run.scores.is_file():
        return None
    try:
        found = read_json(run.scores)
    except DataError:
        return None
    return str(found.get("key")) if isinstance(found, dict) else None
