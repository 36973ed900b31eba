"""CSV and TSV tables of labels, read line by line; the first wrong line ends it with file and line."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from kerasrep.errors import DataError
from kerasrep.storage import limits
from kerasrep.storage.atomic import atomic_file

#: Endings of tables whose fields are separated by tabs; `.info` is that of published lists of splits.
TAB_ENDINGS = frozenset({".tsv", ".txt", ".info"})


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, whole or not at all; bytes of names that are not UTF-8 are escaped."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))


def read_rows(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Yield where each row stands and its fields, in the order `required` + `optional`.

    The first line names the columns; others than those asked for are ignored. Fields are as in
    `read_fields`. Blank lines are skipped. An optional column that the file lacks gives empty fields.

    Yields:
        `FILE, line N` and the fields, surrounding blanks removed.

    Raises:
        DataError: Where the file cannot be read, is not UTF-8, lacks a column, or has a malformed line.
    """
    rows = read_fields(path)
    header = [name.strip() for name in next(rows, ("", []))[1]]
    positions = _positions(path, header, required, optional)
    for place, fields in rows:
        if len(fields) != len(header):
            raise DataError(f"{place}: has {len(fields)} fields, the first line names {len(header)}")
        yield place, [fields[i].strip() if i is not None else "" for i in positions]


def read_fields(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield where each row stands and all its fields; the first line is a row like any other.

    Fields are separated by tabs in files whose names end in one of `TAB_ENDINGS`, by commas otherwise,
    and may be quoted as RFC 4180 says. Blank lines are skipped, the first one excepted.

    Yields:
        `FILE, line N` and the fields as they stand.

    Raises:
        DataError: Where the file cannot be read, is not UTF-8, or has a malformed line.
    """
    with _opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        delimiter = "\t" if path.suffix.lower() in TAB_ENDINGS else ","
        reader = csv.reader(_lines(path, text), delimiter=delimiter, strict=True)
        first = True
        try:
            for fields in reader:
                if first or any(field.strip() for field in fields):
                    yield f"{path}, line {reader.line_num}", fields
                first = False
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: is no valid table row ({error})") from error


def read_unquoted(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the number and the tab-separated fields of each line, for large files whose quotes mean nothing.

    Nothing is decoded, so that a damaged name somewhere in millions of lines does no harm.

    Yields:
        Line number, from 1, and fields without the end of the line.

    Raises:
        DataError: Where the file cannot be read, or a line is longer than `limits.LINE_CHARACTERS` bytes.
    """
    number, most = 0, limits.LINE_CHARACTERS.value
    with _opened(path) as file:
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most:
                raise too_long(f"{path}, line {number}")
            yield number, line.rstrip(b"\r\n").split(b"\t")


def parse_number(field: str, place: str, column: str, minimum: float = -math.inf) -> float:
    """A finite number of at least `minimum`.

    Raises:
        DataError: Where `field` is anything else; names `place` and `column`.
    """
    try:
        number = float(field)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < minimum or "_" in field:
        what = "a number" if minimum == -math.inf else f"a number of at least {minimum:g}"
        raise DataError(f"{place}: column '{column}' has {field[:40]!r}, {what} was expected")
    return number


def too_long(place: str) -> DataError:
    """The error at a line longer than any table has."""
    limit = limits.LINE_CHARACTERS
    return DataError(f"{place}: is longer than {limit.value:,} characters; {limit.advice}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading; what can go wrong with it becomes a `DataError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is not a regular file; a CSV or TSV table was expected")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason}); save the table as UTF-8") from error


def _positions(
    path: Path, header: list[str], required: Sequence[str], optional: Sequence[str]
) -> list[int | None]:
    missing = [name for name in required if name not in header]
    if missing:
        expected = ", ".join(required) + "".join(f" [, {name}]" for name in optional)
        raise DataError(f"{path}, line 1: lacks the column '{missing[0]}'; columns expected: {expected}")
    return [header.index(name) if name in header else None for name in (*required, *optional)]


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines of bounded length, without NUL characters."""
    number, most = 0, limits.LINE_CHARACTERS.value
    while line := file.readline(most + 1):
        number += 1
        if len(line) > most:
            raise too_long(f"{path}, line {number}")
        if "\0" in line:
            raise DataError(f"{path}, line {number}: has a NUL character; this is no text table")
        yield line
