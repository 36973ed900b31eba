"""Which downstream tasks there are, how they are named, opened and counted, and how a table becomes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerasrep.errors import DataError, RecipeError
from kerasrep.evaluation.base import Kind, PlayData, Task, TaskData
from kerasrep.evaluation.datasets import demo, emotion, ext_ballroom, fma, gtzan, irmas, jam, lastfm1k
from kerasrep.evaluation.readers.items import is_file
from kerasrep.evaluation.readers.play_list import read_play_list
from kerasrep.evaluation.readers.split_list import read_split_list
from kerasrep.recipe.faults import nearest

#: Name -> task, in the order in which they are run and reported.
TASKS: dict[str, Task] = {
    task.name: task
    for module in (fma, gtzan, ext_ballroom, irmas, emotion, jam, lastfm1k, demo)
    for task in module.TASKS
}
#: Names that stand for several tasks.
GROUPS: dict[str, tuple[str, ...]] = {
    "demo": tuple(name for name in TASKS if name.startswith("demo_")),
    "paper": tuple(name for name in TASKS if not name.startswith("demo_")),
    "all": tuple(TASKS),
}
#: Further numbers of items that a data set is published with: filtered lists, or the whole of which the
#: paper's authors list a part.
ALSO_PUBLISHED = {"gtzan": gtzan.N_FILTERED_ITEMS, "ext_ballroom": ext_ballroom.N_WHOLE}

EFFECTS = (
    "names no groups, so that tracks of one album or artist may be in training and in test, which raises "
    "scores (album and artist effects); "
)
WITHOUT_GROUPS = f"{EFFECTS}add a column 'group' with the artist"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
#: Below the root no task may reach: the task of a table knows its own paths.
ANY_FOLDER = ""


def find_tasks(names: Iterable[str], own: Mapping[str, Task] | None = None) -> tuple[Task, ...]:
    """The tasks of some names, each once, in the order of the registry; one's own last.

    Args:
        names: Of tasks, or of `GROUPS`.
        own: Name -> task of the user's own.

    Raises:
        RecipeError: Where a name is not known, or there is none.
    """
    wanted: set[str] = set()
    tasks = {**TASKS, **(own or {})}
    allowed = (*GROUPS, *tasks)
    for name in names:
        if name not in allowed:
            near = nearest(name.lower().replace("-", "_"), allowed)
            hint = f"did you mean '{near}'? " if near else ""
            raise RecipeError(f"task {name[:40]!r} is not known; {hint}allowed: {', '.join(allowed)}")
        wanted.update(GROUPS.get(name, (name,)))
    if not wanted:
        raise RecipeError(f"no task is named; allowed: {', '.join(allowed)}")
    return tuple(task for name, task in tasks.items() if name in wanted)


def open_task(task: Task, root: Path) -> TaskData:
    """Read the data of a task.

    Args:
        task: One of `TASKS`, or of `table_task`.
        root: Data root, which holds the task's folder.

    Raises:
        DataError: Where the folder is missing (the line says which was looked for and where the data set is
            described), or what is in it is malformed.
    """
    folder = root / task.folder
    if task.folder != ANY_FOLDER and not folder.is_dir():
        raise DataError(
            f"{task.name}: looked for the folder {folder}, which is not there; the data set is described at "
            f"{task.described_at}, and nothing is downloaded"
        )
    try:
        return task.read(folder)
    except OSError as error:  # folders that cannot be listed
        where = error.filename or folder
        raise DataError(
            f"{task.name}: {where} cannot be read ({error.strerror}); check permissions"
        ) from error


def with_split_list(task: Task, split_list: Path) -> Task:
    """A task of labels whose items and split come from a list of the user's; all else as it was.

    Raises:
        RecipeError: For recommendation, which has plays and no split list, and for a task from a table, whose
            table is the list.
    """
    if task.folder == ANY_FOLDER:
        raise RecipeError(f"task '{task.name}' is a table already; name the split in its column 'split'")
    if task.kind == "recommendation":
        raise RecipeError(f"task '{task.name}' takes plays, not a split list; put plays.tsv into its folder")
    read: Callable[..., TaskData] = task.read  # readers of labelled data sets take a list, see `datasets`
    return replace(task, read=partial(read, split_list=split_list))


def table_task(name: str, kind: Kind, table: Path, audio: Path, items: Path | None = None) -> Task:
    """A task of the user's own, without any code.

    Args:
        name: Lower-case letters, digits and underscores; not that of another task.
        kind: `classification`, `regression`, `recommendation` or `neighbours`.
        table: Columns `path, label[, split, group, item_id]`; for recommendation `user, item[, plays]`.
        audio: Folder that paths are relative to.
        items: For recommendation only: columns `item, path[, group]`.

    Raises:
        RecipeError: Where the name cannot be used, or `items` does not fit the kind.
    """
    check_name(name)
    if (kind == "recommendation") != (items is not None):
        need = "needs a table of items (item, path)" if items is None else "takes no table of items"
        raise RecipeError(f"task '{name}': {kind} {need}")

    def read(folder: Path) -> TaskData:
        del folder  # the table says where everything is
        data: TaskData
        if items is not None:
            data = read_play_list(table, items, audio)
        else:
            data = read_split_list(table, audio, kind)
        if data.groups is not None:
            return data
        return replace(data, notices=(*data.notices, f"{items or table}: {WITHOUT_GROUPS}"))

    return Task(
        name=name,
        kind=kind,
        folder=ANY_FOLDER,
        described_at=str(table),
        read=read,
        split="that of the table, else folds" if items is None else "5% of the items held out",
        citation="the user's own table",
        licence="the user's own data",
    )


def check_name(name: str) -> None:
    """Refuse a name that a task of one's own cannot have.

    Raises:
        RecipeError: Where it is no name, or there is such a task already.
    """
    if not _NAME.fullmatch(name):
        raise RecipeError(f"task {name[:40]!r}: a name has lower-case letters, digits and underscores")
    if name in TASKS or name in GROUPS:
        raise RecipeError(f"task '{name}' is there already; choose another name")


def counts(task: Task, data: TaskData) -> dict[str, Any]:
    """What was found and what the data set's authors state, ready for JSON.

    Returns:
        `items`, and where they apply `classes` and `users`, each with `found` and `published` (`None` where
        no number is published); and `verified`: whether all published numbers were found, `None` where none
        is published. Of several published numbers of items, the one that was found counts.
    """
    n_items = task.n_items
    if len(data.item_ids) == ALSO_PUBLISHED.get(task.name):
        n_items = ALSO_PUBLISHED[task.name]
    compared = {"items": (len(data.item_ids), n_items)}
    if isinstance(data, PlayData):
        compared["users"] = (len(data.user_ids), task.n_users)
    elif task.kind == "classification":
        compared["classes"] = (len(np.unique(data.labels)), task.n_classes)
    stated = [found == published for found, published in compared.values() if published is not None]
    result: dict[str, Any] = {
        name: {"found": found, "published": published} for name, (found, published) in compared.items()
    }
    return {**result, "verified": all(stated) if stated else None}


def missing_audio(data: TaskData) -> list[tuple[str, Path]]:
    """Items whose audio is no file, and the path that was looked for, in the order of the items."""
    return [(item, path) for item, path in zip(data.item_ids, data.paths, strict=True) if not is_file(path)]


def check_missing(left_out: Mapping[str, str], n_items: int, max_missing: float) -> None:
    """Refuse a task that lacks too much of its audio.

    Raises:
        DataError: Naming the first item of `left_out` (item -> reason).
    """
    if len(left_out) > max_missing * n_items or len(left_out) == n_items:
        item, reason = next(iter(left_out.items()))
        raise DataError(
            f"{len(left_out)} of {n_items} items have no usable audio, more than --max-missing "
            f"{max_missing:g} allows; the first, {item}: {reason}"
        )
