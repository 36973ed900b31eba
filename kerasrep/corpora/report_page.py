"""The page of what was prepared: how much there is to learn from, and what the targets mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kerasrep.corpora.report import answer, report_lines
from kerasrep.report.drawing import PALETTE, Picture, grid, label, one_panel, picture
from kerasrep.report.page import render_page
from kerasrep.report.table import Table
from kerasrep.report.topics import Report, by_share

TERMS = 5  # of a topic
SPLITS = ("train", "validation")


def page_of(manifest: Mapping[str, Any], report: Report) -> str:
    """The page as text.

    Args:
        manifest: Of the folder.
        report: `TargetSet.report`: source -> what its targets mean.
    """
    numbers, both = manifest["sources"], manifest["overlaps"]
    sources = [
        [source, *(f"{of[split]:,}" for split in SPLITS), str(of["size"])] for source, of in numbers.items()
    ]
    overlaps = [[row, *(f"{both[row][column]:,}" for column in both)] for row in both]
    sections = {
        "Sources": [Table(["source", "training tracks", "validation tracks", "targets"], sources)],
        "Tracks that are labelled by both": [Table(["source", *both], overlaps)] if len(both) > 1 else [],
    }
    return render_page(
        "sections.html",
        f"Prepared: {manifest['corpus']['name']}",
        [*manifest["corpus"]["notices"], *_skipped(manifest)],
        {"fingerprint": manifest["fingerprint"], **manifest["settings"]},
        f"{answer(manifest)}.",
        [
            "Train: kerasrep-train with the same recipe; --dry-run shows steps and time.",
            "Where topics of a source mean nothing, or it has hardly any label: change targets.sizes, or "
            "leave the source out.",
        ],
        picture=_draw(numbers),
        wide=False,
        sections={title: tables for title, tables in sections.items() if tables},
        folded={
            f"{source}: {about['model']}": _meaning(about)
            for source, about in report.items()
            if "topics" in about or "components" in about
        },
    )


def _skipped(manifest: Mapping[str, Any]) -> list[str]:
    """What was not used as it stands."""
    said = ("skipped:", "shortened:", *(f"{file}:" for file in manifest["corpus"]["skipped_labels"]))
    return [line for line in report_lines(manifest) if line.startswith(said)]


def _meaning(about: Mapping[str, Any]) -> Table:
    """Topics with their likeliest terms, the largest first, or components of a mixture."""
    if "topics" in about:
        rows = [
            [str(number), f"{topic['share']:.1%}", ", ".join(one["term"] for one in topic["terms"][:TERMS])]
            for number, topic in by_share(about["topics"])
        ]
        return Table(["topic", "share", "likeliest terms"], rows, n_names=3)
    rows = [
        [str(number), f"{one['weight']:.1%}", f"{one['mean']:.5g}", f"{one['deviation']:.3g}"]
        for number, one in enumerate(about["components"])
    ]
    return Table(["component", "share", "mean", "standard deviation"], rows)


def _draw(numbers: Mapping[str, Mapping[str, int]]) -> Picture:
    """Labelled tracks of each source, those to train on and those to validate."""
    sources = list(numbers)
    fewest = min(sources, key=lambda source: numbers[source]["train"])
    most = max(sources, key=lambda source: numbers[source]["train"])
    low, high = (f"{numbers[source]['train']:,}" for source in (fewest, most))
    of_most = f", {most} of {high}" if low != high else ", as many as any other source"
    sentence = f"{fewest} has labels of {low} training tracks{of_most}."
    title = "Tracks with labels of each source"
    with one_panel(1.1 + 0.3 * len(sources)) as (figure, axes):
        begin = [0] * len(sources)
        for split, colour in zip(SPLITS, PALETTE, strict=False):
            lengths = [numbers[source][split] for source in sources]
            axes.barh(range(len(sources)), lengths, left=begin, color=colour, height=0.7, label=split)
            begin = [a + b for a, b in zip(begin, lengths, strict=True)]
        axes.set_yticks(range(len(sources)), [label(source) for source in sources])
        axes.invert_yaxis()
        axes.set_xlabel("labelled tracks")
        axes.set_title(title, fontsize=10, loc="left")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        grid(axes)
        rows = [[source, *(numbers[source][split] for split in SPLITS)] for source in sources]
        return picture("sources", title, sentence, figure, ["source", *SPLITS], rows)
