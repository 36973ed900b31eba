"""The report of a study: one page, figures with their data, tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import kerasrep
from kerasrep.errors import DataError
from kerasrep.experiments.job import StudyFolder
from kerasrep.experiments.study import effect_figures, score_figures
from kerasrep.experiments.study.analysis import Analysis, ModelOutcome, analyse
from kerasrep.experiments.study.collect import COSTS, Outcome, collect, learning_curves, score_table
from kerasrep.experiments.study.design import Design, aliasing_of, balance_of, efficiency_of
from kerasrep.experiments.study.effect_figures import EFFECT_HEADER, effect_row
from kerasrep.experiments.study.plan import PlannedRun
from kerasrep.experiments.study.recipe import Study
from kerasrep.report.drawing import Picture, write_picture
from kerasrep.report.page import render_page
from kerasrep.report.table import MISSING, Cell, Estimate, Table
from kerasrep.report.wording import decimals_for, interval, number, p_starred, p_text
from kerasrep.storage.run_directory import write_text
from kerasrep.storage.tables import write_table

LIBRARIES = ("numpy", "scipy", "statsmodels", "scikit-learn", "matplotlib", "tensorflow", "keras")
BUDGET_HEADER = (
    *("run", "kind", "strategy", "n_sources", "seed", "in_design", "dimension", "parameters"),
    *("steps", "updates_a_source", "segments", "training_seconds", "total_seconds"),
)
ANOVA_HEADER = (
    *("model", "term", "df", "sum_of_squares", "f", "p", "p_holm"),
    *("partial_omega_squared", "low_90", "high_90"),
)
SCORE_KEYS = ("metric", "probe", "score", "low", "high", "chance")
NEXT_STEPS = (
    "Where an interval is too wide to tell, add seeds (such as seeds: [0, 1, 2]) or runs (design.runs).",
    "Train the best combination for longer, and compare it by kerasrep-evaluate on tasks that the study did "
    "not use.",
)
#: Sections of the page that have figures, in its order.
SECTIONS = ("strategies", "sources", "costs", "design", "checks")


def write_study_report(
    folder: StudyFolder,
    study: Study,
    design: Design,
    runs: Sequence[PlannedRun],
    failures: Mapping[str, str],
    command: Sequence[str],
) -> Path:
    """Analyse what is done and write page, figures and tables; each appears whole or not at all.

    Args:
        folder: Of the study.
        study: Its recipe.
        design: Its multi-source runs.
        runs: All that were planned.
        failures: Run -> why it failed.
        command: How to run it again.

    Returns:
        The page.

    Raises:
        DataError: Where scores are damaged.
        RunError: Where the folder cannot be written.
    """
    outcomes = collect(folder, runs)
    analysis, notes = None, list(study.recipe.notes)
    try:
        factors = design.factors
        analysis = analyse(score_table(outcomes), factors.strategies, factors.sources, design.interactions)
        notes += analysis.notes
    except DataError as error:
        notes.append(f"No analysis yet: {error}.")
    unfinished = len(runs) - len(outcomes)
    if unfinished:
        notes.append(f"{unfinished} of {len(runs)} runs are not done; this report covers the others.")
    figures = _figures(folder, design, outcomes, analysis)
    found = [*figures["strategies"], *figures["sources"]]
    page = render_page(
        "study.html",
        f"Study {study.recipe.name}",
        list(dict.fromkeys(notes)),
        _provenance(study, design, runs, outcomes, command),
        found[0].sentence if found else "",
        NEXT_STEPS if found else (),
        figures=figures,
        summary=[*found[1:], *figures["costs"], *figures["design"][:1]],
        design=design.how,
        number=_model(analysis.number) if analysis and analysis.number else None,
        presence=_model(analysis.presence) if analysis and analysis.presence else None,
        budgets=_budgets(outcomes),
        scores=_scores(outcomes),
        failures=Table(["run", "reason"], list(failures.items()), n_names=2),
    )
    _write_tables(folder.root / "tables", outcomes, analysis)
    for section in figures.values():
        for picture in section:
            write_picture(folder.root, picture)
    write_text(folder.report, page)
    return folder.report


def _figures(
    folder: StudyFolder, design: Design, outcomes: Sequence[Outcome], analysis: Analysis | None
) -> dict[str, list[Picture]]:
    """Section -> its figures; the design's alone where there is no analysis."""
    factors, cells = design.factors, design.cells
    figures: dict[str, list[Picture | None]] = {section: [] for section in SECTIONS}
    figures["design"] = [
        score_figures.draw_efficiency(efficiency_of(design), design.kind),
        score_figures.draw_balance(balance_of(cells, factors), factors),
        score_figures.draw_aliasing(aliasing_of(cells, factors)),
    ]
    if analysis is not None:
        if analysis.number is not None:
            figures["strategies"] += effect_figures.strategy_figures(analysis, analysis.number)
        if analysis.presence is not None:
            figures["sources"] += effect_figures.source_figures(analysis, analysis.presence, factors.sources)
        figures["sources"].append(score_figures.draw_singles(analysis))
        curves = learning_curves(folder, outcomes, ("ss-r", *factors.strategies))
        figures["costs"] += [
            score_figures.draw_compactness(analysis, factors.strategies),
            score_figures.draw_curves(curves),
        ]
        figures["checks"].append(effect_figures.draw_residuals(analysis.number, analysis.presence))
    return {section: [one for one in found if one is not None] for section, found in figures.items()}


