"""Rows of a catalogue as a table: NPZ, Parquet, or a folder of Parquet shards; one block in memory."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.layout import NONE, About, Layout
from kerasrep.embedding.files import BadFile
from kerasrep.storage.run_directory import atomic_directory, atomic_file

NPZ, PARQUET, CSV = ".npz", ".parquet", ".csv"
SUFFIXES = (NPZ, PARQUET, CSV)
#: Bytes of an output's name: with what is added for files beside it, systems take 255.
MAX_NAME_BYTES = 230
#: Bytes of embeddings in a row group.
GROUP_BYTES = 1 << 23


@dataclass(frozen=True)
class Block:
    """Some consecutive rows.

    Attributes:
        paths: Of the files, text; bytes of a name that are not UTF-8 are escaped.
        seconds: Of the files, float64.
        start_seconds: Of the segments, float64; zeros where rows are pooled.
        embeddings: float32 [rows, dimension].
        typical_seconds: Of the files, where their segment nearest to the mean begins, float64; NaN where rows
            are segments.
    """

    paths: list[str]
    seconds: NDArray[np.float64]
    start_seconds: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    typical_seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice) -> Block:
        """Some of the rows."""
        return Block(*(column[rows] for column in vars(self).values()))


def blocks_of(blocks: Iterable[Block], dimension: int, max_rows: int | None = None) -> Iterator[Block]:
    """Join and cut blocks to such of equal length, the last one shorter.

    Args:
        blocks: In order.
        dimension: Values of a row.
        max_rows: Rows of a block; by default as many as a row group holds.
    """
    size = max(1, min(max_rows or 2**62, GROUP_BYTES // (4 * dimension)))
    held: list[Block] = []
    n_held = 0
    for block in blocks:
        rest = block
        while len(rest):
            part, rest = rest[: size - n_held], rest[size - n_held :]
            held.append(part)
            n_held += len(part)
            if n_held == size:
                yield _join(held)
                held, n_held = [], 0
    if held:
        yield _join(held)


def one_ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same; the next one is read while one is written."""
    with ThreadPoolExecutor(1, "read") as thread:
        following = thread.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = thread.submit(next, blocks, None)
            yield block


def path_text(path: Path) -> str:
    r"""A path as tables hold it: a byte that is not UTF-8 is `\xff`, text that reads like it `\\xff`."""

    def escaped(found: re.Match[str]) -> str:
        slashes, what = found.groups()
        return 2 * slashes + (what if what.startswith("x") else f"\\x{ord(what) - 0xDC00:02x}")

    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    return re.sub(r"(\\*)([\udc80-\udcff]|x[89a-f][0-9a-f])", escaped, text)


def _join(blocks: list[Block]) -> Block:
    return Block(
        [path for block in blocks for path in block.paths],
        np.concatenate([block.seconds for block in blocks]),
        np.concatenate([block.start_seconds for block in blocks]),
        np.concatenate([block.embeddings for block in blocks]),
        np.concatenate([block.typical_seconds for block in blocks]),
    )


def described(**texts: str) -> dict[bytes, bytes]:
    """A Parquet file's metadata, with their checksum: those of pages do not cover them."""
    metadata = {key.encode(): text.encode() for key, text in texts.items()}
    return metadata | {b"crc32": _checksum(metadata)}


def is_as_described(metadata: Mapping[bytes, bytes]) -> bool:
    """Whether a Parquet file's metadata are what was written; tables from elsewhere have no checksum."""
    return metadata.get(b"crc32") in (None, _checksum(metadata))


def _checksum(metadata: Mapping[bytes, bytes]) -> bytes:
    text = b"\n".join(metadata.get(key, b"") for key in (b"columns", b"files", b"kerasrep"))
    return str(zlib.crc32(text)).encode()


def write_parquet(path: Path, blocks: Iterable[Block], layout: Layout, about: About) -> None:
    """Write one Parquet file.

    Columns `path` (string), `seconds` (double: length of the audio), without pooling `start_seconds`, else
    `typical_seconds` (double), and `embedding` (list of `dimension` floats, fixed size). One list column,
    because thousands of columns make slow tables: `np.stack(frame["embedding"])` is the matrix in pandas,
    `frame["embedding"].to_numpy()` in polars. The schema's metadata has JSON: `columns`, the names of the
    dimensions, and `kerasrep`, an `About`. Pages and metadata have checksums.
    """
    import pyarrow
    from pyarrow import parquet

    fields = [("path", pyarrow.string()), ("seconds", pyarrow.float64())]
    fields += [("start_seconds" if layout.pool == NONE else "typical_seconds", pyarrow.float64())]
    fields += [("embedding", pyarrow.list_(pyarrow.float32(), layout.dimension))]
    schema = pyarrow.schema(fields, described(columns=json.dumps(layout.columns), kerasrep=about.to_json()))
    floats = ["seconds", fields[2][0], "embedding.list.element"]
    with parquet.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=["path"],
        use_byte_stream_split=floats,  # a tenth smaller, and written in a fifth of the time
        write_page_checksum=True,
    ) as writer:
        for block in blocks:
            values = pyarrow.array(block.embeddings.reshape(-1))
            arrays: dict[str, Any] = {
                "path": pyarrow.array(block.paths, pyarrow.string()),
                "seconds": block.seconds,
                "start_seconds": block.start_seconds,
                "typical_seconds": block.typical_seconds,
                "embedding": pyarrow.FixedSizeListArray.from_arrays(values, layout.dimension),
            }
            columns = [pyarrow.array(arrays[name]) for name in schema.names]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))


