"""What the folder holds, and what was left out and why: report.md and report.json."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from files import write_text
from parts import PARTS
from real_music import LeftOut, Piece
from tables import composer_label


def _hours(pieces: Sequence[Piece]) -> float:
    return round(sum(piece.seconds for piece in pieces) / 3600, 2)


def _of_part(pieces: Sequence[Piece]) -> dict[str, object]:
    return {
        "pieces": len(pieces),
        "stretches": sum(len(piece.stretches) for piece in pieces),
        "hours": _hours(pieces),
        "packages": len({piece.package for piece in pieces}),
        "composers": len({composer_label(piece) for piece in pieces} - {""}),
    }


def summarise(
    pieces: Sequence[Piece],
    parts: Mapping[str, tuple[str, str]],
    left_out: Sequence[LeftOut],
    missing: Sequence[str],
    made: Mapping[str, Mapping[str, object]],
) -> dict[str, object]:
    """Counts and hours of everything.

    Args:
        pieces: Real music.
        parts: Group and part of each package.
        left_out: What stayed out.
        missing: Packages that are not there.
        made: What came of renderings and notes.
    """
    by_package: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_package[piece.package].append(piece)
    packages = {
        name: {"part": parts[name][1], "pieces": len(rows), "hours": _hours(rows)}
        for name, rows in sorted(by_package.items())
    }
    of_parts = {part: _of_part([p for p in pieces if parts[p.package][1] == part]) for part in PARTS}
    return {
        "real": {"pieces": len(pieces), "hours": _hours(pieces), "parts": of_parts, "packages": packages},
        "made": made,
        "missing": list(missing),
        "left_out": [{"package": item.package, "file": item.name, "why": item.why} for item in left_out],
    }


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows), ""]


def write_report(
    out: Path,
    pieces: Sequence[Piece],
    parts: Mapping[str, tuple[str, str]],
    left_out: Sequence[LeftOut],
    missing: Sequence[str],
    made: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Writes report.json and report.md."""
    summary = summarise(pieces, parts, left_out, missing, made or {})
    write_text(out / "report.json", json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
    real = summary["real"]
    assert isinstance(real, dict)
    lines = [
        "# The folder of the starter trunk",
        "",
        f"Real music: {real['pieces']} pieces, {real['hours']} hours.",
        "",
    ]
    columns = ("pieces", "stretches", "hours", "packages", "composers")
    lines += _table(
        ("part", *columns), [(part, *(row[c] for c in columns)) for part, row in real["parts"].items()]
    )
    package_rows = [
        (name, row["part"], row["pieces"], row["hours"]) for name, row in real["packages"].items()
    ]
    lines += _table(("package", "part", "pieces", "hours"), package_rows)
    for name, counts in (made or {}).items():
        lines += [f"## {name}", "", *(f"- {key}: {value}" for key, value in counts.items()), ""]
    lines += ["## Packages that are missing", "", *(f"- {line}" for line in missing), ""]
    lines += [
        "## Left out",
        "",
        *_table(("package", "file", "why"), [(i.package, i.name, i.why) for i in left_out]),
    ]
    write_text(out / "report.md", "\n".join(lines))
