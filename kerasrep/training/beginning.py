"""A run begins in an empty folder, or goes on in that of the same recipe and data."""

from __future__ import annotations

from typing import Any

from kerasrep.errors import RecipeError, RunError
from kerasrep.recipe import Recipe
from kerasrep.recipe_file import read_recipe, write_recipe
from kerasrep.run_directory import PreparedDirectory, RunDirectory, read_json, write_json

#: Parts of a recipe that may change between a run and its resumption.
_MAY_CHANGE = (("training", "epochs"), ("training", "checkpoint_every_epochs"), ("export",))


def begin_run(recipe: Recipe, prepared: PreparedDirectory, run: RunDirectory, resume: bool) -> None:
    """Write the recipe, or compare it with the one that the run was started with.

    Raises:
        RecipeError: Where anything but epochs and paths differs on resume.
        RunError: Where the folder holds a run already, or the data changed since.
    """
    fingerprint = prepared.root.name
    if resume and run.recipe.is_file():
        _check_same(recipe, read_recipe(run.recipe), run)
        before = read_json(run.prepared)
        if before.get("fingerprint") != fingerprint:
            raise RunError(
                f"{run.root}: the corpus or its targets changed since; start again without --resume"
            )
    elif run.recipe.exists():
        raise RunError(f"{run.root}: holds a run already; add --resume, or choose another --run-dir")
    write_json(run.prepared, {"root": str(prepared.root), "fingerprint": fingerprint})
    write_recipe(run.recipe, recipe)


def _check_same(recipe: Recipe, before: Recipe, run: RunDirectory) -> None:
    new, old = _flat(recipe.as_dict()), _flat(before.as_dict())
    for key in sorted(set(new) | set(old)):
        if any(key[: len(free)] == free for free in _MAY_CHANGE) or key[-1] == "root":
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
