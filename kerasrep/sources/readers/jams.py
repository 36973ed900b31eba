"""Annotations beside audio files, in JAMS (Humphrey et al. 2014, a JSON annotated music specification).

`song.jams` belongs to `song.flac` in the same folder. A file holds annotations, each of one namespace such as
`tag_open`, `beat`, `chord_harte`, `segment_open`, and each with observations: time and duration in seconds,
value and confidence. Only these are read, as plain JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kerasrep.errors import DataError
from kerasrep.storage.run_directory import read_json

SUFFIX = ".jams"
_PARTS = ("time", "duration", "value")


def jams_path(root: Path, track: str) -> Path:
    """Where the annotations of a track are, if anywhere."""
    return (root / track).with_suffix(SUFFIX)


def read_jams(
    root: Path, tracks: Sequence[str], namespace: str, key: str, several: bool, numbers: bool
) -> Iterator[tuple[str, list[str]]]:
    """Observations of a namespace, of all tracks that have any.

    Args:
        root: Of the tracks.
        tracks: Paths relative to it.
        namespace: Which annotations.
        key: What asks for them, in the recipe.
        several: Whether all annotations of a file are taken; its first one otherwise, as annotators disagree.
        numbers: Whether values have to be numbers; words otherwise.

    Yields:
        `ROOT, observation N`, and track, value, beginning and end in seconds, as text; a value that is `null`
        is empty.

    Raises:
        DataError: Where a file is malformed, or none has the namespace; the others that were found are named.
    """
    found: dict[str, None] = {}
    number = 0
    for track in tracks:
        path = jams_path(root, track)
        if not path.is_file():
            continue
        taken = False
        for annotation in _annotations(path):
            own = str(annotation.get("namespace"))
            found.setdefault(own)
            if own != namespace or (taken and not several):
                continue
            taken = True
            for start, duration, value in _observations(path, annotation):
                number += 1
                text = _text(path, namespace, value, numbers, key)
                yield f"{root}, observation {number}", [track, text, repr(start), repr(start + duration)]
    if not number:
        there = f"they have {', '.join(found)}" if found else "there is none beside any track"
        raise DataError(
            f"{root}: no {SUFFIX} file has observations of '{namespace}', {there}; correct {key}.item"
        )


def _annotations(path: Path) -> list[dict[str, Any]]:
    content = read_json(path)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise DataError(
            f"{path}: is not a JAMS file, it has no list of annotations; remove it or write it again"
        )
    return annotations


def _observations(path: Path, annotation: dict[str, Any]) -> Iterator[tuple[float, float, Any]]:
    """Time, duration and value of each; written one by one, or as columns."""
    data = annotation.get("data", [])
    if isinstance(data, dict):
        columns = [data.get(part) for part in _PARTS]
        if not all(isinstance(column, list) for column in columns) or len({*map(len, columns)}) != 1:  # type: ignore[arg-type]
            raise DataError(
                f"{path}: columns of '{annotation['namespace']}' differ in length; write it again"
            )
        data = [dict(zip(_PARTS, row, strict=True)) for row in zip(*columns, strict=True)]  # type: ignore[arg-type]
    for observation in data if isinstance(data, list) else [None]:
        about: dict[str, Any] = observation if isinstance(observation, dict) else {}
        times = [about.get(part, -1) for part in _PARTS[:2]]
        if not all(_is_number(time) and time >= 0 for time in times):
            raise DataError(
                f"{path}: an observation of '{annotation['namespace']}' has no time and duration in seconds; "
                "write it again"
            )
        yield float(times[0]), float(times[1]), about.get("value")


def _text(path: Path, namespace: str, value: Any, numbers: bool, key: str) -> str:
    if value is None:  # as of beats whose place in the bar nobody noted; counted as unknown
        return ""
    if numbers and _is_number(value):
        return repr(float(value))
    if not numbers and (isinstance(value, str) or _is_number(value)):
        return " ".join(str(value).split())
    wanted = "a number; set target to labels or classes" if numbers else "a word"
    raise DataError(f"{path}: '{namespace}' has the value {value!r:.60}, which is not {wanted} ({key})")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
