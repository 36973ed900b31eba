"""A run begins in an empty folder, or goes on in that of the same recipe and data."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kerasrep
from kerasrep.data.recordings import Identities, read_identities, write_identities
from kerasrep.errors import RecipeError, RunError
from kerasrep.model.strategies import Network
from kerasrep.recipe.file import read_recipe, recipe_text
from kerasrep.recipe.schema import Recipe, differences
from kerasrep.runtime.run_log import run_log
from kerasrep.storage.atomic import remove_all_temporaries
from kerasrep.storage.export_directory import model_path, trained_on
from kerasrep.storage.folder_lock import exclusive
from kerasrep.storage.run_directory import (
    PreparedDirectory,
    RunDirectory,
    read_object,
    user_path,
    write_json,
    write_text,
)
from kerasrep.training.validation import Baseline
from kerasrep.training.workers import Workers

#: Parts of a recipe that may change between a run and its resumption.
_MAY_CHANGE = (
    ("training", "epochs"),
    ("training", "damaged_shards"),
    ("model", "start"),
    ("export",),
    ("corpus", "root"),
    ("corpus", "tables"),
    ("corpus", "groups"),
    ("corpus", "pools", "path"),
    ("corpus", "files"),
    ("corpus", "audio"),
    ("distribution", "connect_seconds"),
    ("distribution", "prepare_seconds"),
)


@contextlib.contextmanager
def hold(
    recipe: Recipe,
    prepared: PreparedDirectory,
    run: RunDirectory,
    resume: bool,
    damaged: Mapping[str, str],
    workers: Workers,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Hold a run directory, with its log, once all workers agree that the run can begin there, or go on.

    Args:
        recipe: What shall be trained.
        prepared: Its data.
        run: Where; the chief holds it for all workers, and writes.
        resume: Whether a run is there to go on with.
        damaged: Shards that are left out: name -> what is wrong.
        workers: Who train together.
        say: Prints a line for people.

    Raises:
        RunError: Where another process trains there; see also `agree` and `check_run`.
        RecipeError: See `agree` and `check_run`.
    """
    with contextlib.ExitStack() as held:
        if workers.chief:
            held.enter_context(exclusive(run.root, "is being trained by another process", "--run-dir"))
        agree(workers, recipe, prepared, run, damaged)
        check_run(recipe, prepared, run, resume, damaged)
        workers.exchange("run checked", None)  # before the chief changes anything that is checked
        for name, reason in damaged.items():
            say(f"note: {name} is left out: {reason}")
        if workers.chief:
            remove_all_temporaries(run.root)
            held.enter_context(run_log("train", run.log, recipe=recipe.name, prepared=prepared.root))
        yield


def check_run(
    recipe: Recipe,
    prepared: PreparedDirectory,
    run: RunDirectory,
    resume: bool,
    damaged: Collection[str] = (),
) -> None:
    """Compare a recipe with the one that the run was started with; nothing is written.

    Args:
        recipe: What shall be trained.
        prepared: Its data.
        run: Where.
        resume: Whether a run is there to go on with.
        damaged: Shards that are left out.

    Raises:
        RecipeError: Where anything but epochs and paths differs on resume.
        RunError: Where the folder holds a run already, or files that a new one would replace; where the data
            changed since, or its state is lost.
    """
    if not run.recipe.exists():
        for path in (run.card, run.model, run.history, run.best, run.last):
            if path.exists():
                raise RunError(
                    f"{path}: would be replaced, and {run.recipe.name} beside it, which says that it is of a "
                    "run, is missing; choose another --run-dir"
                )
        return
    if not resume:
        raise RunError(f"{run.root}: holds a run already; add --resume, or choose another --run-dir")
    began = read_object(run.prepared)
    _check_same(recipe, read_recipe(run.recipe), run, began.get("recipe_sha256"))
    left_out = began.get("damaged_shards", [])
    left_out = list(map(str, left_out)) if isinstance(left_out, list) else ["?"]
    if sorted(left_out) != sorted(damaged):
        raise RunError(
            f"{run.root}: was begun {_without(left_out)}, and would go on "
            f"{_without(damaged)}; repair the shards with kerasrep-prepare --check, or start again without "
            "--resume"
        )
    if began.get("fingerprint") != prepared.root.name:
        raise RunError(f"{run.root}: the corpus or its targets changed since; start again without --resume")
    if run.best.exists() and not run.last.exists():
        raise RunError(
            f"{run.last}: is missing, so the run cannot go on; export {run.best.name} with kerasrep-export, "
            "or start again in another --run-dir"
        )


