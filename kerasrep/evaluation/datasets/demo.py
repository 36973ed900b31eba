"""Tasks on the embedded corpus, for a first answer in minutes.

The third of the corpus that nothing is trained on is labelled from its scores: what is asked is in the
notes and in how they were arranged, so the labels are audible by construction and scores say little about
recorded music.

Layout: tables that are written for the corpus, not by hand: `dance.tsv`, `metre.tsv`, `composer.tsv`,
`lead.tsv` (lead instrument's family) and `tempo.tsv` with the columns `path, label, group`; `items.tsv`
(`item, path, group`) and `plays.tsv` (`user, item, plays`) of the simulated listeners. Paths may be
absolute.

Split: folds by tune group, so that versions of one tune stay on one side; 20% of the items held out,
of which the first 10 of a ranking count.

Citation: the collections that the scores come from; each track's record in the corpus's manifest names its
own.

Licence: that of each collection, in the same record; audio is rendered from them.

Described at: docs/demo-corpus.md of kerasrep
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from kerasrep.evaluation.base import Kind, LabelledData, PlayData, Task
from kerasrep.evaluation.readers.play_list import read_play_list
from kerasrep.evaluation.readers.split_list import read_split_list, required

DESCRIBED_AT = "docs/demo-corpus.md of kerasrep"
FOLDER = "demo"
#: Task without `demo_` -> what is asked for; each has a table of its name.
LABELLED: dict[str, Kind] = {
    "dance": "classification",
    "metre": "classification",
    "composer": "classification",
    "lead": "classification",
    "tempo": "regression",
}
ITEMS = "items.tsv"
PLAYS = "plays.tsv"
HELD_OUT_FRACTION = 0.2  # 5% of so few items would be a handful
K = 10  # of some 40 held-out items: with more than there are, recall would always be 1


def read(folder: Path, split_list: Path | None = None, *, name: str) -> LabelledData:
    """Read the table of a labelled task.

    Args:
        folder: Holds the tables.
        split_list: Read instead.
        name: Of the task, without `demo_`.

    Raises:
        DataError: Where the table is missing or malformed.
    """
    table = split_list or required(folder, DESCRIBED_AT, f"{name}.tsv")
    return read_split_list(table, folder, LABELLED[name], allow_absolute=True)


def read_plays(folder: Path) -> PlayData:
    """Read the plays of the simulated listeners.

    Raises:
        DataError: Where a table is missing or malformed.
    """
    plays, items = (required(folder, DESCRIBED_AT, table) for table in (PLAYS, ITEMS))
    data = read_play_list(plays, items, held_out_fraction=HELD_OUT_FRACTION, allow_absolute=True)
    return replace(data, k=K)


CITATION = "the collections that the scores come from, named in the corpus's manifest"
LICENCE = "that of each collection, named in the corpus's manifest"
TASKS = (
    *(
        Task(
            name=f"demo_{name}",
            kind=kind,
            folder=FOLDER,
            described_at=DESCRIBED_AT,
            read=partial(read, name=name),
            split="5 folds by tune group",
            citation=CITATION,
            licence=LICENCE,
        )
        for name, kind in LABELLED.items()
    ),
    Task(
        name="demo_recommendation",
        kind="recommendation",
        folder=FOLDER,
        described_at=DESCRIBED_AT,
        read=read_plays,
        split="20% of the items held out, tune groups together",
        citation=CITATION,
        licence=LICENCE,
    ),
)
