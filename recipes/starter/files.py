"""Files that are whole or not there at all, and errors in one line."""

from __future__ import annotations

import csv
import importlib.util
import io
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class CollectError(Exception):
    """Something that whoever runs the script can put right; its text says how."""


def need_programs(*names: str) -> None:
    """Refuses to start without the programs that later steps call.

    Args:
        names: Commands, each in the Debian package of the same name unless said below.

    Raises:
        CollectError: Some are missing; all of them are named.
    """
    package_of = {"dpkg-deb": "dpkg", "ffprobe": "ffmpeg"}
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({package_of.get(name, name) for name in missing}))
        raise CollectError(f"missing: {', '.join(missing)}; run: apt-get install {packages}")


def need_modules(*names: str) -> None:
    """Refuses to start without Python packages that later steps import.

    Raises:
        CollectError: Some are missing; all of them are named.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise CollectError(f"missing: {', '.join(missing)}; run: pip install --no-deps {' '.join(missing)}")


def kerasrep_command(name: str) -> tuple[str, str]:
    """Words for this interpreter that are `kerasrep-NAME` of it, whatever the path finds."""
    return "-c", f"import sys; from kerasrep.cli.{name} import entry; sys.exit(entry())"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path that becomes `path` when the block ends well, and goes otherwise.

    The suffix is kept, because encoders read the format from it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{path.name}")
    if temporary.is_dir():
        shutil.rmtree(temporary)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> bool:
    """Writes a file whole, and not at all where it holds the same text; tells whether it wrote."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


def one_line(value: object) -> str:
    """A value as a cell of a TSV: no tabs, no line breaks."""
    return " ".join(str(value).split())


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bool:
    """Writes a TSV with a header; tells whether anything changed."""
    lines = ["\t".join(columns), *("\t".join(one_line(cell) for cell in row) for row in rows)]
    return write_text(path, "\n".join(lines) + "\n")


def read_table(path: Path) -> list[Mapping[str, str]]:
    """Reads a TSV with a header; lines that start with `#` are comments.

    Raises:
        CollectError: The file is missing, or a row has another number of cells than the header.
    """
    if not path.is_file():
        raise CollectError(f"{path}: missing")
    text = "".join(
        line for line in path.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#")
    )
    reader = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    rows: list[Mapping[str, str]] = list(reader)
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise CollectError(f"{path}, row {number}: {len(reader.fieldnames or [])} columns are needed")
    return rows
