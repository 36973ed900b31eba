"""One part of the folder as a folder of its own: hard links to its audio, and its rows of every table.

    python recipes/starter/folds.py data/starter A data/starter-a

A trunk that learns from one part is scored on another (`benchmark.yaml`).
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from files import read_table, write_table

PATH_COLUMNS = ("path", "track")


def make_fold(folder: Path, parts: str, out: Path) -> int:
    """Links the audio of some parts and writes their rows of every table; what is there stays.

    Args:
        folder: As collect.py wrote it.
        parts: Their letters: A, or AB.
        out: On the same disk.

    Returns:
        How many audio files they have.
    """
    own = {row["path"] for row in read_table(folder / "tracks.tsv") if row["part"] in parts}
    for path in sorted(own):
        link = out / path
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(folder / path, link)
    for table in sorted(folder.glob("*.tsv")):
        with table.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, delimiter="\t")
        if header[0] in PATH_COLUMNS:
            write_table(out / table.name, header, (row for row in rows if row[0] in own))
    return len(own)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", choices=["A", "B", "C", "AB", "AC", "BC", "ABC"])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    count = make_fold(arguments.folder, arguments.parts, arguments.out)
    print(f"{arguments.out}: {count} audio files of {arguments.parts}")


if __name__ == "__main__":
    main()
