"""All runs of a study: what each one is, in which order, and what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kerasrep import constants
from kerasrep.errors import RecipeError
from kerasrep.experiments.job import Job, StudyFolder
from kerasrep.experiments.study.cells import Cell
from kerasrep.experiments.study.design import Design
from kerasrep.experiments.study.recipe import Study
from kerasrep.experiments.study.scores import CONCATENATED, RunFacts
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import Recipe, differences, fingerprint

#: Raised whenever the same job gives another outcome.
WORKER_VERSION = 1


@dataclass(frozen=True)
class PlannedRun:
    """One run.

    Attributes:
        facts: For the analysis.
        job: For the process that makes it.
        recipe: What is trained; `None` where nothing is.
        needs: Runs that must be done before.
    """

    facts: RunFacts
    job: Job
    recipe: Recipe | None = None
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.facts.run_id


def plan_runs(study: Study, design: Design) -> list[PlannedRun]:
    """Single-source runs, baselines, all sources under each strategy, then the design; for each seed."""
    runs: list[PlannedRun] = []
    for seed in study.recipe.seeds:
        singles = {source: _single(study, source, seed) for source in design.factors.sources}
        baselines = [_baseline(study, spec, seed, singles) for spec in study.recipe.baselines]
        everything = [Cell(strategy, design.factors.sources) for strategy in design.factors.strategies]
        beside = [cell for cell in everything if cell not in design.cells]
        runs += [*singles.values(), *(run for run in baselines if run is not None)]
        runs += [_multi(study, cell, seed, singles, in_design=False) for cell in beside]
        runs += [_multi(study, cell, seed, singles, in_design=True) for cell in design.cells]
    return runs


def run_name(strategy: str, sources: Sequence[str], seed: int) -> str:
    """A folder's name that says what a run is: `ms-cr-2.tag-year.s0`."""
    return f"{strategy.replace('@', '-')}.{'-'.join(sources)}.s{seed}"


def check_trained(folder: StudyFolder, runs: Sequence[PlannedRun]) -> None:
    """Refuse to go on with a study whose runs were trained with other settings.

    Raises:
        RecipeError: Naming the run and the first setting.
    """
    for run in runs:
        path = folder.run(run.name).recipe
        if run.recipe is None or not path.is_file():
            continue
        for key, old, new in differences(read_recipe(path).as_dict(), run.recipe.as_dict()):
            raise RecipeError(
                f"{folder.root}: its runs have {key} {old!r}, the recipe now says {new!r}; choose another "
                "--output, or remove that folder"
            )


def _single(study: Study, source: str, seed: int) -> PlannedRun:
    name = run_name("ss-r", [source], seed)
    facts = RunFacts(name, "single", "ss-r", (source,), seed, _dimension(1), in_design=False)
    return _trained(study, facts)


def _multi(
    study: Study, cell: Cell, seed: int, singles: dict[str, PlannedRun], in_design: bool
) -> PlannedRun:
    name = run_name(cell.strategy, cell.sources, seed)
    branches = 1 if cell.strategy == "ms-sr@fc" else len(cell.sources)
    facts = RunFacts(
        name, "multi", cell.strategy, cell.sources, seed, _dimension(branches), in_design=in_design
    )
    if cell.strategy != CONCATENATED:
        return _trained(study, facts)
    parts = tuple(singles[source].name for source in cell.sources)
    keys = [singles[source].job.key for source in cell.sources]
    return PlannedRun(facts, _job(study, name, "concatenate", keys, parts=parts), None, parts)


def _trained(study: Study, facts: RunFacts) -> PlannedRun:
    recipe = study.run_recipe(facts.run_id, facts.strategy, facts.sources, facts.seed)
    recipe = recipe.model_copy(update={"tasks": ()})  # they judge a network and change nothing in it
    job = _job(study, facts.run_id, "train", [recipe.fingerprint()], export=study.recipe.export)
    return PlannedRun(facts, job, recipe)


def _baseline(study: Study, spec: str, seed: int, singles: dict[str, PlannedRun]) -> PlannedRun | None:
    """A baseline; those that nothing is drawn for are made with the first seed only."""
    if spec != "random" and seed != study.recipe.seeds[0]:
        return None
    name = "baseline." + "".join(c if c.isalnum() else "-" for c in spec) + f".s{seed}"
    first = next(iter(singles.values()))
    parts = (first.name,) if spec == "random" else ()
    drawn = f"random:{seed}" if spec == "random" and seed else spec
    facts = RunFacts(name, "baseline", spec, (), seed, in_design=False)
    keys = [first.job.key] if parts else []
    return PlannedRun(facts, _job(study, name, "baseline", keys, parts, drawn), None, parts)


def _job(
    study: Study,
    name: str,
    kind: str,
    keys: Sequence[str],
    parts: tuple[str, ...] = (),
    representation: str | None = None,
    export: bool = False,
) -> Job:
    values = {
        "name": name,
        "kind": kind,
        "representation": representation,
        "parts": parts,
        "evaluation": study.recipe.evaluation.model_dump(mode="json"),
        "own_tasks": [task.model_dump(mode="json") for task in study.own_tasks],
    }
    key = fingerprint([WORKER_VERSION, keys, Job.model_validate(values).model_dump(mode="json")])
    return Job.model_validate(values | {"export": export, "key": key})


def _dimension(branches: int) -> int:
    """Means and deviations of so many embeddings."""
    return 2 * constants.EMBEDDING_SIZE * branches
