"""Tables of any kind, CSV, TSV and Parquet, read row by row: the one reader of all commands.

The first wrong line ends it with file and line.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from kerasrep.errors import DataError
from kerasrep.storage import limits
from kerasrep.storage.atomic import atomic_file
from kerasrep.storage.regular_file import opened

#: Endings of tables whose fields are separated by tabs; `.info` is that of published lists of splits.
TAB_ENDINGS = frozenset({".tsv", ".txt", ".info"})
PARQUET_ENDINGS = frozenset({".parquet", ".pq"})
#: What fields say in lower case where nothing is known.
UNKNOWN = frozenset({"", "nan", "none", "na", "n/a", "null", "?", "-"})
#: A quoted field of more lines is a quote that was never closed.
MAX_ROW_LINES = 10_000
BATCH_ROWS = 16_384
#: Squares of larger ones would leave the range of float64.
LARGEST_NUMBER = 1e150


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
    """Rows of a table of text by the names in its first line; see `read_table`."""
    rows = read_fields(path)
    header = next(rows, ("", []))[1]
    positions = column_positions(f"{path}, line 1", header, required, optional)
    for place, fields in rows:
        if len(fields) != len(header):
            raise DataError(f"{place}: has {len(fields)} fields, the first line names {len(header)}")
        yield place, [fields[i].strip() if i is not None else "" for i in positions]


def column_positions(
    place: str, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> list[int | None]:
    """Where the columns are that are asked for; None for an optional one that is not there.

    Raises:
        DataError: Where a required one is missing, or a name stands for several columns.
    """
    names = [name.strip() for name in header]
    positions: list[int | None] = []
    for wanted in (*required, *optional):
        found = [i for i, name in enumerate(names) if name == wanted]
        found = found or [i for i, name in enumerate(names) if name.lower() == wanted.lower()]
        if len(found) > 1:
            raise DataError(f"{place}: has {len(found)} columns '{wanted}'; rename all but one")
        if not found and wanted in required:
            expected = ", ".join(required) + "".join(f" [, {name}]" for name in optional)
            raise DataError(f"{place}: lacks the column '{wanted}'; columns expected: {expected}")
        positions.append(found[0] if found else None)
    return positions


def is_unknown(text: str) -> bool:
    """Whether a field means that nothing is known: empty, NaN, None, NA, N/A, null, ? or -."""
    return text.lower() in UNKNOWN


def read_fields(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield where each row stands and all its fields; the first line is a row like any other.

    Text is UTF-8, or UTF-16 with a byte order mark. Fields are separated by tabs in files whose names end in
    one of `TAB_ENDINGS`, by commas otherwise; where the first line has none, by whichever of tab, semicolon
    and comma it has. Fields may be quoted as RFC 4180 says. Between tabs, where quotes are often part of the
    text, they are so in a line that only then has as many fields as the first, unless that one has quotes.
    Blank lines are skipped, the first one excepted.

    Yields:
        `FILE, line N`, of the row's first line, and the fields as they stand.

    Raises:
        DataError: Where the file cannot be read, is in another encoding, or has a malformed line.
    """
    with opened(path, "a CSV or TSV table") as file:
        mark = file.read(2)
        file.seek(0)
        encoding = "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        yield from _Rows(path, io.TextIOWrapper(file, encoding=encoding, newline=""))


class _Rows:
    """Lines become rows.

    Args:
        path: The file.
        file: Its text.
    """

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._lines = _lines(path, file)
        self._next = next(self._lines, None)
        self._number = 0
        self._delimiter = _delimiter(path, self._next or "")
        self._columns = 0  # of the first row
        self._quotes_may_be_text = self._delimiter == "\t" and '"' not in (self._next or "")

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        while self._next is not None:
            line = self._advance()
            place = f"{self._path}, line {self._number}"
            fields = self._row(place, line) if line.strip() or not self._columns else []
            if not self._columns or any(field.strip() for field in fields):
                yield place, fields
            self._columns = self._columns or max(1, len(fields))

    def _advance(self) -> str:
        assert self._next is not None
        line, self._next = self._next, next(self._lines, None)
        self._number += 1
        return line

    def _split(self, line: str) -> list[str]:
        """Fields of a line whose quotes are text."""
        return line.rstrip("\r\n").split(self._delimiter)

    def _row(self, place: str, line: str) -> list[str]:
        fields, fault = [], ""
        try:
            fields = next(self._reader([line]), [])
        except csv.Error as error:
            fault = str(error)
        several = "unexpected end of data" in fault  # a quote stays open
        raw = self._split(line)
        as_text = self._quotes_may_be_text and len(raw) == self._columns != len(fields)
        if as_text and not (several and self._goes_on()):
            return raw
        if several:
            return self._over_several_lines(place, line)
        if fault:
            raise DataError(f"{place}: is not a valid table row ({fault})")
        return fields

    def _goes_on(self) -> bool:
        """Whether the next line is no row by itself."""
        return self._next is not None and len(self._split(self._next)) != self._columns

    def _over_several_lines(self, place: str, line: str) -> list[str]:
        """A row with a quoted field that holds ends of lines."""
        read = [line]

        def lines() -> Iterator[str]:
            yield line
            while self._next is not None and len(read) < MAX_ROW_LINES:
                read.append(self._advance())
                yield read[-1]

        try:
            fields = next(self._reader(lines()))
        except csv.Error as error:
            advice = "double the quotes inside fields, and put quotes around those"
            raise DataError(f"{place}: has a quote that is not closed ({error}); {advice}") from error
        if self._columns and all(len(self._split(each)) == self._columns for each in read):
            raise DataError(
                f"{place}: has a quote that is closed in line {self._number}, and the lines between are rows "
                "by themselves; double the quotes inside fields, and put quotes around those"
            )
        return fields

    def _reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)


