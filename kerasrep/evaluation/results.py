"""What one evaluation found, kept on disk so that an interrupted comparison goes on where it stopped.

One evaluation is two files: `FOLDER/REPRESENTATION/TASK.json` and, beside it, `TASK.CHECKSUM.npz` with one
value or name a test unit. The JSON is written last and states the checksum of the NPZ, so its presence says
that the result is complete; until then the result that was there before stays valid. `key` is the caller's
fingerprint of everything that the numbers depend on (embeddings, labels, settings, versions): a stored
result with another key is another result.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError, RunError
from kerasrep.evaluation.base import METRICS, Evaluation, FoldScore, ProbeResult
from kerasrep.storage.run_directory import atomic_file, read_arrays, read_json

FORMAT = 1

ARRAYS = ("unit_ids", "unit_folds", "unit_scores", "unit_groups", "truths", "predictions", "confusion")
ALWAYS = ("unit_ids", "unit_folds", "unit_scores")

#: Lower case only, because some file systems do not tell cases apart. `~` marks names that were changed.
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_.+@=-]{0,59}")
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def check_output(folder: Path) -> None:
    """Refuse a folder that nothing could be written to, before any work.

    Raises:
        RunError: Naming it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"-o {folder}: cannot be made ({error.strerror}); choose another folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"-o {folder}: cannot write there; choose another folder")


def safe_name(name: str) -> str:
    """A file name for any text: the text itself where it is harmless, else a readable part and a digest.

    Different texts give different names, on file systems that ignore case as well.
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    readable = re.sub(r"[^A-Za-z0-9_+@=]+", "-", name)[:40].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable or 'name'}~{digest[:10]}"


def evaluation_path(folder: Path, representation: str, task: str) -> Path:
    """Where the JSON of a representation's result on a task lies."""
    return folder / safe_name(representation) / f"{safe_name(task)}.json"


def to_json(value: Any) -> str:
    r"""Indented JSON of NumPy scalars and arrays, paths and mappings as well; ends with a new line.

    Names of files that are not UTF-8 reach Python as lone surrogates; they stand as `\udcXX`, which JSON
    readers turn back.

    Raises:
        DataError: Where a number is not finite: JSON has no such numbers.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError as error:
        raise DataError(f"a number is not finite ({error}); look for NaN in embeddings and labels") from error
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def summary_of(evaluation: Evaluation) -> dict[str, Any]:
    """Everything but the arrays, ready for `to_json`."""
    probes = [
        {name: value for name, value in vars(probe).items() if name not in ARRAYS}
        | {"scores": [vars(score) for score in probe.scores]}
        for probe in evaluation.probes
    ]
    return {name: value for name, value in vars(evaluation).items() if name != "probes"} | {"probes": probes}


def save_evaluation(folder: Path, evaluation: Evaluation, key: str) -> Path:
    """Keep one evaluation; an earlier one of the same representation and task is replaced.

    Args:
        folder: Of all results; made where it is missing.
        evaluation: What was found.
        key: Fingerprint of all that the numbers depend on, for `find_evaluation`.

    Returns:
        Path of the JSON.

    Raises:
        DataError: Where a number is not finite.
        RunError: Where the folder cannot be written.
    """
    path = evaluation_path(folder, evaluation.representation, evaluation.task)
    packed = _pack(evaluation)
    checksum = hashlib.sha256(packed).hexdigest()
    try:
        text = to_json({"format": FORMAT, "key": key, "npz_sha256": checksum, **summary_of(evaluation)})
    except DataError as error:
        raise DataError(f"{evaluation.representation} on {evaluation.task}: {error}") from error
    arrays = _arrays_path(path, checksum)
    with atomic_file(arrays) as temporary:
        temporary.write_bytes(packed)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    ours = re.compile(re.escape(path.stem) + r"\.[0-9a-f]{12}\.npz")
    for other in path.parent.iterdir():
        if ours.fullmatch(other.name) and other != arrays:
            other.unlink(missing_ok=True)
    return path


def find_evaluation(
    folder: Path, representation: str, task: str, key: str, notify: Callable[[str], None]
) -> Evaluation | None:
    """The stored evaluation, if it is there and still valid.

    What is damaged counts as absent, because computing it again repairs it; one line says so.

    Args:
        folder: Of all results.
        representation: Name of a representation.
        task: Name of a task.
        key: As it would be given to `save_evaluation` now.
        notify: Takes the line about a damaged result.

    Returns:
        `None` where there is no result, or one with another key or of another version of the format.
    """
    path = evaluation_path(folder, representation, task)
    if not path.exists():
        return None
    try:
        record = _record(path)
        if record.get("format") != FORMAT or record.get("key") != key:
            return None
        evaluation = _load(path, record)
        if (evaluation.representation, evaluation.task) != (representation, task):
            raise DataError(f"{path}: holds the result of another representation or task")
    except DataError as error:
        notify(f"{' '.join(str(error).split())} -> {representation} on {task} is evaluated again")
        return None
    return evaluation


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot stand in a JSON file")


def _arrays_path(path: Path, checksum: str) -> Path:
    return path.with_name(f"{path.stem}.{checksum[:12]}.npz")


def _pack(evaluation: Evaluation) -> bytes:
    """The arrays of all probes as an NPZ file; the same arrays give the same bytes."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, probe in enumerate(evaluation.probes):
        for name in ARRAYS:
            value = getattr(probe, name)
            if value is None:
                continue
            array = np.asarray(value)
            if array.dtype.kind not in "Ufiub":
                raise TypeError(f"{name} of {probe.probe} has the type {array.dtype}, which is not stored")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                where = f"{evaluation.representation} on {evaluation.task}, probe {probe.probe}"
                raise DataError(f"{where}: {name} are not finite; look for NaN in embeddings and labels")
            arrays[f"{number}.{name}"] = array
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def _record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(f"{path}: is damaged ({error}); delete it and evaluate again") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}: is not a result of an evaluation; delete it")
    return record


