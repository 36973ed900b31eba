"""Labels of data sets that mirdata knows (Bittner et al. 2019), read by its loaders; nothing is downloaded.

A loader has tracks, each with a path of its audio and with attributes: words, numbers, lists, or annotations
over time such as chords, sections, keys and notes. `item` names one of them.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasrep.errors import DataError, RecipeError
from kerasrep.runtime.extras import require
from kerasrep.runtime.run_log import reason_of

#: What a label is called in annotations whose other part is `intervals`.
_WORDS = ("labels", "keys", "events", "pitches", "lyrics")
_SECONDS = {"s": 1.0, "ms": 1e-3}


@dataclass(frozen=True)
class Label:
    """One label of a track.

    Attributes:
        track: Path of the audio relative to the data set's folder, with `/` between its parts.
        value: Word, or number as text.
        start_seconds: Where it begins; `None` where it is about the whole track.
        end_seconds: Where it ends.
        split: Part of the published split, where there is one.
        group: What `group` names; empty where nothing is known.
    """

    track: str
    value: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str = ""
    group: str = ""


def read_mirdata(name: str, root: Path, item: str, key: str, group: str | None = None) -> Iterator[Label]:
    """Labels of all tracks whose audio the data set's index names.

    Args:
        name: Of the data set, as mirdata calls it.
        root: Its folder, which mirdata calls `data_home`.
        item: Attribute of its tracks.
        key: What asks for it, in the recipe.
        group: Attribute that says which tracks belong together, such as the artist.

    Raises:
        RunError: Where mirdata is not installed.
        RecipeError: Where it knows no such data set.
        DataError: Where the index or an annotation is missing or malformed, or tracks have no such attribute.
    """
    data_set = _open(name, root, key)
    for track_id in data_set.track_ids:
        track = data_set.track(track_id)
        for attribute, place in ((item, "item"), (group, "group")):
            if attribute and not hasattr(type(track), attribute) and attribute not in vars(track):
                raise DataError(
                    f"{root}: tracks of {name} have no '{attribute}'; they have "
                    f"{', '.join(_attributes(track))}; correct {key}.{place}"
                )
        path = _audio(track, root)
        if path is None:
            continue
        value = _value(track, item, f"{root}, track {track_id!r} of {name}")
        about = {"split": _word(track, "split"), "group": _word(track, group)}
        for text, start, end in _labels(value, f"{root}, track {track_id!r} of {name}: '{item}'", key):
            yield Label(path, text, start, end, **about)


def annotation_files(name: str, root: Path, key: str) -> list[Path]:
    """The index of a data set, and the files of its folder that are no audio.

    Raises:
        RunError, RecipeError, DataError: See `read_mirdata`.
    """
    data_set = _open(name, root, key)
    index = data_set._index
    entries = [*index.get("tracks", {}).values(), index.get("metadata") or {}]
    named = {str(file[0]) for entry in entries for part, file in entry.items() if file[0] and part != "audio"}
    return [Path(data_set.index_path), *(root / path for path in sorted(named))]


def _open(name: str, root: Path, key: str) -> Any:
    require("mirdata", ("mirdata",), f"{key}.from: mirdata")
    import mirdata

    if name not in mirdata.list_datasets():
        raise RecipeError(f"{key}.dataset: mirdata knows no '{name}'; see mirdata.list_datasets()")
    log = logging.getLogger()
    handlers, level = [*log.handlers], log.level
    data_set = mirdata.initialize(name, data_home=str(root))
    # Its loaders set logging up so that the log of every run is printed.
    log.handlers[:] = handlers
    log.setLevel(level)
    if not Path(data_set.index_path).is_file():
        raise DataError(
            f"{name}: its index is not there, and nothing is downloaded; once, run python -c "
            f"\"import mirdata; mirdata.initialize('{name}').download(['index'])\""
        )
    return data_set


def _attributes(track: Any) -> list[str]:
    """What may be asked of a track."""
    names = {*vars(track), *dir(type(track))}
    plain = {name for name in names if not name.startswith("_") and not name.endswith("_path")}
    return sorted(name for name in plain if not inspect.isfunction(getattr(type(track), name, None)))


def _audio(track: Any, root: Path) -> str | None:
    """Where its audio is below the folder, if anywhere."""
    for name in sorted(vars(track), key=lambda name: (name != "audio_path", name)):
        value = vars(track)[name]
        if name.startswith("audio") and name.endswith("path") and isinstance(value, str):
            path = Path(value)
            return path.relative_to(root).as_posix() if path.is_relative_to(root) else None
    return None


def _value(track: Any, item: str, place: str) -> Any:
    """An attribute; `None` where its file is not there."""
    try:
        return getattr(track, item)
    except FileNotFoundError:
        return None
    except Exception as error:  # loaders raise whatever their parsers do
        raise DataError(f"{place}: mirdata cannot read '{item}' ({reason_of(error)})") from error


def _word(track: Any, name: str | None) -> str:
    value = getattr(track, name, None) if name else None
    return " ".join(str(value).split()) if isinstance(value, str | int) else ""


def _labels(value: Any, place: str, key: str) -> Iterator[tuple[str, float | None, float | None]]:
    """Words or numbers of one attribute, with their times where it has them."""
    if hasattr(value, "annotations"):  # of several annotators, who disagree, the first counts
        value = value.annotations[0] if value.annotations else None
    if value is None:
        return
    if isinstance(value, str | int | float | np.number) and not isinstance(value, bool):
        yield _text(value, place), None, None
        return
    if isinstance(value, list | tuple | set | np.ndarray):
        for one in value:
            yield from _labels(one, place, key)
        return
    words = next((getattr(value, name) for name in _WORDS if getattr(value, name, None) is not None), None)
    intervals, unit = getattr(value, "intervals", None), getattr(value, "interval_unit", "s")
    if words is None or intervals is None or unit not in _SECONDS:
        raise DataError(
            f"{place} is {type(value).__name__}, which has no words or numbers with beginning and end in "
            f"seconds; correct {key}.item"
        )
    for word, (start, end) in zip(words, intervals, strict=True):
        yield _text(word, place), float(start) * _SECONDS[unit], float(end) * _SECONDS[unit]


def _text(value: Any, place: str) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    number = float(value)
    if not math.isfinite(number):
        return ""
    return str(int(number)) if number.is_integer() else repr(number)