def _delimiter(path: Path, line: str) -> str:
    usual = "\t" if path.suffix.lower() in TAB_ENDINGS else ","
    return usual if usual in line else max((usual, "\t", ";", ","), key=line.count)


def read_unquoted(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the number and the tab-separated fields of each line, for large files whose quotes mean nothing.

    Nothing is decoded, so that a damaged name somewhere in millions of lines does no harm.

    Yields:
        Line number, from 1, and fields without the end of the line.

    Raises:
        DataError: Where the file cannot be read, or a line is longer than `limits.LINE_CHARACTERS` bytes.
    """
    number, most = 0, limits.LINE_CHARACTERS.value
    with opened(path, "a CSV or TSV table") as file:
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most:
                raise too_long(f"{path}, line {number}")
            yield number, line.rstrip(b"\r\n").split(b"\t")


def parse_number(field: str, place: str, column: str, minimum: float = -math.inf) -> float:
    """A number of at least `minimum` whose square is finite.

    Raises:
        DataError: Where `field` is anything else; names `place` and `column`.
    """
    try:
        number = float(field)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < minimum or "_" in field:
        what = "a number" if minimum == -math.inf else f"a number of at least {minimum:g}"
        hint = " (with a decimal point)" if "," in field else ""
        raise DataError(f"{place}: column '{column}' has {field[:40]!r}, {what} was expected{hint}")
    if abs(number) > LARGEST_NUMBER:
        raise DataError(
            f"{place}: column '{column}' has {field[:40]!r}, beyond +-{LARGEST_NUMBER:g}; rescale it"
        )
    return number


def too_long(place: str) -> DataError:
    """The error at a line longer than any table has."""
    limit = limits.LINE_CHARACTERS
    return DataError(f"{place}: is longer than {limit.value:,} characters; {limit.advice}")


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines of bounded length, without NUL characters."""
    number, most = 0, limits.LINE_CHARACTERS.value
    while True:
        number += 1
        try:
            line = file.readline(most + 1)
        except UnicodeDecodeError as error:
            what = "UTF-16" if error.encoding.startswith("utf-16") else "UTF-8"
            number = _undecodable(path) if what == "UTF-8" else number
            raise DataError(
                f"{path}, line {number}: is not {what} text ({error.reason}); save the table as UTF-8"
            ) from error
        if not line:
            return
        if len(line) > most:
            raise too_long(f"{path}, line {number}")
        if "\0" in line:
            raise DataError(f"{path}, line {number}: has a NUL character; save the table as UTF-8 text")
        yield line


def _undecodable(path: Path) -> int:
    """The first line that is not UTF-8; text is decoded some lines ahead."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def read_table(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Yield where each row stands and its fields as text, in the order `required` + `optional`.

    Names that end in `.parquet` or `.pq` are Parquet: columns of text or numbers, also dictionary-encoded, in
    which an empty value (null) is an empty field. All else is text as `tables.read_fields` has it; its first
    line names the columns, in any order. Where none is equal, names are compared without regard to case.
    Other columns are ignored; an optional one that is not there gives empty fields.

    Yields:
        `FILE, line N` (of Parquet `FILE, row N`, from 1) and the fields, surrounding blanks removed.

    Raises:
        DataError: Where the file cannot be read, lacks a column or has it twice, or has a malformed line.
    """
    if path.suffix.lower() in PARQUET_ENDINGS:
        return _read_parquet(path, required, optional)
    return read_rows(path, required, optional)


def _read_parquet(
    path: Path, required: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with opened(path, "a Parquet table"):
        pass
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(path, file.schema_arrow, required, optional)
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=[name for name in columns if name]):
                fields = [
                    _texts(path, number, name, batch.column(name).to_pylist()) if name else [""] * len(batch)
                    for name in columns
                ]
                for row in zip(*fields, strict=True):
                    number += 1
                    yield f"{path}, row {number}", list(row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); write it again") from error


def _columns(path: Path, schema: Any, required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Names of the columns to read; empty for an optional one that is not there."""
    import pyarrow as pa

    positions = column_positions(str(path), schema.names, required, optional)
    present = ["" if i is None else schema.names[i] for i in positions]
    for name in filter(None, present):
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (text or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise DataError(f"{path}: column '{name}' has type {kind}; text or numbers were expected")
    return present


def _texts(path: Path, number: int, name: str, values: list[Any]) -> list[str]:
    """Values as the fields of a text table; `number` is that of the row before the first."""
    texts = ["" if value is None else str(value).strip() for value in values]
    most = limits.LINE_CHARACTERS.value
    for row, text in enumerate(texts, start=number + 1):
        if len(text) > most:
            raise too_long(f"{path}, row {row}: column '{name}'")
        if "\0" in text:
            raise DataError(f"{path}, row {row}: column '{name}' has a NUL character")
    return texts
