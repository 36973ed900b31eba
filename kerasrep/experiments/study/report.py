"""The report of a study: one page, figures with their data, tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import kerasrep
from kerasrep.errors import DataError
from kerasrep.evaluation.report.files import write_table
from kerasrep.experiments.job import StudyFolder
from kerasrep.experiments.study import design_figures, effect_figures, score_figures
from kerasrep.experiments.study.analysis import Analysis, ModelOutcome, analyse
from kerasrep.experiments.study.balance import aliasing_of, balance_of, efficiency_of
from kerasrep.experiments.study.collect import COSTS, Outcome, collect, learning_curves, score_table
from kerasrep.experiments.study.design import Design
from kerasrep.experiments.study.page import Contents, build_study_page
from kerasrep.experiments.study.pictures import EFFECT_HEADER, effect_row
from kerasrep.experiments.study.plan import PlannedRun
from kerasrep.experiments.study.recipe import Study
from kerasrep.report.drawing import Picture
from kerasrep.storage.run_directory import atomic_file, write_text

LIBRARIES = ("numpy", "scipy", "statsmodels", "scikit-learn", "matplotlib", "tensorflow", "keras")
BUDGET_HEADER = (
    *("run", "kind", "strategy", "n_sources", "seed", "in_design", "dimension", "parameters"),
    *("steps", "updates_a_source", "segments", "training_seconds", "total_seconds"),
)
ANOVA_HEADER = (
    *("model", "term", "df", "sum_of_squares", "f", "p", "p_holm"),
    *("partial_omega_squared", "low_90", "high_90"),
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
        notes.append(f"{unfinished} of {len(runs)} runs are not done; what follows is of the others.")
    figures = _figures(folder, design, outcomes, analysis)
    contents = Contents(
        title=f"Study {study.recipe.name}",
        notes=tuple(notes),
        design=design.how,
        analysis=analysis,
        table=score_table(outcomes),
        outcomes=tuple(outcomes),
        failures=dict(failures),
        provenance=_provenance(study, design, runs, outcomes, command),
    )
    _write_tables(folder.root / "tables", outcomes, analysis)
    for picture in (picture for section in figures.values() for picture in section):
        with atomic_file(folder.root / "plots" / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
        write_table(folder.root / "plots" / f"{picture.name}.csv", picture.header, picture.rows)
    page = build_study_page(contents, figures)
    write_text(folder.report, page)
    return folder.report


def _figures(
    folder: StudyFolder, design: Design, outcomes: Sequence[Outcome], analysis: Analysis | None
) -> dict[str, list[Picture]]:
    """Section -> its figures; the design's alone where there is no analysis."""
    factors = design.factors
    cells = design.cells
    figures: dict[str, list[Picture]] = {section: [] for section in SECTIONS}
    figures["design"] = [
        design_figures.draw_efficiency(efficiency_of(design), design.kind),
        design_figures.draw_balance(balance_of(cells, factors), factors),
        design_figures.draw_aliasing(aliasing_of(cells, factors)),
    ]
    if analysis is None:
        return figures
    number, presence = analysis.number, analysis.presence
    if number is not None:
        figures["strategies"].append(effect_figures.draw_strategies(analysis, number))
        pairs = effect_figures.draw_effects(
            number,
            "strategy pairs",
            "strategy-pairs",
            "Pairs of strategies",
            f"difference, {effect_figures.UNIT}",
        )
        figures["strategies"] += [pairs] if pairs is not None else []
        if number.family("number of sources"):
            figures["strategies"].append(effect_figures.draw_number(analysis, number))
    if presence is not None and presence.family("source"):
        figures["sources"].extend(_source_figures(analysis, presence, factors.sources))
    singles = score_figures.draw_singles(analysis)
    figures["sources"] += [singles] if singles is not None else []
    if analysis.compactness.runs:
        figures["costs"].append(score_figures.draw_compactness(analysis, factors.strategies))
    curves = score_figures.draw_curves(learning_curves(folder, outcomes, ("ss-r", *factors.strategies)))
    figures["costs"] += [curves] if curves is not None else []
    residuals = effect_figures.draw_residuals(number, presence)
    figures["checks"] += [residuals] if residuals is not None else []
    return figures


def _source_figures(analysis: Analysis, presence: ModelOutcome, sources: tuple[str, ...]) -> list[Picture]:
    label = f"effect of having the source, {effect_figures.UNIT}"
    found = [
        effect_figures.draw_effects(presence, "source", "sources", "Effect of each source", label),
        effect_figures.draw_effects(
            presence,
            "source by strategy",
            "sources-by-strategy",
            "Effect of each source by strategy",
            label,
            False,
        ),
        effect_figures.draw_effects(
            presence,
            "pair of sources",
            "source-pairs",
            "What two sources are worth together",
            f"beyond the sum of each, {effect_figures.UNIT}",
        ),
        effect_figures.draw_source_by_task(analysis, presence, sources),
    ]
    return [picture for picture in found if picture is not None]


def _write_tables(folder: Path, outcomes: Sequence[Outcome], analysis: Analysis | None) -> None:
    names = (
        "run",
        "kind",
        "strategy",
        "sources",
        "seed",
        "task",
        "metric",
        "probe",
        "score",
        "low",
        "high",
        "chance",
    )
    rows = []
    for outcome in outcomes:
        facts = outcome.run.facts
        about = (facts.run_id, facts.kind, facts.strategy, " ".join(facts.sources), facts.seed)
        for name, task in outcome.values["tasks"].items():
            numbers = (task[key] for key in ("metric", "probe", "score", "low", "high", "chance"))
            rows.append((*about, name, *numbers))
    write_table(folder / "scores.csv", names, rows)
    write_table(folder / "runs.csv", BUDGET_HEADER, [budget_row(outcome) for outcome in outcomes])
    if analysis is None:
        return
    models = [model for model in (analysis.number, analysis.presence) if model is not None]
    effects = [(m.fit.terms.title, *effect_row(e)) for m in models for e in m.effects]
    write_table(folder / "effects.csv", ("model", *EFFECT_HEADER), effects)
    rows = [
        (
            *(m.fit.terms.title, r.term, r.df, r.sum_of_squares, r.f, r.p_value, r.p_holm),
            *(r.omega, r.low, r.high),
        )
        for m in models
        for r in m.anova
    ]
    write_table(folder / "anova.csv", ANOVA_HEADER, rows)
    variances = [
        (m.fit.terms.title, m.fit.how, name, v) for m in models for name, v in m.fit.variances.items()
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
