"""Tasks of data sets that mirdata knows: items and labels that its loaders read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.evaluation.base import Kind, LabelledData, Task, TaskData
from kerasrep.evaluation.readers.items import SPLIT_WORDS, LabelledItems, path_below
from kerasrep.evaluation.registry import ANY_FOLDER, EFFECTS, check_name
from kerasrep.recipe.tasks import TableTask
from kerasrep.sources.readers.mirdata_labels import read_mirdata


def mirdata_task(settings: TableTask) -> Task:
    """A task of a data set that mirdata knows.

    Raises:
        RecipeError: Where the name cannot be used.
    """
    check_name(settings.name)
    folder, data_set, item = Path(settings.audio or ""), settings.dataset or "", settings.item or ""

    def read(unused: Path) -> TaskData:
        del unused  # the settings say where everything is
        data = _read(data_set, folder, item, settings.group, settings.kind)
        if data.groups is not None:
            return data
        notice = f"{data_set}: {EFFECTS}name an attribute as 'group', where tracks have one"
        return replace(data, notices=(*data.notices, notice))

    return Task(
        name=settings.name,
        kind=settings.kind,
        folder=ANY_FOLDER,
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