def _write_tables(folder: Path, outcomes: Sequence[Outcome], analysis: Analysis | None) -> None:
    rows = []
    for outcome in outcomes:
        facts = outcome.run.facts
        about = (facts.run_id, facts.kind, facts.strategy, " ".join(facts.sources), facts.seed)
        for name, task in outcome.values["tasks"].items():
            rows.append((*about, name, *(task[key] for key in SCORE_KEYS)))
    header = ("run", "kind", "strategy", "sources", "seed", "task", *SCORE_KEYS)
    write_table(folder / "scores.csv", header, rows)
    write_table(folder / "runs.csv", BUDGET_HEADER, [budget_row(outcome) for outcome in outcomes])
    if analysis is None:
        return
    models = [(m.fit.terms.title, m) for m in (analysis.number, analysis.presence) if m is not None]
    effects = [(title, *effect_row(effect)) for title, model in models for effect in model.effects]
    write_table(folder / "effects.csv", ("model", *EFFECT_HEADER), effects)
    anova = [
        (title, r.term, r.df, r.sum_of_squares, r.f, r.p_value, r.p_holm, r.omega, r.low, r.high)
        for title, model in models
        for r in model.anova
    ]
    write_table(folder / "anova.csv", ANOVA_HEADER, anova)
    variances = [
        (title, model.fit.how, name, value)
        for title, model in models
        for name, value in model.fit.variances.items()
    ]
    write_table(folder / "variances.csv", ("model", "fitted", "component", "variance"), variances)


def budget_row(outcome: Outcome) -> tuple[Any, ...]:
    """What a run took; a concatenation has the sums of its single networks, which other runs share."""
    facts, values = outcome.run.facts, outcome.values
    about = (facts.run_id, facts.kind, facts.strategy, len(facts.sources), facts.seed, int(facts.in_design))
    trained = [values.get(key, 0) for key in COSTS]
    total = sum(values.get("seconds", {}).values())
    return (*about, facts.dimension, facts.parameters, *trained, round(float(total), 1))


def _provenance(
    study: Study,
    design: Design,
    runs: Sequence[PlannedRun],
    outcomes: Sequence[Outcome],
    command: Sequence[str],
) -> dict[str, Any]:
    settings = study.recipe.model_dump(mode="json")
    trained = next((run.recipe for run in runs if run.recipe is not None), None)
    base = {} if trained is None else trained.as_dict()
    for key in ("name", "strategy", "sources", "seed", "export", "tasks"):
        base.pop(key, None)
    return {
        "command": list(command),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "runs": {"planned": len(runs), "done": len(outcomes)},
        "design": settings["design"] | {"possible": design.n_possible},
        "evaluation": settings["evaluation"],
        "seeds": settings["seeds"],
        "every run": base,
        "versions": {"kerasrep": kerasrep.__version__}
        | {library: metadata.version(library) for library in LIBRARIES},
    }


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
