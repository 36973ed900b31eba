"""The licences of training data, of which a table goes with an export."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from kerasrep.errors import DataError
from kerasrep.storage.tables import read_rows

#: Name of the table in `assets.extra`.
FILE = "licences.tsv"
COLUMNS = ("path", "title", "author", "licence", "package", "source")
NOT_SETTLED = (
    "Whether weights trained on audio are derived works of it is not settled; no claim that they are is "
    "known. Who wants to be sure keeps to all of these licences: names the authors, and passes the weights "
    "on under the same terms where a licence asks for that (GNU GPL, CC BY-SA, Free Art License)."
)


def licence_lines(table: Path) -> tuple[str, ...]:
    """What a table of licences means for weights, for a card; descriptions, not legal advice.

    Args:
        table: TSV or CSV, one row per recording: `path`, `title`, `author`, `licence`, `package`, `source`.

    Raises:
        DataError: Where it cannot be read, has no row, or a row names no licence.
    """
    counts: Counter[str] = Counter()
    for place, (_, _, _, licence, _, _) in read_rows(table, COLUMNS):
        if not licence:
            raise DataError(f"{place}: names no licence; give one, or leave the recording out")
        counts[licence] += 1
    if not counts:
        raise DataError(f"{table}: has no row; give a table of the recordings that were trained on")
    told = ", ".join(f"{licence} ({count})" for licence, count in counts.most_common())
    return (
        f"Trained on {counts.total()} recordings under these licences: {told}. Titles, authors and sources "
        f"are in {FILE} beside this card.",
        NOT_SETTLED,
    )
