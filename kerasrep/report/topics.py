"""What the targets mean, for people: topics with their likeliest terms, mixtures with their components.

The report of `targets.build_targets` is written three times: as JSON for programs, as text, and as a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from kerasrep.report.topics_picture import Report, by_share, draw_topics, shortened
from kerasrep.storage.run_directory import PreparedDirectory, write_json, write_text

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
