"""Write the model card of the starter trunk beside its export, out of model-card.md and what the export says.

    python recipes/starter/model_card.py exported/starter data/starter

Figures that no file has stand in model-card.md itself; lines with FILL in them are still to be written, and
the exit code is then 1.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from files import write_text

from kerasrep.errors import DataError
from kerasrep.model.export_trunk import read_export_weights
from kerasrep.serving.card import LICENCES_FILE
from kerasrep.storage.export_directory import card_path, find_version, read_card

TEMPLATE = Path(__file__).with_name("model-card.md")
KINDS = {"real": "real music", "rendered": "renderings of scores", "note": "single notes and drum hits"}


def model_card(version: Path, folder: Path, template: str) -> str:
    """Fill in what files say.

    Args:
        version: Of the export, with a table of licences.
        folder: That the trunk was trained on, with `tracks.tsv`.
        template: Text of `model-card.md`.
    """
    licences = list(_rows(card_path(version).with_name(LICENCES_FILE)))
    counts = Counter(row["licence"] for row in licences)
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in _rows(folder / "tracks.tsv"):
        seconds[row["kind"]].append(float(row["seconds"]))
    data = [
        f"{len(found):,} stretches of {KINDS[kind]} ({_hours(found)} h)" for kind, found in seconds.items()
    ]
    return Template(template).substitute(
        _of_the_export(version),
        data=", ".join(data) + ".",
        hours=_hours([one for found in seconds.values() for one in found]),
        licences="\n".join(f"| {name} | {count} |" for name, count in counts.most_common()),
        authors=len({row["author"] for row in licences}),
    )


def _of_the_export(version: Path) -> Mapping[str, Any]:
    card = read_card(version)
    weights = read_export_weights(version)
    files = [path for path in version.rglob("*") if path.is_file()]
    digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()
    statistics = ("moving_mean", "moving_variance")
    return {
        "name": card.name,
        "version": version.name,
        "strategy": card.strategy,
        "trunk": card.recipe.get("model", {}).get("trunk", "published"),
        "parameters": f"{sum(v.size for name, v in weights.items() if not name.endswith(statistics)):,}",
        "megabytes": f"{sum(path.stat().st_size for path in files) / 1e6:.1f}",
        "weights": card.weights,
        "sample_rate_hz": f"{card.sample_rate_hz:,}",
        "segment_seconds": f"{card.segment_samples / card.sample_rate_hz:g}",
        "default_layers": card.default_layers,
        "default_dimension": f"{card.default_dimension or card.track_dimension:,}",
        "track_dimension": card.track_dimension,
        "sources": ", ".join(f"`{source}`" for source in card.sources),
        "version_of_kerasrep": card.versions["kerasrep"],
        "licence": "\n\n".join(card.licence),
        "sha256": digest[:16],
    }


def _hours(seconds: list[float]) -> str:
    return f"{sum(seconds) / 3600:.1f}"


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); name the export and the folder"
        ) from error


def main() -> int:
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("export", type=Path, help="such as exported/starter; its newest version is described")
    parser.add_argument("folder", type=Path, help="that the trunk was trained on, such as data/starter")
    options = parser.parse_args()
    version = find_version(options.export)
    if version is None:
        raise DataError(f"{options.export}: holds no export")
    text = model_card(version, options.folder, TEMPLATE.read_text(encoding="utf-8"))
    target = version.parent / "README.md"
    write_text(target, text)
    print(f"wrote {target}")
    left = [line for line in text.splitlines() if "FILL" in line]
    for line in left:
        print(f"still to be written in {TEMPLATE.name}: {line}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DataError as error:
        sys.exit(f"model_card.py: {error}")
