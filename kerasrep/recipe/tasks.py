"""The section `tasks` of a recipe: downstream tasks of one's own, each from a table."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from kerasrep.recipe.base import ImpossibleSetting, PathText, Settings


class TableTask(Settings):
    """A downstream task of one's own, from a table.

    Attributes:
        name: On the command line and in reports.
        kind: What is predicted: classes, values, or who plays what.
        table: CSV, TSV or Parquet with columns `path`, `label`, optionally `split`, `group`; to recommend
            `user`, `item` and optionally `plays`.
        audio: Folder that paths are relative to; by default the table's. Relative paths of tables and
            folders start in the current folder, as everywhere in a recipe.
        items: For recommendation: CSV, TSV or Parquet with columns `item`, `path` and optionally `group`.
    """

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_]{0,63}$",
            description="up to 64 lower-case letters, digits and '_', the first a letter",
        ),
    ]
    kind: Literal["classification", "regression", "recommendation"]
    table: PathText
    audio: PathText | None = None
    items: PathText | None = None

    @model_validator(mode="after")
    def _items_go_with_recommendation(self) -> TableTask:
        if (self.kind == "recommendation") != (self.items is not None):
            need = "needs a table of items" if self.items is None else "takes no table of items"
            raise ImpossibleSetting(f"{self.kind} {need}", "tasks.items", "tasks.kind")
        return self


def _names_once(tasks: tuple[TableTask, ...]) -> tuple[TableTask, ...]:
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise ImpossibleSetting("each name may stand once", "tasks")
    return tasks


TableTasks = Annotated[tuple[TableTask, ...], Field(strict=False), AfterValidator(_names_once)]


class TaskList(Settings):
    """The section of a recipe that adds downstream tasks, alone."""

    tasks: TableTasks = ()
