"""Downstream tasks on the reserved third of the corpus, as the tables that `kerasrep.evaluation` reads.

Nothing is trained on these tracks, in any recipe. A tune and its other versions share a group, so that they
never stand on both sides of a split. Dance type and metre are in the scores and composer groups in the
catalogue; lead instruments and tempi are chosen at rendering, listeners are simulated: see
`kerasrep.corpora.demo.labels`.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrep.corpora.demo import building, selection
from kerasrep.corpora.demo.opening import demo_folder, demo_is_cached, open_demo
from kerasrep.errors import DataError, RunError
from kerasrep.recipe.corpora import DemoCorpus
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage.run_directory import atomic_directory, home, read_json

Record = Mapping[str, Any]

FORMAT_VERSION = 1
FOLDER = "demo"
LEAST_GROUPS = 5  # of a class: one a fold

#: Table -> what a track is labelled with; the empty string leaves the track out.
LABELS: dict[str, Callable[[Record], str]] = {
    "dance": lambda track: str(track["dance"]),
    "metre": lambda track: str(track["metre"]),
    "composer": lambda track: str(track["collection"]),
    "lead": lambda track: str(track["families"][0]),
}


def write_task_tables(settings: DemoCorpus, progress: bool = True) -> Path:
    """Write the tables of the demo tasks, once a corpus; the corpus is rendered first where it is not cached.

    Args:
        settings: Of the corpus.
        progress: Whether to show a bar while it is built.

    Returns:
        A data root: its folder `demo` holds `dance.tsv`, `metre.tsv`, `composer.tsv`, `lead.tsv`, `tempo.tsv`
        (path, label, group), `items.tsv` (item, path, group) and `plays.tsv` (user, item, plays).

    Raises:
        DataError: Where the corpus cannot be used, or has no reserved track.
    """
    folder = demo_folder(settings)
    root = home() / "tasks" / f"demo-{fingerprint([FORMAT_VERSION, str(folder.absolute())])}"
    target = root / FOLDER
    if not (target.is_dir() and demo_is_cached(settings)):
        open_demo(settings, progress)
    if target.is_dir():
        return root
    manifest = read_json(folder / building.MANIFEST)
    records = [record for record in manifest["tracks"] if record["split"] == selection.EVALUATION]
    if not records:
        raise DataError(f"{folder}: reserves no track for evaluation; raise corpus.tracks")
    try:
        with atomic_directory(target) as temporary:
            for name, text in _tables(records, folder).items():
                (temporary / f"{name}.tsv").write_text(text, encoding="utf-8")
    except RunError:
        if not target.is_dir():  # another process was quicker
            raise
    return root


def _tables(records: Sequence[Record], folder: Path) -> dict[str, str]:
    def path(record: Record) -> str:
        return str((folder / str(record["audio"])).absolute())

    tables = {}
    for name, label in LABELS.items():
        rows = _frequent([(path(record), label(record), record["group"]) for record in records])
        tables[name] = _tsv(("path", "label", "group"), rows)
    tempi = [(path(record), f"{record['bpm']:.6g}", record["group"]) for record in records]
    tables["tempo"] = _tsv(("path", "label", "group"), tempi)
    items = [(record["track_id"], path(record), record["group"]) for record in records]
    tables["items"] = _tsv(("item", "path", "group"), items)
    plays = [
        (user, record["track_id"], str(count))
        for record in records
        for user, count in record["plays"].items()
    ]
    tables["plays"] = _tsv(("user", "item", "plays"), plays)
    return tables


def _frequent(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Rows whose label stands in `LEAST_GROUPS` groups at least; the others could not be in every fold."""
    groups = defaultdict(set)
    for _, label, group in rows:
        groups[label].add(group)
    return [row for row in rows if row[1] and len(groups[row[1]]) >= LEAST_GROUPS]


def _tsv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Tab-separated text, quoted as RFC 4180 says where a field needs it."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
