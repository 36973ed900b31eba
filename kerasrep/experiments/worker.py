"""One run of a study, or one trial of a tuning: train, export, embed, evaluate.

Every finished stage leaves a marker with the key of what it depends on, so that the same call goes on where
it stopped. The process of a study's run has its standard input from the study: when that is gone, the run
saves its state and ends.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrep.errors import DataError, RecipeError, RunError
from kerasrep.experiments.job import EvaluationSettings, Job, RunFolder, read_job
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import Recipe, fingerprint
from kerasrep.recipe.tasks import TableTask
from kerasrep.runtime.run_log import event, run_log
from kerasrep.runtime.threads import keep_to
from kerasrep.storage.folder_lock import held
from kerasrep.storage.run_directory import RunDirectory, read_object, write_json

if TYPE_CHECKING:
    from kerasrep.embedding.representations import Representation
    from kerasrep.evaluation.base import Evaluation, Task


def work(
    folder: RunFolder, cores: Sequence[int] = (), show_progress: bool = False, report: bool = False
) -> None:
    """Do what a job says, as far as it is not done yet.

    Args:
        folder: Of the run; the job is there.
        cores: The process keeps to these; to any where none is named.
        show_progress: Show the training's bar.
        report: Write what `kerasrep-evaluate` writes of an evaluation.

    Raises:
        KerasrepError: Where something fails; one line says what.
    """
    if cores:
        keep_to(cores)  # before TensorFlow counts them
    # A run whose study was killed may still be saving.
    with held(folder.root), run_log("run", folder.events):
        job = read_job(folder.job)
        if job.kind == "check":
            _check(job)
            return
        facts: dict[str, Any] = {}
        if job.kind in {"train", "validate"}:
            recipe = read_recipe(folder.recipe)
            key = recipe.model_copy(update={"export": type(recipe.export)()}).fingerprint()
            _stage(folder, "train", key, lambda: _train(folder, recipe, show_progress))
            if job.export:
                _stage(folder, "export", key, lambda: _export(folder, recipe))
            facts = _facts(folder.training)
            if job.kind == "validate":
                return
        elif job.kind == "concatenate":
            facts = _sum([_facts(folder.sibling(part).training) for part in job.parts])
        representation = _representation(folder, job)
        evaluations = _evaluate(folder, job, representation, report)
        write_json(folder.scores, _outcome(folder, job, representation, evaluations, facts))


def _stage(folder: RunFolder, stage: str, key: str, do: Callable[[], object]) -> None:
    if folder.done(stage, key):
        return
    print(f"--- {stage}", flush=True)
    event("stage", stage=stage)
    started = time.monotonic()
    do()
    folder.mark(stage, key, time.monotonic() - started)


def _train(folder: RunFolder, recipe: Recipe, show_progress: bool) -> None:
    from kerasrep.api import prepare, train_prepared

    run = RunDirectory(folder.training)
    if _is_spoilt(run):
        shutil.rmtree(run.root)
    prepared = prepare(recipe, progress=False)
    say = lambda line: print(line, flush=True)  # noqa: E731
    train_prepared(recipe, prepared, run, resume=run.recipe.is_file(), show_progress=show_progress, say=say)


def _is_spoilt(run: RunDirectory) -> bool:
    """Whether a training diverged, so that going on from its state would end so again."""
    if not run.card.is_file():
        return run.root.is_dir() and not run.recipe.is_file()
    return "not finite" in str(read_object(run.card).get("ended", ""))


def _export(folder: RunFolder, recipe: Recipe) -> None:
    from kerasrep.model.restore import restore_run
    from kerasrep.serving.export import export_run

    shutil.rmtree(folder.exports, ignore_errors=True)  # of an attempt that did not finish the stage
    print(f"exported {export_run(restore_run(folder.training), folder.exports, recipe.export_name)}")


def _representation(folder: RunFolder, job: Job) -> Representation:
    from kerasrep.embedding.representations import ModelRepresentation, open_representation
    from kerasrep.embedding.side_by_side import SideBySide

    parts = [folder.sibling(part).training for part in job.parts]
    if job.kind == "train":
        return ModelRepresentation(folder.training, job.name)
    if job.kind == "concatenate":
        return SideBySide([ModelRepresentation(part) for part in parts], job.name)
    return open_representation(str(job.representation), reference=parts[0] if parts else None)


def tasks_of(settings: EvaluationSettings, own_tasks: Sequence[TableTask]) -> tuple[Task, ...]:
    """The tasks that a study names, each with a probe; nothing of their data is looked at.

    Args:
        settings: Of the evaluation.
        own_tasks: Tasks from tables, which `settings` may name.

    Raises:
        RecipeError: Where a task or a probe is not known, or no probe is for a task.
    """
    from kerasrep.evaluation.chosen_tasks import named_tasks, tasks_of_tables
    from kerasrep.evaluation.options import check_probes, has_probe

    check_probes(settings.probes, "evaluation.probes")
    tasks = named_tasks(settings.tasks, tasks_of_tables(own_tasks))
    for task in tasks:
        if not has_probe(settings.probes, task.kind):
            raise RecipeError(f"evaluation.probes: none of them is for {task.name}, a {task.kind}")
    return tasks


def _tasks(job: Job) -> tuple[tuple[Task, ...], Mapping[str, Path]]:
    from kerasrep.evaluation.chosen_tasks import data_roots

    settings = job.evaluation
    tasks = tasks_of(settings, job.own_tasks)
    return tasks, data_roots(tasks, Path(settings.data) if settings.data else None, "evaluation.data")


def _check(job: Job) -> None:
    """Read every task, so that what is missing is told before hours of training.

    What tells copies of a recording is found here, for the runs would all decode for it at the same time.
    """
    from kerasrep.embedding.identities import cached_identities
    from kerasrep.evaluation.registry import missing_audio, open_task

    settings = job.evaluation
    tasks, roots = _tasks(job)
    paths: dict[Path, None] = {}
    for task in tasks:
        data = open_task(task, roots[task.name])
        paths |= dict.fromkeys(data.paths)
        missing = missing_audio(data)
        if len(missing) > settings.max_missing * len(data.item_ids):
            item, path = missing[0]
            raise DataError(
                f"{task.name}: {len(missing)} of {len(data.item_ids)} items have no audio; the first, "
                f"{item}: {path}"
            )
    cached_identities([path for path in paths if path.is_file()], progress=False)


def _evaluate(
    folder: RunFolder, job: Job, representation: Representation, report: bool
) -> tuple[Evaluation, ...]:
    """Embed the audio of all tasks in one pass, then fit the probes."""
    from kerasrep.embedding.cache import cached_embeddings
    from kerasrep.evaluation.options import Options
    from kerasrep.evaluation.registry import open_task
    from kerasrep.evaluation.results import check_output
    from kerasrep.evaluation.suite import Suite

    tasks, roots = _tasks(job)
    paths = list(dict.fromkeys(p for task in tasks for p in open_task(task, roots[task.name]).paths))
    key = fingerprint([representation.fingerprint, [str(path) for path in paths]])
    _stage(folder, "embed", key, lambda: cached_embeddings(representation, paths, progress=False))
    settings = job.evaluation
    options = Options(
        probes=settings.probes, n_folds=settings.folds, seed=settings.seed, max_missing=settings.max_missing
    )
    check_output(folder.evaluation)
    suite = Suite(folder.evaluation, options, [representation])

    def run_all() -> None:
        for task in tasks:
            suite.run(task, roots[task.name])
        if suite.failures:
            more = f" (and {len(suite.failures) - 1} more)" if len(suite.failures) > 1 else ""
            raise RunError(suite.failures[0] + more)

    started = time.monotonic()
    print("--- evaluate", flush=True)
    event("stage", stage="evaluate")
    run_all()
    if report:
        suite.finish("kerasrep-tune")
    folder.mark("evaluate", job.key, time.monotonic() - started)
    return suite.evaluations


def _facts(run: Path) -> dict[str, Any]:
    """What a training took, from its card."""
    path = RunDirectory(run).card
    card = read_object(path, recipe=dict, parameters=dict)
    try:
        recipe, steps = card["recipe"], int(card["steps"])
        joint = recipe["training"]["schedule"] == "joint"
        return {
            "parameters": int(card["parameters"]["total"]),
            "steps": steps,
            "updates_a_source": steps if joint else steps / len(recipe["sources"]),
            "segments": steps * int(recipe["batches"]["size"]),
            "training_seconds": float(card["training_seconds"]),
        }
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"{path}: is damaged ({error!r}); delete the run's folder and start again") from error


def _sum(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts of networks side by side; each source has the updates of its own network."""
    total = {name: sum(one[name] for one in facts) for name in facts[0]}
    return total | {"updates_a_source": total["updates_a_source"] / len(facts)}


def _outcome(
    folder: RunFolder,
    job: Job,
    representation: Representation,
    evaluations: Sequence[Evaluation],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    tasks = {}
    for one in evaluations:
        probe, chance = one.probes[0], one.probes[-1]
        tasks[one.task] = {
            "kind": one.kind,
            "metric": one.metric,
            "probe": probe.probe,
            "score": float(probe.mean),
            "low": float(probe.low),
            "high": float(probe.high),
            "chance": float(chance.mean),
            "n_items": int(one.n_items),
        }
    return {
        "format": 1,
        "name": job.name,
        "key": job.key,
        "dimension": evaluations[0].dimension if evaluations else representation.dimension,
        **facts,
        "seconds": folder.seconds(),
        "tasks": tasks,
    }
