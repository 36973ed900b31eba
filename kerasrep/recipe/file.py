"""Recipes as YAML files: strict reading, `KEY=VALUE` overrides, and every fault told in one line.

A fault names the file and line (or the override), the key, what is allowed, and the nearest spelling. The
YAML is that of version 1.2's core schema (`1e-3` is a number; `on`, `no` and dates are plain words) without
anchors, aliases and tags; nothing in a file is ever executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasrep.errors import RecipeError
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.draft import read_draft
from kerasrep.recipe.schema import Recipe
from kerasrep.recipe.tasks import TableTask, TaskList
from kerasrep.storage.run_directory import write_text

_TASK_EXAMPLE = "{name: my_genres, kind: classification, table: genres.tsv}"


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        overrides: `KEY=VALUE`, applied in order; KEY is dotted, VALUE is YAML (`sources=[tag, year]`).

    Returns:
        The recipe; its name is the file's stem unless the file or an override names it.

    Raises:
        RecipeError: One line: what is wrong, where, and what is allowed.
    """
    path = Path(path)
    draft = read_draft(path)
    for override in overrides:
        draft.override(override)
    draft.values.setdefault("name", path.stem)
    return draft.check(Recipe)


def read_tasks(path: str | Path) -> tuple[TableTask, ...]:
    """Read the section `tasks` of a YAML file, which may be a whole recipe or hold nothing else.

    Raises:
        RecipeError: One line: what is wrong, where, and what is allowed.
    """
    draft = read_draft(Path(path))
    if not draft.values.get("tasks"):
        raise RecipeError(f"{path}: has no section 'tasks'; name tasks there, such as {_TASK_EXAMPLE}")
    draft.values = {"tasks": draft.values["tasks"]}
    return draft.check(TaskList).tasks


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write every setting of `recipe` as YAML that `read_recipe` reads back equal.

    Raises:
        RunError: Where the folder cannot be written.
    """
    write_text(path, recipe_text(recipe))


def recipe_text(recipe: Recipe) -> str:
    """What `write_recipe` writes."""
    return strict_yaml.dump(recipe.as_dict())
