"""Labels that are read from large files when first asked for, and kept on disk after that.

What was read lies in `labels/DIGITS` under `run_directory.home()`, one pair of files a source. The digits
cover names, sizes and times of change of the files it came from, and the reader's version: a file that
changes is read again. The folder may be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kerasrep.errors import DataError
from kerasrep.recipe.schema import fingerprint
from kerasrep.sources.labels import CountLabels, RawLabels, ValueLabels
from kerasrep.sources.readers.reading import Reading
from kerasrep.storage.run_directory import home, read_arrays, read_json, write_arrays, write_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class LabelReader:
    """How the labels of one source are read.

    Attributes:
        paths: The files they come from.
        read: Reads them.
    """

    paths: Sequence[Path]
    read: Callable[[], Reading]


def file_state(path: Path) -> list[str | int]:
    """Absolute name, size in bytes and time of change of a file, in place of its bytes."""
    try:
        status = path.stat()
    except OSError:  # a dangling link; reading will say so
        return [str(path.absolute())]
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


class StoredLabels(Mapping[str, RawLabels]):
    """Source -> labels; each access reads, from the store where that is up to date.

    Args:
        readers: Source -> how it is read.
        when_read: Called after `read_all`, to free what the readers share.
    """

    def __init__(self, readers: Mapping[str, LabelReader], when_read: Callable[[], None]) -> None:
        self._readers = readers
        self._when_read = when_read

    def __len__(self) -> int:
        return len(self._readers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __contains__(self, source: object) -> bool:
        return source in self._readers  # Mapping would read the files to find out

    def __getitem__(self, source: str) -> RawLabels:
        return self._reading(source).labels

    def read_all(self) -> tuple[dict[str, dict[str, int]], list[str]]:
        """Make sure that every source is stored.

        Returns:
            File -> reason -> how many lines were skipped; and the same as notices for people.

        Raises:
            DataError: Where a file is malformed.
            RunError: Where the store cannot be written.
        """
        skipped: dict[str, dict[str, int]] = {}
        notices: dict[str, None] = {}
        for source in self:
            about = self._about(source)
            if about is None:
                self._reading(source)
                about = self._about(source) or {}
            skipped.update(about.get("skipped", {}))
            notices.update(dict.fromkeys(about.get("notices", [])))
        self._when_read()
        return skipped, list(notices)

    def _folder(self, source: str) -> Path:
        states = [file_state(path) for path in self._readers[source].paths]
        return home() / "labels" / fingerprint([FORMAT_VERSION, source, states])

    def _about(self, source: str) -> dict[str, Any] | None:
        """What was skipped; its presence says that the labels are stored."""
        folder = self._folder(source)
        if not (folder / "about.json").is_file() or not (folder / "labels.npz").is_file():
            return None
        return dict(read_json(folder / "about.json"))

    def _reading(self, source: str) -> Reading:
        folder = self._folder(source)
        about = self._about(source)
        if about is not None:
            labels = _unpacked(folder / "labels.npz")
            return Reading(labels, about["skipped"], about["notices"])
        reading = self._readers[source].read()
        write_arrays(folder / "labels.npz", _packed(reading.labels))
        about = {
            "source": source,
            "files": [str(path) for path in self._readers[source].paths],
            "skipped": {file: dict(reasons) for file, reasons in reading.skipped.items()},
            "notices": list(reading.notices),
        }
        write_json(folder / "about.json", about)
        return reading


def _packed(labels: RawLabels) -> dict[str, NDArray[Any]]:
    """Arrays that hold the labels; texts as UTF-8 bytes and their ends, as a few are very long."""
    arrays = _text_arrays("track_ids", labels.track_ids)
    if isinstance(labels, ValueLabels):
        return arrays | {"values": labels.values}
    if not isinstance(labels, CountLabels):
        raise TypeError(f"{type(labels).__name__} are kept in tables of one's own")
    counts = labels.counts
    return (
        arrays
        | _text_arrays("terms", labels.terms)
        | {"documents": labels.documents, "data": counts.data, "indices": counts.indices}
        | {"indptr": counts.indptr, "shape": np.array(counts.shape, np.int64)}
    )


def _unpacked(path: Path) -> RawLabels:
    arrays = read_arrays(path)
    try:
        track_ids = _texts(arrays, "track_ids")
        if "values" in arrays:
            return ValueLabels(track_ids, arrays["values"])
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        counts = sparse.csr_matrix(parts, shape=tuple(arrays["shape"].tolist()))
        return CountLabels(counts, _texts(arrays, "terms"), track_ids, arrays["documents"])
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: is damaged; delete {path.parent} and prepare again") from error


def _text_arrays(name: str, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    encoded = [text.encode("utf-8") for text in texts]
    ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    return {name: np.frombuffer(b"".join(encoded), np.uint8), f"{name}_ends": ends}


def _texts(arrays: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    content, ends = arrays[name].tobytes(), arrays[f"{name}_ends"].tolist()
    starts = [0, *ends[:-1]] if ends else []
    return [content[start:end].decode("utf-8") for start, end in zip(starts, ends, strict=True)]
