"""Files of a report: tables as CSV, each figure as PNG beside its data."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kerasrep.report.drawing import Picture
from kerasrep.storage.atomic import atomic_file


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, whole or not at all; bytes of names that are not UTF-8 are escaped."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))


def write_picture(folder: Path, picture: Picture) -> list[Path]:
    """Write a figure as PNG and its data as CSV, in `folder/plots`."""
    base = folder / "plots" / picture.name
    png, table = base.with_name(f"{base.name}.png"), base.with_name(f"{base.name}.csv")
    with atomic_file(png) as temporary:
        temporary.write_bytes(picture.png)
    write_table(table, picture.header, picture.rows)
    return [png, table]
