"""The page of a study: one HTML file with its figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasrep.experiments.study.analysis import Analysis, ModelOutcome
from kerasrep.experiments.study.collect import Outcome, score_table
from kerasrep.report.drawing import Picture
from kerasrep.report.page import render_page
from kerasrep.report.table import MISSING, Cell, Estimate, Table
from kerasrep.report.wording import decimals_for, interval, number, p_starred, p_text

NEXT_STEPS = (
    "Where an interval is too wide to tell, add seeds (such as seeds: [0, 1, 2]) or runs (design.runs).",
    "Train the best combination for longer, and compare it by kerasrep-evaluate on tasks that the study did "
    "not use.",
)


def build_study_page(
    title: str,
    notes: Sequence[str],
    design: str,
    analysis: Analysis | None,
    outcomes: Sequence[Outcome],
    figures: Mapping[str, Sequence[Picture]],
    failures: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> str:
    """The page as text; every name in it is escaped.

    Args:
        title: Of the page.
        notes: What the reader must know first.
        design: How the runs were chosen, in one sentence.
        analysis: None where there is too little to analyse.
        outcomes: Runs that are done.
        figures: Section -> its figures.
        failures: Run -> reason.
        provenance: Nested; `command` is how to run it again.
    """
    number_model = analysis.number if analysis else None
    presence_model = analysis.presence if analysis else None
    found = [*figures["strategies"], *figures["sources"]]
    return render_page(
        "study.html",
        title,
        notes,
        provenance,
        found[0].sentence if found else "",
        NEXT_STEPS if found else (),
        figures=figures,
        summary=[*found[1:], *figures["costs"], *figures["design"][:1]],
        design=design,
        number=_model(number_model) if number_model else None,
        presence=_model(presence_model) if presence_model else None,
        budgets=_budgets(outcomes),
        scores=_scores(outcomes),
        failures=Table(["run", "reason"], list(failures.items()), n_names=2),
    )


def _model(outcome: ModelOutcome) -> dict[str, Any]:
    """What the page shows of one model."""
    anova: list[list[Cell]] = []
    for row in outcome.anova:
        tested = [row.term, f"{row.df:.0f}", f"{row.f:.2f}", p_starred(row.p_holm), p_text(row.p_value)]
        anova.append([*tested, Estimate(row.omega, row.low, row.high, 2)])
    effects = []
    for effect in outcome.effects:
        size = [f"{effect.value:+.2f}", interval(effect.low, effect.high, 2), f"{effect.df:.0f}"]
        tests = [p_starred(effect.p_holm), p_text(effect.p_value)]
        effects.append([f"{effect.family}: {effect.name}", *size, *tests])
    return {
        "title": outcome.fit.terms.title,
        "anova": Table(["term", "df", "F", "p (Holm)", "p", "partial ω² [90%]"], anova),
        "how": outcome.fit.how,
        "variances": ", ".join(f"{name} {value:.3f}" for name, value in outcome.fit.variances.items()),
        "effects": Table(["effect", "value", "95%", "df", "p (Holm)", "p"], effects),
    }


def _budgets(outcomes: Sequence[Outcome]) -> Table:
    """Steps and seconds of the trained runs, one row per strategy."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.run.facts.kind != "baseline":
            groups.setdefault(outcome.run.facts.strategy, []).append(outcome)
    rows = []
    for strategy, found in groups.items():
        cells = [strategy, str(len(found))]
        for key in ("steps", "updates_a_source", "training_seconds"):
            values = [float(one.values.get(key, 0)) for one in found]
            cells.append("–".join(dict.fromkeys(f"{end:,.0f}" for end in (min(values), max(values)))))
        rows.append(cells)
    return Table(["strategy", "runs", "steps", "updates per source", "seconds"], rows)


def _scores(outcomes: Sequence[Outcome]) -> Table:
    """All scores as measured, one row per run."""
    measured = score_table(outcomes)
    decimals = [decimals_for(column[np.isfinite(column)].tolist()) for column in measured.values.T]
    rows = [
        [
            run.run_id,
            *(number(v, d) if np.isfinite(v) else MISSING for v, d in zip(line, decimals, strict=True)),
        ]
        for run, line in zip(measured.runs, measured.values, strict=True)
    ]
    names = [f"{task} ({metric})" for task, metric in zip(measured.tasks, measured.metrics, strict=True)]
    return Table(["run", *names], rows)
