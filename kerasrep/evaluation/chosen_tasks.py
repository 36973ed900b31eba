"""Which tasks are evaluated, and where their data lie; also those of data sets that mirdata knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kerasrep.errors import DataError, RecipeError
from kerasrep.evaluation import registry
from kerasrep.evaluation.base import Kind, LabelledData, Task, TaskData
from kerasrep.evaluation.readers.items import SPLIT_WORDS, LabelledItems, path_below
from kerasrep.recipe.tasks import TableTask
from kerasrep.sources.readers.mirdata_labels import read_mirdata


def tasks_of_tables(tables: Sequence[TableTask]) -> dict[str, Task]:
    """The tasks of a recipe's section `tasks`, by name."""
    own = {}
    for task in tables:
        if task.table is None:
            own[task.name] = mirdata_task(task)
            continue
        table = Path(task.table)
        audio = Path(task.audio) if task.audio else table.parent
        items = Path(task.items) if task.items else None
        own[task.name] = registry.table_task(task.name, task.kind, table, audio, items)
    return own


def named_tasks(names: Sequence[str] | None, own: Mapping[str, Task] | None = None) -> tuple[Task, ...]:
    """Tasks by name; one's own where none is named, else those of the demo corpus.

    Raises:
        RecipeError: Where a name is unknown.
    """
    return registry.find_tasks(names or tuple(own or ()) or ("demo",), own or {})


def with_split_lists(tasks: Sequence[Task], lists: Sequence[str]) -> tuple[Task, ...]:
    """Tasks with the user's split lists, each `TASK=FILE`.

    Raises:
        RecipeError: Where one is not of that form, or names another task.
    """
    found = {task.name: task for task in tasks}
    for text in lists:
        name, _, file = text.partition("=")
        if name not in found or not file:
            raise RecipeError(f"--split-list {text}: write TASK=FILE, TASK one of {', '.join(found)}")
        found[name] = registry.with_split_list(found[name], Path(file))
    return tuple(found.values())


def data_roots(tasks: Sequence[Task], data: Path | None, option: str = "--data ROOT") -> dict[str, Path]:
    """Task -> data root; the demo tasks' tables are written first.

    Raises:
        RecipeError: Where a task needs a data root and there is none; `option` is how to name it.
    """
    from kerasrep.corpora.demo.tasks import FOLDER, write_task_tables
    from kerasrep.recipe.corpora import DemoCorpus

    roots = {}
    for task in tasks:
        if task.folder != FOLDER:
            if data is None and task.folder:
                raise RecipeError(f"task '{task.name}' needs {option}, the folder that holds '{task.folder}'")
            roots[task.name] = data or Path()
    demo = [task.name for task in tasks if task.folder == FOLDER]
    if demo:
        roots |= dict.fromkeys(demo, write_task_tables(DemoCorpus()))
    return roots


def mirdata_task(settings: TableTask) -> Task:
    """A task of a data set that mirdata knows.

    Raises:
        RecipeError: Where the name cannot be used.
    """
    registry.check_name(settings.name)
    folder, data_set, item = Path(settings.audio or ""), settings.dataset or "", settings.item or ""

    def read(unused: Path) -> TaskData:
        del unused  # the settings say where everything is
        data = _read(data_set, folder, item, settings.group, settings.kind)
        if data.groups is not None:
            return data
        notice = f"{data_set}: {registry.EFFECTS}name an attribute as 'group', where tracks have one"
        return replace(data, notices=(*data.notices, notice))

    return Task(
        name=settings.name,
        kind=settings.kind,
        folder=registry.ANY_FOLDER,
        described_at=f"mirdata, {data_set}",
        read=read,
        split="that of the data set, else folds",
        citation=f"mirdata.initialize('{data_set}').cite()",
        licence=f"mirdata.initialize('{data_set}').license()",
    )


def _read(name: str, root: Path, item: str, group: str | None, kind: Kind) -> LabelledData:
    """Items of a data set, one a track; those of a published split in its parts.

    Args:
        name: Of the data set, as mirdata calls it.
        root: Its folder.
        item: Attribute that is predicted: one word or number of a whole track.
        group: Attribute that says which tracks belong together.
        kind: `classification`, `regression` or `neighbours`.

    Raises:
        RunError: Where mirdata is not installed.
        RecipeError: Where it knows no such data set.
        DataError: Where the data set is not there, its labels have times or are several a track, or no task
            can be made of them.
    """
    labels = list(read_mirdata(name, root, item, "tasks", group))
    if not labels:
        raise DataError(f"{root}: no track of {name} has '{item}'; correct tasks.item")
    published = all(label.split.lower() in SPLIT_WORDS for label in labels)
    items, seen = LabelledItems(kind, root, keep_groups=False), set()
    for label in labels:
        place = f"{root}, track {label.track!r} of {name}"
        if label.start_seconds is not None or label.track in seen:
            raise DataError(
                f"{place}: '{item}' says several things of it, or of parts of it; a task takes one of each "
                "whole track: correct tasks.item"
            )
        seen.add(label.track)
        path = path_below(root, label.track, place)
        items.add(place, label.track, path, label.value, label.split if published else "", label.group)
    return items.finish()
