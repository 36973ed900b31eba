"""A run begins in an empty folder, or goes on in that of the same recipe and data."""

from __future__ import annotations

from typing import Any

import kerasrep
from kerasrep.errors import RecipeError, RunError
from kerasrep.recipe import Recipe
from kerasrep.recipe_file import read_recipe, write_recipe
from kerasrep.run_directory import PreparedDirectory, RunDirectory, read_json, write_json
from kerasrep.training.workers import Workers

#: Parts of a recipe that may change between a run and its resumption.
_MAY_CHANGE = (
    ("training", "epochs"),
    ("export",),
    ("corpus", "root"),
    ("corpus", "tables"),
    ("corpus", "groups"),
    ("corpus", "files"),
    ("corpus", "audio"),
    ("distribution", "connect_seconds"),
    ("distribution", "prepare_seconds"),
)


def check_run(recipe: Recipe, prepared: PreparedDirectory, run: RunDirectory, resume: bool) -> None:
    """Compare a recipe with the one that the run was started with; nothing is written.

    Raises:
        RecipeError: Where anything but epochs and paths differs on resume.
        RunError: Where the folder holds a run already, the data changed since, or its state is lost.
    """
    if not run.recipe.exists():
        return
    if not resume:
        raise RunError(f"{run.root}: holds a run already; add --resume, or choose another --run-dir")
    _check_same(recipe, read_recipe(run.recipe), run)
    if read_json(run.prepared).get("fingerprint") != prepared.root.name:
        raise RunError(f"{run.root}: the corpus or its targets changed since; start again without --resume")
    if run.best.exists() and not run.last.exists():
        raise RunError(
            f"{run.last}: is missing, so the run cannot go on; export {run.best.name} with kerasrep-export, "
            "or start again in another --run-dir"
        )


def write_beginning(recipe: Recipe, prepared: PreparedDirectory, run: RunDirectory) -> None:
    """Write the recipe and where its data lie."""
    write_json(run.prepared, {"root": str(prepared.root), "fingerprint": prepared.root.name})
    write_recipe(run.recipe, recipe)


def agree(workers: Workers, recipe: Recipe, prepared: PreparedDirectory, run: RunDirectory) -> None:
    """Compare recipe, data and folder of all workers before any of them does anything.

    Raises:
        RecipeError: Where recipes differ; names the setting.
        RunError: Where versions, data or folders differ.
    """
    mine = {"version": kerasrep.__version__, "data": prepared.root.name, "recipe": recipe.as_dict()}
    for rank, theirs in enumerate(workers.exchange("recipe", mine)):
        for key in sorted(set(_flat(mine)) | set(_flat(theirs))):
            own, other = _flat(mine).get(key), _flat(theirs).get(key)
            if own != other and ("recipe", *key[1:]) == key:
                raise RecipeError(
                    f"{'.'.join(key[1:])}: {other!r} on {_who(rank)}, {own!r} on {_who(workers.rank)}; start "
                    "all workers with the same recipe"
                )
            if own != other:
                here = _who(workers.rank)
                raise RunError(f"{_who(rank)} has {key[0]} {other}, {here} {own}; all workers need the same")
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


def _check_same(recipe: Recipe, before: Recipe, run: RunDirectory) -> None:
    new, old = _flat(recipe.as_dict()), _flat(before.as_dict())
    for key in sorted(set(new) | set(old)):
        if any(key[: len(free)] == free for free in _MAY_CHANGE):
            continue
        if new.get(key) != old.get(key):
            raise RecipeError(
                f"{'.'.join(key)}: {new.get(key)!r}, but the run in {run.root} has {old.get(key)!r}; "
                "only epochs and paths may change on --resume"
            )


def _flat(value: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for name, inner in value.items() for k, v in _flat(inner, (*prefix, name)).items()}
