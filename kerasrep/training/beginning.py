"""A run begins in an empty folder, or goes on in that of the same recipe and data."""

from __future__ import annotations

from kerasrep.errors import RecipeError, RunError
from kerasrep.recipe import Recipe, differences
from kerasrep.recipe_file import read_recipe, write_recipe
from kerasrep.run_directory import PreparedDirectory, RunDirectory, read_json, write_json

#: Parts of a recipe that may change between a run and its resumption.
_MAY_CHANGE = (
    ("training", "epochs"),
    ("export",),
    ("corpus", "root"),
    ("corpus", "tables"),
    ("corpus", "groups"),
    ("corpus", "files"),
    ("corpus", "audio"),
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


def _check_same(recipe: Recipe, before: Recipe, run: RunDirectory) -> None:
    for key, old, new in differences(before.as_dict(), recipe.as_dict(), _MAY_CHANGE):
        raise RecipeError(
            f"{key}: {new!r}, but the run in {run.root} has {old!r}; only epochs and paths may change on "
            "--resume"
        )
