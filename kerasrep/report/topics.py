"""What the targets mean, for people: topics with their likeliest terms, mixtures with their components.

The report of `targets.build_targets` is written three times: as JSON for programs, as text, and as a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import numpy as np

from kerasrep.errors import one_line
from kerasrep.report.drawing import INK, PALETTE, drawing, new_figure, write_png
from kerasrep.storage.run_directory import PreparedDirectory, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


TEXT_TERMS = 10
LINE_CHARACTERS = 110
NAME_CHARACTERS = 40
#: What classes, labels, numbers and vectors have, by their kind.
_NOUNS = {"classes": "of them", "labels": "of them", "number": "value", "vector": "values"}


def write_topics(directory: PreparedDirectory, report: Report) -> None:
    """Write the report of the targets as JSON, text and picture.

    Args:
        directory: Where `topics.json`, `topics.txt` and `topics.png` go.
        report: `TargetSet.report`: source name -> plain data.
    """
    write_json(directory.topics, report)
    write_text(directory.topics_text, describe_topics(report))
    draw_topics(report, directory.topics_picture)


def describe_topics(report: Report) -> str:
    """Text of a report: every topic with its share of the documents and its likeliest terms.

    Topics come by falling share and keep the number that they have in the targets.
    """
    sections = []
    for source, about in report.items():
        lines = [f"{source}: {_headline(about)}", *_details(about)]
        if "topics" in about:
            lines += _topic_lines(about["topics"])
        if "components" in about:
            lines += _component_lines(about["components"])
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _headline(about: Mapping[str, Any]) -> str:
    if "left_out" in about:
        return f"left out, {about['left_out']}"
    size, asked = about["size"], about["requested_size"]
    fewer = f" ({asked} asked for; the labels have no more dimensions)" if size < asked else ""
    if about["model"] in _NOUNS:
        return f"{about['model']}, {size} {_NOUNS[about['model']]}{_terms(about.get('terms', ()))}"
    what = "topic" if "topics" in about else "component"
    return f"{about['model']}, {size} {what}{'' if size == 1 else 's'}{fewer}"


def _terms(terms: Sequence[str]) -> str:
    """The first names of classes or labels."""
    shown = [shortened(term, NAME_CHARACTERS) for term in terms[:TEXT_TERMS]]
    more = ", ..." if len(terms) > TEXT_TERMS else ""
    return f": {', '.join(shown)}{more}" if shown else ""


def _details(about: Mapping[str, Any]) -> list[str]:
    """The numbers of a report, in its own words."""
    hidden = {"model", "size", "requested_size", "left_out"}
    numbers = [
        f"{key.replace('_', ' ')}: {_number(value)}"
        for key, value in about.items()
        if key not in hidden and isinstance(value, bool | int | float)
    ]
    return [f"  {', '.join(numbers)}"] if numbers else []


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _topic_lines(topics: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for number, topic in by_share(topics):
        terms = [
            f"{shortened(term['term'], NAME_CHARACTERS)} {term['probability']:.3f}"
            for term in topic["terms"][:TEXT_TERMS]
        ]
        head = f"  topic {number:3}  {topic['share']:6.1%}  "
        lines += _wrapped(head, terms or ["no term"])
    return lines


def _wrapped(head: str, parts: Sequence[str]) -> list[str]:
    """Parts separated by commas, never broken; lines after the first are indented as far as the head."""
    text, indent = ", ".join(part.replace(" ", "\xa0") for part in parts), " " * len(head)
    lines = wrap(text, LINE_CHARACTERS, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def _component_lines(components: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"  component {number:3}  {component['weight']:6.1%}  mean {component['mean']:.5g}, "
        f"standard deviation {component['deviation']:.3g}"
        for number, component in enumerate(components)
    ]


DRAWN_TOPICS = 12
DRAWN_TERMS = 5
TERM_CHARACTERS, TEXT_CHARACTERS = 22, 66
PANEL_COLUMNS = 2
WIDTH_INCHES, PANEL_HEIGHT_INCHES = 15.0, 4.2
BAR, LINE = PALETTE[0], PALETTE[5]
UNITS = {"bpm": "beats per minute", "year": "year"}
CURVE_POINTS = 800
CURVE_DEVIATIONS = 3.5

Report = Mapping[str, Mapping[str, Any]]


def by_share(topics: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Topics with their number in the targets, the largest share first."""
    return sorted(enumerate(topics), key=lambda numbered: -numbered[1]["share"])


def shortened(name: str, characters: int) -> str:
    """A name in one line of at most so many characters."""
    name = one_line(" ".join(name.split()))
    return name if len(name) <= characters else name[: characters - 1] + "…"


