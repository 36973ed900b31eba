"""Which tasks are evaluated, and where their data lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kerasrep.errors import RecipeError
from kerasrep.evaluation.base import Task
from kerasrep.evaluation.mirdata_tasks import mirdata_task
from kerasrep.evaluation.registry import find_tasks, table_task, with_split_list
from kerasrep.recipe.tasks import TableTask


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
        own[task.name] = table_task(task.name, task.kind, table, audio, items)
    return own


def named_tasks(names: Sequence[str] | None, own: Mapping[str, Task] | None = None) -> tuple[Task, ...]:
    """Tasks by name; one's own where none is named, else those of the demo corpus.

    Raises:
        RecipeError: Where a name is unknown.
    """
    return find_tasks(names or tuple(own or ()) or ("demo",), own or {})


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
        found[name] = with_split_list(found[name], Path(file))
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
