"""Lines of large text files, plain or as the one member of a zip archive that is asked for.

Nothing is extracted to disk, and memory is bounded by a block of `BLOCK_BYTES` and one line of
`limits.LINE_CHARACTERS` bytes, whatever the file holds.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from kerasrep.errors import DataError
from kerasrep.runtime.console import Progress
from kerasrep.sources.readers.reading import shown
from kerasrep.storage import limits
from kerasrep.storage.regular_file import opened
from kerasrep.storage.tables import too_long

BLOCK_BYTES = 1 << 20
#: A member may unpack to `limits.ZIP_BYTES`, or to this many times its packed size where that is more;
#: text such as the published files shrinks to a sixth.
MAX_EXPANSION = 100

_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def read_lines(path: Path, member: str, progress: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield `FILE, line N` and each line that is not blank, without its end.

    Args:
        path: Text file, or a zip archive (a name that ends in `.zip`).
        member: Name in the archive; an archive of one file may call it anything.
        progress: Show a bar.

    Raises:
        DataError: Where the file cannot be read, is no such archive, or has a line with a NUL byte or of
            more than `limits.LINE_CHARACTERS` bytes.
    """
    for first, lines in read_blocks(path, member, progress):
        for number, line in enumerate(lines, start=first):
            if line and not line.isspace():
                yield f"{path}, line {number}", line


def read_blocks(path: Path, member: str, progress: bool = False) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the number of a block's first line, from 1, and its lines; arguments as in `read_lines`."""
    number, rest = 1, b""
    with _opened(path, member) as (file, n_bytes):
        bar = Progress(n_bytes, f"reading {path.name}", "B", progress, unit_scale=True)
        with bar:
            while block := file.read(BLOCK_BYTES):
                bar.update(len(block))
                whole, newline, tail = block.rpartition(b"\n")
                if newline:
                    lines = _checked(path, number, rest + whole)
                    yield number, lines
                    number += len(lines)
                    rest = tail
                else:
                    rest += tail
                if len(rest) > limits.LINE_CHARACTERS.value:
                    raise too_long(f"{path}, line {number}")
        if rest:
            yield number, _checked(path, number, rest)


def _checked(path: Path, number: int, block: bytes) -> list[bytes]:
    """The lines of a block that starts with line `number`."""
    if number == 1:
        block = block.removeprefix(b"\xef\xbb\xbf")
    lines = block.split(b"\n")
    if b"\r" in block:
        lines = [line.removesuffix(b"\r") for line in lines]
    if b"\0" in block:
        bad = next(row for row, line in enumerate(lines) if b"\0" in line)
        raise DataError(f"{path}, line {number + bad}: has a NUL byte; UTF-8 text was expected")
    most = limits.LINE_CHARACTERS.value
    if len(block) > most:
        for row, line in enumerate(lines):
            if len(line) > most:
                raise too_long(f"{path}, line {number + row}")
    return lines


@contextlib.contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[IO[bytes], int]]:
    """The unpacked stream and its length in bytes."""
    with opened(path, "a text or zip file") as file, contextlib.ExitStack() as stack:
        if path.suffix.lower() != ".zip":
            yield file, path.stat().st_size
            return
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
            info = _member(path, archive.infolist(), member)
            stream = stack.enter_context(archive.open(info))
        except _BROKEN_ZIP as error:
            raise _broken(path, error) from error
        yield _ZipStream(path, stream), info.file_size  # type: ignore[misc]


class _ZipStream:
    """A member whose damage is told as a `DataError`."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream

    def read(self, n_bytes: int) -> bytes:
        try:
            return self._stream.read(n_bytes)
        except _BROKEN_ZIP as error:
            raise _broken(self._path, error) from error


def _broken(path: Path, error: BaseException) -> DataError:
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return DataError(f"{path}: is not a usable zip archive ({reason}); fetch it again")


def _member(path: Path, infos: list[zipfile.ZipInfo], wanted: str) -> zipfile.ZipInfo:
    """The member to read, refused where it could do harm."""
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise DataError(f"{path}: holds the name {shown(info.filename)}, which leads elsewhere; not read")
    files = [info for info in infos if not info.is_dir()]
    named = [info for info in files if PurePosixPath(info.filename).name == wanted]
    found = named or (files if len(files) == 1 else [])
    if len(found) != 1:
        names = ", ".join(shown(info.filename) for info in files[:3]) or "nothing"
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        raise DataError(f"{path}: must hold the file '{wanted}' once; holds {names}{more}")
    (info,) = found
    if info.flag_bits & 0x1:
        raise DataError(f"{path}: '{wanted}' is encrypted; unpack it first")
    if info.file_size > max(limits.ZIP_BYTES.value, MAX_EXPANSION * info.compress_size):
        raise DataError(
            f"{path}: '{wanted}' would unpack from {info.compress_size:,} to {info.file_size:,} bytes, "
            f"more than {MAX_EXPANSION} times; {limits.ZIP_BYTES.advice}"
        )
    return info