def draw_topics(report: Report, path: Path) -> None:
    """Draw the report of the targets as PNG; equal reports give equal bytes.

    Args:
        report: `TargetSet.report`.
        path: Where the picture goes; written whole or not at all.
    """
    drawn = {s: about for s, about in report.items() if "topics" in about or "components" in about}
    columns = min(PANEL_COLUMNS, max(1, len(drawn)))
    rows = max(1, -(-len(drawn) // columns))
    with drawing():
        figure = new_figure(WIDTH_INCHES * columns / PANEL_COLUMNS, PANEL_HEIGHT_INCHES * rows)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(drawn) :]:
            panel.set_axis_off()
        if not drawn:
            panels[0].text(0.5, 0.5, "no source has targets", ha="center", va="center", color=INK)
        for panel, (source, about) in zip(panels, drawn.items(), strict=False):
            if "topics" in about:
                _draw_topics(panel, source, about["topics"])
            else:
                _draw_mixture(panel, source, about["components"])
        write_png(path, figure, "Topics and mixtures of the targets")


def _draw_topics(panel: Axes, source: str, topics: Sequence[Mapping[str, Any]]) -> None:
    """Bars of the largest topics' shares, beside each its likeliest terms."""
    chosen = by_share(topics)[:DRAWN_TOPICS]
    shares = [topic["share"] for _, topic in chosen]
    heights = np.arange(len(chosen))
    panel.barh(heights, shares, color=BAR, height=0.7)
    for height, (_, topic) in zip(heights, chosen, strict=True):
        text = "  " + _likeliest(topic["terms"])
        panel.text(topic["share"], height, text, va="center", fontsize=7.5, color=INK, clip_on=True)
    panel.set_yticks(heights, [f"topic {number}" for number, _ in chosen], fontsize=8)
    panel.set_ylim(max(len(chosen), DRAWN_TOPICS / 2) - 0.5, -0.5)
    panel.set_xlim(0, 3.2 * max(shares))
    _percent_ticks(panel, max(shares))
    named = f"the largest {len(chosen)} of {len(topics)}" if len(chosen) < len(topics) else len(topics)
    plural = "" if len(topics) == 1 else "s"
    _title(panel, source, f"{named} topic{plural}, share of documents and likeliest terms")


def _likeliest(terms: Sequence[Mapping[str, Any]]) -> str:
    """As many of the likeliest terms as there is room for, one at least."""
    text = ""
    for term in terms[:DRAWN_TERMS]:
        longer = text + (" · " if text else "") + shortened(term["term"], TERM_CHARACTERS)
        if text and sum(1 + (east_asian_width(letter) in "WF") for letter in longer) > TEXT_CHARACTERS:
            break
        text = longer
    return text


def _percent_ticks(panel: Axes, largest: float) -> None:
    """Ticks under the bars alone, because the rest of the axis belongs to the terms."""
    from matplotlib.ticker import MaxNLocator

    ticks = [tick for tick in MaxNLocator(4).tick_values(0, largest) if 0 <= tick <= largest * 1.01]
    panel.spines["bottom"].set_bounds(0, largest)
    panel.set_xticks(ticks, [f"{tick:.3g}%" for tick in 100 * np.array(ticks)], fontsize=8)


def _draw_mixture(panel: Axes, source: str, components: Sequence[Mapping[str, Any]]) -> None:
    """Density of the mixture, and of each component below it."""
    means, deviations, weights = (
        np.array([component[key] for component in components]) for key in ("mean", "deviation", "weight")
    )
    reach = CURVE_DEVIATIONS * deviations
    whole = np.linspace((means - reach).min(), (means + reach).max(), CURVE_POINTS)
    near_each = means + deviations * np.linspace(-3, 3, 25)[:, np.newaxis]
    values = np.unique(np.concatenate([whole, near_each.ravel()]))
    distance = (values[:, np.newaxis] - means) / deviations
    densities = weights * np.exp(-0.5 * distance**2) / (deviations * np.sqrt(2 * np.pi))
    panel.fill_between(values, densities.sum(axis=1), color=BAR, alpha=0.25, linewidth=0)
    for density in densities.T:
        panel.plot(values, density, color=LINE, linewidth=0.7)
    panel.set_ylim(0, None)
    panel.margins(x=0)
    panel.set_ylabel("density", fontsize=8)
    panel.set_xlabel(UNITS.get(source, "value"), fontsize=8)
    panel.tick_params(labelsize=8)
    plural = "" if len(components) == 1 else "s"
    _title(panel, source, f"mixture of {len(components)} Gaussian{plural}")


def _title(panel: Axes, source: str, text: str) -> None:
    panel.set_title(f"{source}: {text}", loc="left", fontsize=10, color=INK)