def write_beginning(
    recipe: Recipe, prepared: PreparedDirectory, run: RunDirectory, damaged: Collection[str] = ()
) -> None:
    """Write the recipe, where its data lie, and which shards were left out."""
    about: dict[str, Any] = {"root": str(prepared.root), "fingerprint": prepared.root.name}
    if damaged:
        about["damaged_shards"] = sorted(damaged)
    text = recipe_text(recipe)
    about["recipe_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    write_json(run.prepared, about)
    write_text(run.recipe, text)  # last: it says that there is a run


def _without(shards: Collection[str]) -> str:
    return f"without {', '.join(sorted(shards))}" if shards else "with all shards"


def agree(
    workers: Workers,
    recipe: Recipe,
    prepared: PreparedDirectory,
    run: RunDirectory,
    damaged: Collection[str] = (),
) -> None:
    """Compare recipe, data and folder of all workers before any of them does anything.

    Raises:
        RecipeError: Where recipes differ; names the setting.
        RunError: Where versions, data, damaged shards or folders differ.
    """
    mine = {
        "version": kerasrep.__version__,
        "data": prepared.root.name,
        "shards": _without(damaged),
        "recipe": recipe.as_dict(),
    }
    for rank, theirs in enumerate(workers.exchange("recipe", mine)):
        for key, own, other in differences(mine, theirs, ()):
            part, _, setting = key.partition(".")
            if part == "recipe":
                raise RecipeError(
                    f"{setting}: {other!r} on {_who(rank)}, {own!r} on {_who(workers.rank)}; start all "
                    "workers with the same recipe"
                )
            here = _who(workers.rank)
            raise RunError(f"{_who(rank)} has {part} {other}, {here} {own}; all workers need the same")
    workers.check_shared(run.root, "run directory")


def agree_on_step(workers: Workers, step: int) -> None:
    """Make sure that all workers go on from the same step.

    Raises:
        RunError: Where they would not.
    """
    for rank, theirs in enumerate(workers.exchange("first step", step)):
        if theirs != step:
            raise RunError(
                f"{_who(rank)} would go on after step {theirs}, {_who(workers.rank)} after step {step}; they "
                "do not see the same checkpoint"
            )


def _who(rank: int) -> str:
    return "the chief" if rank == 0 else f"worker {rank}"


def _check_same(recipe: Recipe, before: Recipe, run: RunDirectory, sha256: object) -> None:
    for key, old, new in differences(before.as_dict(), recipe.as_dict(), _MAY_CHANGE):
        if sha256 not in (None, hashlib.sha256(run.recipe.read_bytes()).hexdigest()):
            raise RunError(
                f"{run.recipe}: is not what the run wrote (it says {key}: {old!r}), so it is damaged or was "
                "edited; copy it again, or start again without --resume"
            )
        raise RecipeError(
            f"{key}: {new!r}, but the run in {run.root} has {old!r}; only epochs and paths may change on "
            "--resume"
        )


def begin_with_means(network: Network, baselines: Mapping[str, Baseline]) -> None:
    """Let the heads predict the mean targets; directions of vectors and `self` have none."""
    for source, baseline in baselines.items():
        if baseline.prediction is not None and network.loss_of(source) != "cosine":
            network.begin_with(source, baseline.prediction)


def keep_identities(
    recipe: Recipe, prepared: PreparedDirectory, rows: NDArray[np.intp], run: RunDirectory
) -> None:
    """Write the identities of the recordings that the run, or the trunk that it began with, is trained on.

    Args:
        recipe: Its `model.start` says which trunk.
        prepared: Holds the identities of all tracks of the index.
        rows: Of the index, those that are trained on.
        run: Where they are written, unless they are there: a resumed run may be without its trunk.
    """
    if run.identities.is_file():
        return
    parts = [read_identities(prepared.identities).take(rows)]
    if recipe.model.start:
        before = trained_on(model_path(user_path(str(recipe.model.start))))
        parts += [read_identities(before)] if before.is_file() else []
    write_identities(run.identities, Identities.joined(parts))
