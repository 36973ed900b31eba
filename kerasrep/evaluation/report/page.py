"""One HTML page that holds everything: it can be mailed, opened on a phone, and loads nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasrep.evaluation.base import Evaluation, ProbeResult
from kerasrep.evaluation.report.overview import Overview, findings, pair_sentences, win_sentences
from kerasrep.evaluation.report.table import MISSING, count_lines, left_out_lines
from kerasrep.report.drawing import DPI, Picture
from kerasrep.report.markup import Markup, breakable, element, folded, image, table
from kerasrep.report.style import CSS
from kerasrep.report.wording import counted, decimals_for, interval, metric_label, number, p_text, printable

TITLE = "Frozen representations on unseen tasks"

#: Neither scripts nor anything from elsewhere, whatever a name may hold.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

BAR_PIXELS = 620


def build_page(
    overview: Overview,
    bars: Sequence[Picture],
    confusions: Mapping[tuple[str, str], Picture],
    provenance: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> str:
    """The page as text.

    Args:
        overview: Evaluations and comparisons.
        bars: One figure a metric.
        confusions: (task, representation) -> figure.
        provenance: Versions and settings, nested as one likes; `command`, a line or its words, is how to run
            it again.
        notes: What the reader must know before any number.

    Returns:
        HTML in UTF-8; every name in it is escaped.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", TITLE),
        element("style", Markup(CSS)),
    )
    sections = [
        element("h1", TITLE),
        *(element("p", note, class_="note") for note in notes),
        *_summary(overview),
        *_scores(overview),
        *_figures(bars),
        *_comparisons(overview),
        *_probes(overview),
        *_confusions(overview, confusions),
        *_data(overview),
        *_provenance(provenance),
    ]
    page = element("html", head, element("body", element("main", *sections)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _summary(overview: Overview) -> Iterator[Markup]:
    yield element("h2", "Which representation is best on which task")
    sentences = [*win_sentences(overview), *(finding.sentence for finding in findings(overview))]
    yield element("ul", *(element("li", sentence) for sentence in sentences))
    if overview.comparisons:
        text = (
            "Significant: below 5% in a paired test on the same items or users, after Holm's correction for "
            "the number of comparisons. Intervals cover 95%, by bootstrap over what was tested; they say "
            "nothing of how a representation would vary if it were trained again."
        )
        yield element("p", text, class_="quiet")


def _scores(overview: Overview) -> Iterator[Markup]:
    yield element("h2", "Scores")
    best = {finding.task: finding.best for finding in findings(overview)}
    rows = []
    for task in overview.tasks:
        decimals = overview.decimals(task)
        chance = overview.chance_text(task)
        metric = element("span", metric_label(overview.metric(task)), class_="interval")
        row: list[str] = [element("span", breakable(task), metric), chance or MISSING]
        for name in overview.representations:
            evaluation = overview.cells.get((task, name))
            several = len(overview.of_task(task)) > 1
            row.append(_score(evaluation, decimals, several and name in best[task]))
        rows.append(row)
    yield table(["task", "chance", *overview.representations], rows)
    text = f"Probe: {overview.headline_text()}. The best of each row is bold; small: 95% intervals."
    yield element("p", text, class_="quiet")


def _score(evaluation: Evaluation | None, decimals: int, best: bool) -> str:
    if evaluation is None:
        return MISSING
    return _cell(evaluation.probes[0], decimals, best)


def _cell(probe: ProbeResult, decimals: int, best: bool = False) -> Markup:
    value = number(probe.mean, decimals)
    shown = element("span", value, class_="best") if best else value
    return _with_interval(shown, probe.low, probe.high, decimals)


def _with_interval(shown: str, low: float, high: float, decimals: int) -> Markup:
    return element("span", shown, element("span", interval(low, high, decimals), class_="interval"))


def _figures(pictures: Sequence[Picture]) -> Iterator[Markup]:
    for picture in pictures:
        yield _figure(picture, BAR_PIXELS)


def _figure(picture: Picture, width_pixels: int | None = None) -> Markup:
    """The picture, its sentence, and its data where they are few."""
    content, kind = (picture.png, "png") if picture.svg is None else (picture.svg, "svg+xml")
    width = width_pixels or _png_width(picture.png)
    shown = image(content, kind, f"{picture.title}. {picture.sentence}", width)
    return element("figure", shown, element("figcaption", picture.sentence))


def _png_width(png: bytes) -> int:
    """Width in pixels of a screen, at 96 dots an inch."""
    return round(int.from_bytes(png[16:20], "big") * 96 / DPI)


def _comparisons(overview: Overview) -> Iterator[Markup]:
    if not overview.comparisons:
        return
    yield element("h2", "Differences between representations")
    sentences = [element("li", sentence) for sentence in pair_sentences(overview)]
    if sentences:
        yield element("ul", *sentences)
    rows = []
    for adjusted in overview.comparisons:
        seen = adjusted.comparison
        decimals = overview.decimals(seen.task) if seen.task in overview.tasks else 3
        pair = f"{printable(seen.first)} less {printable(seen.second)}"
        p_holm = p_text(adjusted.p_holm)
        rows.append(
            [
                element("span", breakable(seen.task), element("span", pair, class_="interval")),
                _with_interval(number(seen.difference, decimals), seen.low, seen.high, decimals),
                element("strong", p_holm) if adjusted.significant else p_holm,
                p_text(seen.p_value),
                seen.probe,
                f"{seen.n_units:,}",
                f"{seen.n_groups:,}",
            ]
        )
    yield table(["compared", "difference", "p (Holm)", "p", "probe", "tested", "groups"], rows)
    n_headline = len(overview.headline_comparisons())
    text = f"p (Holm) is corrected for {counted(n_headline, 'comparison')} with the probes of the table above"
    if n_headline < len(overview.comparisons):
        text += ", and for the comparisons with each other probe"
    text += "; bold: below 0.05."
    yield element("p", text, class_="quiet")


def _probes(overview: Overview) -> Iterator[Markup]:
    yield element("h2", "Every probe and metric")
    for task in overview.tasks:
        evaluations = overview.of_task(task)
        names = list(dict.fromkeys(probe.probe for e in evaluations for probe in e.probes))
        decimals = overview.decimals(task)
        rows = []
        for evaluation in evaluations:
            found = {probe.probe: _cell(probe, decimals) for probe in evaluation.probes}
            rows.append([evaluation.representation, *(found.get(name, MISSING) for name in names)])
        caption = f"{metric_label(overview.metric(task))} of every probe"
        tables = [table(["representation", *names], rows, caption=caption), _metrics(evaluations)]
        yield folded(task, *tables)


def _metrics(evaluations: Sequence[Evaluation]) -> Markup:
    names = list(dict.fromkeys(score.metric for e in evaluations for score in e.probes[0].scores))
    rows = []
    for evaluation in evaluations:
        row = [evaluation.representation]
        for name in names:
            values = [score.value for score in evaluation.probes[0].scores if score.metric == name]
            row.append(number(sum(values) / len(values), decimals_for(values)) if values else MISSING)
        rows.append(row)
    probe = printable(evaluations[0].probes[0].probe)
    caption = f"Every metric of {probe}, means over folds"
    return table(["representation", *map(metric_label, names)], rows, caption=caption)


def _confusions(overview: Overview, confusions: Mapping[tuple[str, str], Picture]) -> Iterator[Markup]:
    if not confusions:
        return
    yield element("h2", "Classes: confusions and scores")
    for task in overview.tasks:
        parts: list[Markup] = []
        for evaluation in overview.of_task(task):
            picture = confusions.get((task, evaluation.representation))
            if picture is not None:
                parts += [element("h3", picture.title), _figure(picture)]
                parts += _per_class(evaluation)
        if parts:
            yield folded(task, *parts)


def _per_class(evaluation: Evaluation) -> list[Markup]:
    probe = evaluation.probes[0]
    if not probe.per_class:
        return []
    columns = list(dict.fromkeys(name for scores in probe.per_class.values() for name in scores))
    rows = [
        [name, *(_class_score(column, scores.get(column)) for column in columns)]
        for name, scores in probe.per_class.items()
    ]
    return [folded("Scores of each class", table(["class", *columns], rows))]


def _class_score(column: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:,.0f}" if column == "support" else number(value, 3)


def _data(overview: Overview) -> Iterator[Markup]:
    lines = [*count_lines(overview), *left_out_lines(overview)]
    if lines:
        yield element("h2", "Data")
        yield element("ul", *(element("li", line) for line in lines))


def _provenance(provenance: Mapping[str, Any]) -> Iterator[Markup]:
    yield element("h2", "Where the numbers come from")
    command = provenance.get("command")
    if command:
        yield element("p", "To run it again:")
        line = command if isinstance(command, str) else shlex.join(map(str, command))
        yield element("pre", element("code", line))
    rows = [[name, value] for name, value in flat_lines(provenance) if name != "command"]
    if rows:
        yield table(["what", "value"], rows, n_names=2)


def flat_lines(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as lines: `section.key` and what it holds."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flat_lines(inner, f"{prefix}{name}.")
        elif isinstance(inner, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, inner))
        else:
            yield f"{prefix}{name}", str(inner)