def _load(path: Path, record: Mapping[str, Any]) -> Evaluation:
    if record.get("format") != FORMAT:
        found = record.get("format")
        raise DataError(f"{path}: has format {found!r}, this kerasrep reads {FORMAT}; delete it and evaluate")
    try:
        checksum = record["npz_sha256"]
        if not _CHECKSUM.fullmatch(checksum):
            raise ValueError("npz_sha256 is not a checksum")
        arrays = _read_checked(_arrays_path(path, checksum), checksum)
        return _evaluation(record, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: is damaged ({reason}); delete it and evaluate again") from error


def _read_checked(path: Path, checksum: str) -> dict[str, NDArray[Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise DataError(f"{path}: is damaged (its checksum differs); delete it and evaluate again")
    return read_arrays(path)


def _evaluation(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Evaluation:
    if record["kind"] not in METRICS:
        raise ValueError(f"kind {record['kind']!r} is unknown")
    if not record["probes"]:
        raise ValueError("no probes")
    return Evaluation(
        representation=_text(record, "representation"),
        dimension=int(record["dimension"]),
        task=_text(record, "task"),
        kind=record["kind"],
        metric=_text(record, "metric"),
        n_items=int(record["n_items"]),
        left_out=dict(record["left_out"].items()),
        probes=tuple(_probe(probe, arrays, number) for number, probe in enumerate(record["probes"])),
        counts=dict(record["counts"].items()),
    )


def _probe(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], number: int) -> ProbeResult:
    found = {name: arrays.get(f"{number}.{name}") for name in ARRAYS}
    missing = [name for name in ALWAYS if found[name] is None]
    if missing:
        raise ValueError(f"array {missing[0]} of probe {number} is missing")
    per_unit = {len(array) for name, array in found.items() if array is not None and name != "confusion"}
    if len(per_unit) > 1:
        raise ValueError(f"arrays of probe {number} differ in length")
    return ProbeResult(
        probe=_text(record, "probe"),
        metric=_text(record, "metric"),
        mean=_finite(record, "mean"),
        low=_finite(record, "low"),
        high=_finite(record, "high"),
        scores=tuple(
            FoldScore(int(s["fold"]), _text(s, "metric"), _finite(s, "value")) for s in record["scores"]
        ),
        classes=tuple(str(name) for name in record["classes"]),
        per_class={name: dict(scores.items()) for name, scores in record["per_class"].items()},
        details=dict(record["details"].items()),
        **found,  # type: ignore[arg-type]
    )


def _finite(record: Mapping[str, Any], name: str) -> float:
    value = float(record[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, a text was expected")
    return value
