"""Recipes as YAML files: strict reading, `KEY=VALUE` overrides, and every fault told in one line.

A fault names the file and line (or the override), the key, what is allowed, and the nearest spelling. The
YAML is that of version 1.2's core schema (`1e-3` is a number; `on`, `no` and dates are plain words) without
anchors, aliases and tags; nothing in a file is ever executed. Every kind of recipe is read through a draft:
values, and where each was written. The file is parsed, overrides and other drafts are laid over it, and a
pydantic model checks the outcome.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from kerasrep.errors import RecipeError
from kerasrep.recipe import faults as recipe_faults
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.base import Settings
from kerasrep.recipe.faults import KeyPath
from kerasrep.recipe.schema import Recipe
from kerasrep.recipe.tasks import TaskList
from kerasrep.storage import limits
from kerasrep.storage.run_directory import write_text

Checked = TypeVar("Checked", bound=Settings)
_TASK_EXAMPLE = "{name: my_genres, kind: classification, table: genres.tsv}"


@dataclass
class Draft:
    """Settings before they are checked.

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

    def override(self, text: str) -> None:
        """Set one `KEY=VALUE`; KEY is dotted, VALUE is YAML.

        Raises:
            RecipeError: Where it is not of that form, the value is not YAML, or KEY passes through a value.
        """
        origin = f"override '{text}'"
        key, equals, value_text = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise RecipeError(f"{origin}: write KEY=VALUE with a dotted key, such as training.epochs=2")
        try:
            value, lines = strict_yaml.load(value_text)
        except strict_yaml.StrictYamlError as error:
            raise RecipeError(f"{origin}: {error}") from None
        self.put(tuple(parts), value, origin, dict.fromkeys(lines, origin))

    def put(
        self, key: tuple[str, ...], value: Any, origin: str, below: dict[KeyPath, str] | None = None
    ) -> None:
        """Set a value, in place of whatever stands there.

        Args:
            key: Its path; sections that are missing are made.
            value: Plain.
            origin: Where the user wrote it.
            below: Path below the key -> where the parts of the value were written.

        Raises:
            RecipeError: Where `key` passes through a value.
        """
        section = self.values
        for depth, part in enumerate(key[:-1], start=1):
            if section.get(part) is None:
                section[part] = {}
                self.origins[key[:depth]] = origin
            section = section[part]
            if not isinstance(section, dict):
                raise RecipeError(
                    f"{origin}: {'.'.join(key[:depth])} is a value and has no keys; set it as a whole"
                )
        section[key[-1]] = value
        for gone in [p for p in self.origins if p[: len(key)] == key]:
            del self.origins[gone]
        self.origins[key] = origin
        self.origins.update({(*key, *path): where for path, where in (below or {}).items()})

    def section(self, key: str) -> Draft:
        """The mapping below a key, as a draft of its own."""
        origins = {path[1:]: where for path, where in self.origins.items() if path[0] == key and path[1:]}
        return Draft(self.values[key], origins, self.origin([(key,)]))

    def lay_over(self, other: Draft) -> None:
        """Set every value of `other`, section by section; what it does not name stays."""

        def lay(values: dict[str, Any], path: tuple[str, ...]) -> None:
            for name, value in values.items():
                key = (*path, name)
                if isinstance(value, dict) and value:
                    lay(value, key)
                else:
                    where = {p[len(key) :]: o for p, o in other.origins.items() if p[: len(key)] == key}
                    self.put(key, value, where.pop((), other.file), where)

        lay(other.values, ())

    def check(self, model: type[Checked]) -> Checked:
        """The settings as `model`.

        Raises:
            RecipeError: One line: what is wrong, where, and what is allowed.
        """
        try:
            return model.model_validate(self.values)
        except ValidationError as error:
            fault = recipe_faults.most_useful(error, model)
            where = self.origin(fault.paths)
            by_default = fault.paths[0] == ("name",) and where == self.file
            hint = "; it is the file's stem unless the recipe sets 'name'" if by_default else ""
            raise RecipeError(f"{where}: {fault.text}{hint}") from None


def read_draft(
    path: Path, needs: str = "'strategy' and 'sources'", example: str = "strategy: mss-cr"
) -> Draft:
    """Parse a YAML file.

    Args:
        path: The file.
        needs: The keys that such a recipe cannot do without, for the message.
        example: A line of such a recipe, for the message.

    Raises:
        RecipeError: Where it cannot be read, or is no mapping in strict YAML.
    """
    text = _read_text(path)
    try:
        value, lines = strict_yaml.load(text)
    except strict_yaml.StrictYamlError as error:
        raise RecipeError(f"{path}:{error.line}: {error}") from None
    if value is None:
        raise RecipeError(f"{path}: is empty; a recipe needs at least {needs}")
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: is not a mapping; write 'key: value' lines, such as '{example}'")
    return Draft(value, {key: f"{path}:{line}" for key, line in lines.items()}, str(path))


def read_named(file: Path, name: str) -> Draft:
    """Parse the recipe that another one names: beside that one, or in the current folder.

    Raises:
        RecipeError: See `read_draft`.
    """
    beside, here = file.parent / name, Path(name)
    return read_draft(here if here.is_file() and not beside.is_file() else beside)


def _read_text(path: Path) -> str:
    most = limits.RECIPE_BYTES.value
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise RecipeError(f"{path}: is a folder; name a recipe file in it")
        if not stat.S_ISREG(mode):  # reading a fifo would wait for ever
            raise RecipeError(f"{path}: is not a regular file; name a recipe file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; {_nearest_file(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"{path}: cannot be read ({reason})") from None
    if len(content) > most:
        raise RecipeError(
            f"{path}: is larger than {most:,} bytes, as no recipe is; {limits.RECIPE_BYTES.advice}"
        )
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


def read_tasks(path: str | Path) -> TaskList:
    """Read the sections `tasks` and `models` of a YAML file, which may be a whole recipe or hold only them.

    Raises:
        RecipeError: One line: what is wrong, where, and what is allowed.
    """
    draft = read_draft(Path(path))
    if not draft.values.get("tasks"):
        raise RecipeError(f"{path}: has no section 'tasks'; name tasks there, such as {_TASK_EXAMPLE}")
    draft.values = {name: draft.values[name] for name in TaskList.model_fields if name in draft.values}
    return draft.check(TaskList)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write every setting of `recipe` as YAML that `read_recipe` reads back equal.

    Raises:
        RunError: Where the folder cannot be written.
    """
    write_text(path, recipe_text(recipe))


def recipe_text(recipe: Recipe) -> str:
    """What `write_recipe` writes."""
    return strict_yaml.dump(recipe.as_dict())
