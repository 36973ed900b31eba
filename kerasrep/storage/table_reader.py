"""Tables of one's own, CSV, TSV and Parquet, row by row: the one reader of all commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kerasrep.errors import DataError
from kerasrep.storage import limits
from kerasrep.storage.regular_file import opened
from kerasrep.storage.tables import PARQUET_ENDINGS, column_positions, read_rows, too_long

BATCH_ROWS = 16_384


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
