"""The section `tasks` of a recipe: downstream tasks of one's own, each from a table."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from kerasrep.recipe.base import ImpossibleSetting, PathText, Settings


class TableTask(Settings):
    """A downstream task of one's own, from a table.

    Attributes:
        name: On the command line and in reports.
        kind: What is predicted: classes, values, or who plays what; `neighbours` asks how often what lies
            nearest has the same label, and nothing is learnt.
        table: CSV, TSV or Parquet with columns `path`, `label` and optionally `split`, `group`; for
            recommendation `user`, `item` and optionally `plays`.
        from_: In recipes `from: mirdata`, in place of a table: a data set that mirdata knows, in the folder
            `audio`. A split that is published with it is used.
        dataset: Its name, as mirdata calls it, such as `gtzan_genre`.
        item: Attribute of its tracks that is predicted.
        group: Attribute that says which tracks belong together, such as the artist.
        audio: Folder that paths are relative to; by default the table's. Relative paths of tables and
            folders start in the current folder, as everywhere in a recipe.
        items: For recommendation: CSV, TSV or Parquet with columns `item`, `path` and optionally `group`.
    """

    model_config = ConfigDict(populate_by_name=True)

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_]{0,63}$",
            description="up to 64 lower-case letters, digits and '_', the first a letter",
        ),
    ]
    kind: Literal["classification", "regression", "recommendation", "neighbours"]
    table: PathText | None = None
    from_: Literal["mirdata"] | None = Field(default=None, alias="from")
    dataset: PathText | None = None
    item: PathText | None = None
    group: PathText | None = None
    audio: PathText | None = None
    items: PathText | None = None

    @model_validator(mode="after")
    def _one_source(self) -> TableTask:
        if self.from_ is None:
            if self.table is None:
                raise ImpossibleSetting("is missing; name a table, or say from: mirdata", "tasks.table")
            for name in ("dataset", "item", "group"):
                if getattr(self, name) is not None:
                    raise ImpossibleSetting("goes with from: mirdata; remove it", f"tasks.{name}")
            return self
        if self.table is not None:
            raise ImpossibleSetting("goes without 'from'; remove either", "tasks.table", "tasks.from")
        for name in ("dataset", "item", "audio"):
            if getattr(self, name) is None:
                raise ImpossibleSetting("is missing; from: mirdata needs it", f"tasks.{name}")
        if self.kind == "recommendation":
            raise ImpossibleSetting(
                "cannot come from mirdata, which has no plays", "tasks.kind", "tasks.from"
            )
        return self

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
    """What an evaluation takes of a YAML file.

    Attributes:
        tasks: Downstream tasks of one's own; a training recipe may have them, too.
        models: What is compared on them, as `kerasrep-evaluate` takes it, beside what is named there.
    """

    tasks: TableTasks = ()
    models: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()
