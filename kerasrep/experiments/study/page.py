"""The page of a study: it can be mailed, opened on a phone, and loads nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasrep.evaluation.report.page import POLICY, flat_lines
from kerasrep.experiments.study.analysis import Analysis, ModelOutcome
from kerasrep.experiments.study.collect import Outcome
from kerasrep.experiments.study.scores import ScoreTable
from kerasrep.report.drawing import Picture
from kerasrep.report.markup import Markup, element, folded, image, table
from kerasrep.report.style import CSS
from kerasrep.report.wording import decimals_for, number, p_text

PICTURE_PIXELS = 620
METHODS = (
    "Scores are standardised within each task by the multi-source runs (mean 0, deviation 1). Two linear "
    "models, because the number of sources is the sum of their presences: strategy × number of sources, and "
    "strategy × presence of each source. Runs of the same sources and strategy that differ in the seed alone "
    "are averaged first: they are repeats, and would make intervals too narrow if they counted as runs of "
    "their own. Figures show single runs. The models do not know that all mss-cr runs of a seed share their "
    "single-source networks, so that intervals of the level of mss-cr are too narrow. Each model is a mixed "
    "one fitted by restricted maximum likelihood, "
    "with runs as a random effect and slopes that differ from task to task; intervals are those of a t "
    "distribution with Satterthwaite's degrees of freedom. Where one does not converge, slopes by task are "
    "left out first for the strategy, then altogether, and at last least squares on the runs' means take its "
    "place; which one was used stands beside the model. Analyses of variance are of the runs' means (type "
    "II). P values are corrected by Holm's method within each family of effects."
)

SCALE = (
    "Scores are standardised within each task: 0 is the mean of the runs of several sources, 1 SD their "
    "standard deviation. Brackets hold 95% intervals, each by itself; whether an effect is significant is "
    "told after Holm's correction for the number of effects, so that an interval may leave out 0 where the "
    "effect is not significant."
)


@dataclass(frozen=True)
class Contents:
    """What the page is made of, beside figures.

    Attributes:
        title: Of the page.
        notes: What the reader must know first.
        design: One sentence.
        analysis: None where there is too little to analyse.
        table: Scores as measured.
        outcomes: Runs that are done, rows of `table`.
        failures: Run -> reason.
        provenance: Nested; `command` is how to run it again.
    """

    title: str
    notes: tuple[str, ...]
    design: str
    analysis: Analysis | None
    table: ScoreTable
    outcomes: tuple[Outcome, ...]
    failures: Mapping[str, str]
    provenance: Mapping[str, Any]


def build_study_page(contents: Contents, figures: Mapping[str, Sequence[Picture]]) -> str:
    """The page as text; every name in it is escaped."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", contents.title),
        element("style", Markup(CSS)),
    )
    parts = [
        element("h1", contents.title),
        *(element("p", note, class_="note") for note in contents.notes),
        *_summary(figures),
        *_section("Sharing strategies and number of sources", figures["strategies"]),
        *_model(contents.analysis.number if contents.analysis else None),
        *_section("Which sources", figures["sources"]),
        *_model(contents.analysis.presence if contents.analysis else None),
        *_section("What it costs", figures["costs"]),
        *_budgets(contents),
        *_section("The design", figures["design"], contents.design),
        *_section("Do the models fit?", figures["checks"]),
        element("h2", "Methods"),
        element("p", METHODS),
        *_scores(contents),
        *_failures(contents),
        *_provenance(contents.provenance),
    ]
    page = element("html", head, element("body", element("main", *parts)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _summary(figures: Mapping[str, Sequence[Picture]]) -> Iterator[Markup]:
    """The sentence of each figure, under its title."""
    shown = [*figures["strategies"], *figures["sources"], *figures["costs"], *figures["design"][:1]]
    if shown:
        yield element("h2", "In short")
        yield element("p", SCALE)
        items = (element("li", element("strong", f"{one.title}: "), one.sentence) for one in shown)
        yield element("ul", *items)


def _section(title: str, pictures: Sequence[Picture], text: str = "") -> Iterator[Markup]:
    if not pictures:
        return
    yield element("h2", title)
    if text:
        yield element("p", text)
    for one in pictures:
        content, kind = (one.png, "png") if one.svg is None else (one.svg, "svg+xml")
        shown = image(content, kind, f"{one.title}. {one.sentence}", PICTURE_PIXELS)
        data = element("span", f" Data: plots/{one.name}.csv", class_="quiet")
        yield element("figure", element("h3", one.title), shown, element("figcaption", one.sentence, data))


def _model(outcome: ModelOutcome | None) -> Iterator[Markup]:
    if outcome is None:
        return
    rows = [
        [
            row.term,
            f"{row.df:.0f}",
            f"{row.f:.2f}",
            element(
                "span",
                element("strong", p_text(row.p_holm)) if row.p_holm < 0.05 else p_text(row.p_holm),
                element("span", p_text(row.p_value), class_="interval"),
            ),
            element(
                "span",
                f"{row.omega:.2f}",
                element("span", f"[{row.low:.2f}, {row.high:.2f}]", class_="interval"),
            ),
        ]
        for row in outcome.anova
    ]
    yield element("h3", f"Analysis of variance: {outcome.fit.terms.title}")
    yield table(["term", "df", "F", "p (Holm; raw)", "partial ω² [90%]"], rows)
    variances = ", ".join(f"{name} {value:.3f}" for name, value in outcome.fit.variances.items())
    yield element("p", f"Fitted: {outcome.fit.how}. Variances: {variances}.", class_="quiet")
    effects = [
        [
            f"{effect.family}: {effect.name}",
            f"{effect.value:+.2f}",
            f"[{effect.low:.2f}, {effect.high:.2f}]",
            f"{effect.df:.0f}",
            p_text(effect.p_holm),
            p_text(effect.p_value),
        ]
        for effect in outcome.effects
    ]
    head = ["effect", "value", "95%", "df", "p (Holm)", "p"]
    yield folded(f"All effects of this model ({len(effects)})", table(head, effects))


def _budgets(contents: Contents) -> Iterator[Markup]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in contents.outcomes:
        if outcome.run.facts.kind != "baseline":
            groups.setdefault(outcome.run.facts.strategy, []).append(outcome)
    if not groups:
        return
    rows = []
    for strategy, found in groups.items():
        cells = [strategy, str(len(found))]
        for key in ("steps", "updates_a_source", "training_seconds"):
            values = [float(one.values.get(key, 0)) for one in found]
            low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
            cells.append(low if low == high else f"{low}–{high}")
        rows.append(cells)
    yield element("h3", "Training budget")
    yield table(["strategy", "runs", "steps", "updates a source", "s"], rows)
    text = (
        "Seconds (s) are those of the training steps. An mss-cr run is the concatenation of the "
        "single-source networks of its seed, each trained once and used by all such runs: its steps and "
        "seconds are the sums of theirs, and no training of its own was done."
    )
    yield element("p", text, class_="quiet")


def _scores(contents: Contents) -> Iterator[Markup]:
    measured = contents.table
    if not len(measured.values):
        return
    decimals = [decimals_for(column[np.isfinite(column)].tolist()) for column in measured.values.T]
    rows = [
        [
            run.run_id,
            *("-" if not np.isfinite(v) else number(v, d) for v, d in zip(line, decimals, strict=True)),
        ]
        for run, line in zip(measured.runs, measured.values, strict=True)
    ]
    yield element("h2", "Scores as measured")
    head = ["run", *(f"{t} ({m})" for t, m in zip(measured.tasks, measured.metrics, strict=True))]
    yield folded(f"All {len(rows)} runs", table(head, rows))
    files = (
        "tables/scores.csv, runs.csv, effects.csv, anova.csv, variances.csv; plots/ has each figure's data."
    )
    yield element("p", f"As files: {files}", class_="quiet")


def _failures(contents: Contents) -> Iterator[Markup]:
    if contents.failures:
        yield element("h2", "Runs that failed")
        rows = [[name, reason] for name, reason in contents.failures.items()]
        yield table(["run", "reason"], rows, n_names=2)


def _provenance(provenance: Mapping[str, Any]) -> Iterator[Markup]:
    yield element("h2", "Where the numbers come from")
    yield element("p", "To run it again:")
    yield element("pre", element("code", shlex.join(map(str, provenance["command"]))))
    rows = [[name, value] for name, value in flat_lines(provenance) if name != "command"]
    yield folded("Settings and versions", table(["what", "value"], rows, n_names=2))
