"""Recipes as YAML files: strict reading, `KEY=VALUE` overrides, and every fault told in one line.

A fault names the file and line (or the override), the key, what is allowed, and the nearest spelling. The
YAML is that of version 1.2's core schema (`1e-3` is a number; `on`, `no` and dates are plain words) without
anchors, aliases and tags; nothing in a file is ever executed.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kerasrep import recipe_faults, strict_yaml
from kerasrep.errors import RecipeError
from kerasrep.recipe import Recipe
from kerasrep.recipe_faults import KeyPath
from kerasrep.recipe_tasks import TableTask, TaskList
from kerasrep.run_directory import write_text

_TASK_EXAMPLE = "{name: my_genres, kind: classification, table: genres.tsv}"

MAX_BYTES = 100_000  # reading as much as this takes a second


@dataclass
class _Draft:
    """A recipe before it is checked.

    Attributes:
        values: As in the file, overrides applied.
        origins: Key path -> where the user wrote it: `FILE:LINE` or the override.
        file: Named where nothing nearer is known.
    """

    values: dict[str, Any]
    origins: dict[KeyPath, str]
    file: str

    def origin(self, paths: Sequence[KeyPath]) -> str:
        """Where one of `paths`, or else the nearest section around it, was written; overrides first."""
        around = [path[:length] for path in paths for length in range(len(path), 0, -1)]
        found = [self.origins[path] for path in around if path in self.origins]
        return next((o for o in found if not o.startswith(self.file)), found[0] if found else self.file)


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
    draft = _parse(path)
    for override in overrides:
        _apply(draft, override)
    if "name" not in draft.values:
        draft.values["name"] = path.stem
    try:
        return Recipe.model_validate(draft.values)
    except ValidationError as error:
        fault = recipe_faults.most_useful(error)
        where = draft.origin(fault.paths)
        by_default = fault.paths[0] == ("name",) and where == draft.file
        hint = "; it is the file's stem unless the recipe sets 'name'" if by_default else ""
        raise RecipeError(f"{where}: {fault.text}{hint}") from None


def read_tasks(path: str | Path) -> tuple[TableTask, ...]:
    """Read the section `tasks` of a YAML file, which may be a whole recipe or hold nothing else.

    Raises:
        RecipeError: One line: what is wrong, where, and what is allowed.
    """
    draft = _parse(Path(path))
    if not draft.values.get("tasks"):
        raise RecipeError(f"{path}: has no section 'tasks'; name tasks there, such as {_TASK_EXAMPLE}")
    try:
        return TaskList.model_validate({"tasks": draft.values["tasks"]}).tasks
    except ValidationError as error:
        fault = recipe_faults.most_useful(error)
        raise RecipeError(f"{draft.origin(fault.paths)}: {fault.text}") from None


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write every setting of `recipe` as YAML that `read_recipe` reads back equal.

    Raises:
        RunError: Where the folder cannot be written.
    """
    write_text(path, strict_yaml.dump(recipe.as_dict()))


def _parse(path: Path) -> _Draft:
    text = _read_text(path)
    try:
        value, lines = strict_yaml.load(text)
    except strict_yaml.StrictYamlError as error:
        raise RecipeError(f"{path}:{error.line}: {error}") from None
    if value is None:
        raise RecipeError(f"{path}: is empty; a recipe needs at least 'strategy' and 'sources'")
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: is not a mapping; write 'key: value' lines, such as 'strategy: mss-cr'")
    return _Draft(value, {key: f"{path}:{line}" for key, line in lines.items()}, str(path))


def _read_text(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise RecipeError(f"{path}: is a folder; name a recipe file in it")
        if not stat.S_ISREG(mode):  # reading a fifo would wait for ever
            raise RecipeError(f"{path}: is not a regular file; name a recipe file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; {_nearest_file(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"{path}: cannot be read ({reason})") from None
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path}: is larger than {MAX_BYTES:,} bytes and cannot be a recipe")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: is not UTF-8 text; save the file as UTF-8") from None


def _nearest_file(path: Path) -> str:
    """What to do about a file that is not there."""
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.suffix in {".yaml", ".yml"})
    except OSError:
        names = []
    nearest = recipe_faults.nearest(path.name, names)
    return f"did you mean {path.parent / nearest}?" if nearest else "give the path of a YAML recipe"


def _apply(draft: _Draft, override: str) -> None:
    """Set one `KEY=VALUE` in `draft`.

    Raises:
        RecipeError: Where it is not of that form, the value is not YAML, or KEY passes through a value.
    """
    origin = f"override '{override}'"
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"{origin}: write KEY=VALUE with a dotted key, such as training.epochs=2")
    try:
        value, lines = strict_yaml.load(text)
    except strict_yaml.StrictYamlError as error:
        raise RecipeError(f"{origin}: {error}") from None
    section = draft.values
    for depth, part in enumerate(parts[:-1], start=1):
        if section.get(part) is None:
            section[part] = {}
            draft.origins[tuple(parts[:depth])] = origin
        section = section[part]
        if not isinstance(section, dict):
            raise RecipeError(
                f"{origin}: {'.'.join(parts[:depth])} is a value and has no keys; set it as a whole"
            )
    section[parts[-1]] = value
    for below in [p for p in draft.origins if p[: len(parts)] == tuple(parts)]:
        del draft.origins[below]
    draft.origins.update({(*parts, *below): origin for below in [(), *lines]})