def write_csv(path: Path, blocks: Iterable[Block], layout: Layout) -> None:
    """Write text for spreadsheets: `path`, `seconds`, without pooling `start_seconds`, and each dimension.

    A value is the shortest text that is the same float32 when it is read.
    """
    timed = layout.pool == NONE
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "seconds", *(["start_seconds"] if timed else []), *layout.columns])
        for block in blocks:
            for name, seconds, start, values in zip(
                block.paths, block.seconds, block.start_seconds, block.embeddings, strict=True
            ):
                times = [float(seconds), float(start)] if timed else [float(seconds)]
                writer.writerow([name, *times, *map(str, values)])


def write_shards(
    folder: Path, blocks: Iterable[Block], layout: Layout, about: About, n_rows: int, shard_rows: int
) -> None:
    """Write `part-00000-of-00012.parquet` and so on, each with `shard_rows` rows but the last.

    Args:
        folder: Made here; readers of Parquet take the folder as one table.
        blocks: Of a length that divides `shard_rows`, or of `shard_rows`; see `blocks_of`.
        layout: Of the rows.
        about: What they were made with.
        n_rows: All rows.
        shard_rows: Rows a shard.

    Raises:
        RunError: Where the folder exists, or cannot be written.
    """
    count, source = -(-n_rows // shard_rows), _Rows(iter(blocks))
    with atomic_directory(folder) as temporary:
        for number in range(count):
            name = f"part-{number:05d}-of-{count:05d}{PARQUET}"
            write_parquet(temporary / name, source.take(shard_rows), layout, about)


class _Rows:
    """Blocks that are taken in portions."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._rest: Block | None = None

    def take(self, n: int) -> Iterator[Block]:
        while n:
            block = self._rest if self._rest is not None else next(self._blocks, None)
            if block is None:
                return
            part, rest = block[:n], block[n:]
            self._rest = rest if len(rest) else None
            n -= len(part)
            yield part


def write_npz(
    path: Path,
    read_blocks: Callable[[], Iterable[Block]],
    layout: Layout,
    about: About,
    n_rows: int,
    longest_path: int,
) -> None:
    """Write one NPZ file, array by array.

    Arrays `paths` (text), `seconds` (float64), without pooling `start_seconds`, else `typical_seconds`
    (float64), `embeddings`
    (float32 [rows, dimension]), `columns` (text: names of the dimensions) and `about` (text: an `About`).

    Args:
        path: Written in place.
        read_blocks: Gives all blocks, as often as it is called.
        layout: Of the rows.
        about: What they were made with.
        n_rows: All rows.
        longest_path: Characters of the longest path.
    """
    text = np.dtype(f"<U{max(1, longest_path)}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _write_array(
            archive, "paths", text, (n_rows,), (np.array(block.paths, text) for block in read_blocks())
        )
        double = np.dtype("<f8")
        _write_array(archive, "seconds", double, (n_rows,), (block.seconds for block in read_blocks()))
        name = "start_seconds" if layout.pool == NONE else "typical_seconds"
        _write_array(archive, name, double, (n_rows,), (getattr(block, name) for block in read_blocks()))
        shape = (n_rows, layout.dimension)
        embeddings = (block.embeddings for block in read_blocks())
        _write_array(archive, "embeddings", np.dtype("<f4"), shape, embeddings)
        columns, said = np.array(layout.columns), np.array(about.to_json())
        _write_array(archive, "columns", columns.dtype, columns.shape, [columns])
        _write_array(archive, "about", said.dtype, said.shape, [said])


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    parts: Iterable[NDArray[Any]],
) -> None:
    file: IO[bytes]
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        npy.write_array_header_2_0(file, header)  # type: ignore[no-untyped-call]
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).tobytes())


def skipped_path(output: Path) -> Path:
    """Where the table of files that could not be used lies: a table's own, whatever else has its stem."""
    return output.with_name(f"{output.name}.skipped.csv")


def write_skipped(output: Path, bad: Iterable[BadFile]) -> None:
    """Write `path,reason` of what could not be used; without any, a table of an earlier run goes."""
    path, empty = skipped_path(output), True
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        for item in bad:
            empty = False
            writer.writerow([path_text(item.path), item.reason])
    if empty:
        path.unlink(missing_ok=True)
