"""A study whose runs left scores that were made up, with effects that are known."""

import csv
from pathlib import Path

import numpy as np

from kerasrep import constants
from kerasrep.experiments.job import StudyFolder
from kerasrep.experiments.study.design import Design, make_design
from kerasrep.experiments.study.plan import PlannedRun, plan_runs
from kerasrep.experiments.study.recipe import Study, read_study
from kerasrep.storage.run_directory import RunDirectory, write_json

TASKS = ("demo_dance", "demo_metre", "demo_composer", "demo_lead", "demo_tempo", "demo_recommendation")
RECIPE = """
recipe: {strategy: ss-r, training: {epochs: 3}, batches: {size: 8}}
design: {kind: d-optimal, runs: 24, starts: 2}
notes: ["Made up, with <b>known</b> effects."]
"""


def write_recipe_file(folder: Path, text: str = RECIPE) -> Path:
    base = folder / "base.yaml"
    base.write_text("strategy: mss-cr\nsources: [tag, year]\ntraining: {epochs: 3}\nbatches: {size: 8}\n")
    path = folder / "made.yaml"
    path.write_text(text.replace("{strategy: ss-r, training: {epochs: 3}, batches: {size: 8}}", base.name))
    return path


def make_study(folder: Path, text: str = RECIPE) -> tuple[Study, Design, list[PlannedRun], StudyFolder]:
    study = read_study(write_recipe_file(folder, text))
    design = make_design(study.recipe.design)
    return study, design, plan_runs(study, design), StudyFolder(folder / "study")


def write_outcomes(folder: StudyFolder, runs: list[PlannedRun], seed: int = 0) -> None:
    """`tag` helps, `ms-sr@fc` is worse, single sources and baselines are below."""
    rng = np.random.default_rng(seed)
    for run in runs:
        facts = run.facts
        level = {"multi": 0.5, "single": 0.44, "baseline": 0.38}[facts.kind]
        level += (
            0.05 * ("tag" in facts.sources) - 0.06 * (facts.strategy == "ms-sr@fc") + rng.normal(0, 0.008)
        )
        tasks = {}
        for task in TASKS:
            score = float(level + rng.normal(0, 0.015))
            tasks[task] = {
                **{"kind": "classification", "metric": "accuracy", "probe": "linear_svm", "score": score},
                **{"low": score - 0.07, "high": score + 0.07, "chance": 0.2, "n_items": 200},
            }
        branches = max(1, facts.dimension // 512)
        write_json(
            folder.run(run.name).scores,
            {
                **{"format": 1, "name": run.name, "key": run.job.key, "dimension": facts.dimension or 512},
                **{"parameters": 160_000 * branches, "steps": 80, "updates_a_source": 80, "segments": 2560},
                **{"training_seconds": 20.0, "seconds": {"train": 30.0, "embed": 9.0}, "tasks": tasks},
            },
        )
        if run.recipe is not None:
            _write_history(RunDirectory(folder.run(run.name).training), facts.sources, rng)


def _write_history(run: RunDirectory, sources: tuple[str, ...], rng: np.random.Generator) -> None:
    run.root.mkdir(parents=True, exist_ok=True)
    names = [f"validation_loss/{source}" for source in sources]
    with run.history.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", *names, "validation_loss/mean"])
        for epoch in range(5):
            losses = [2.0 * 0.8**epoch + rng.uniform(0, 0.05) for _ in names]
            writer.writerow([epoch, 10 * epoch, *losses, np.mean(losses)])


ALL = constants.SOURCES
