"""Study recipes: what is refused, in one line with its place; and the runs that come of one."""

from collections import Counter
from pathlib import Path

import pytest
from made_study import RECIPE, make_study, write_recipe_file

from kerasrep.errors import RecipeError
from kerasrep.experiments.study.design import make_design
from kerasrep.experiments.study.plan import check_trained, plan_runs
from kerasrep.experiments.study.recipe import read_study
from kerasrep.recipe.file import read_tasks, write_recipe

HEAD = "recipe: {training: {epochs: 3}}\n"
DESIGN = "design: {kind: random, runs: 9}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"is empty; a recipe needs at least 'recipe' and 'design'"),
        (HEAD, r"design: is missing"),
        (HEAD + "design: {kind: optimal, runs: 9}\n", r":2: design\.kind: 'optimal' is not allowed"),
        (
            HEAD + "design: {kind: d-optimal}\n",
            r":2: design\.runs: a d-optimal design needs a number of runs",
        ),
        (HEAD + "design: {kind: full, runs: 3}\n", r":2: design\.runs: a design of kind 'full' has its own"),
        (HEAD + "design: {kind: file}\n", r":2: design\.file: a design of kind 'file' needs a file"),
        (
            HEAD + "design: {runs: 20, interactions: [tag]}\n",
            r"design\.interactions\[0\]: 'tag' is not allowed",
        ),
        (
            HEAD + "design: {runs: 20, sources: [tag, year], interactions: ['strategy:bpm']}\n",
            r"design\.interactions: 'strategy:bpm' names a source that the design has not",
        ),
        (
            HEAD + "design: {runs: 20, interactions: ['tag:tag']}\n",
            r":2: design\.interactions: 'tag:tag' crosses a source with itself",
        ),
        (
            HEAD + "design: {runs: 20, strategies: [ms-cr@2], interactions: ['strategy:tag']}\n",
            r":2: design\.interactions: 'strategy:tag' needs two strategies or more",
        ),
        (HEAD + "design: {runs: 9, strategies: [ss-r]}\n", r"design\.strategies\[0\]: 'ss-r' is not allowed"),
        (HEAD + DESIGN + "seeds: [1, 1]\n", r":3: seeds: each may stand once"),
        (HEAD + DESIGN + "retires: 2\n", r":3: retires: unknown key; did you mean 'retries'\?"),
        (HEAD + DESIGN + "baselines: [mfc]\n", r":3: baselines\[0\]: 'mfc' is not allowed"),
        (HEAD + DESIGN + "workers: {count: 0}\n", r":3: workers\.count: 0 is not allowed"),
        ("recipe: {seed: 3}\n" + DESIGN, r":1: recipe\.seed: is set by the study"),
        (
            "recipe: {training: {epoch: 3}}\n" + DESIGN,
            r":1: training\.epoch: unknown key; did you mean 'epochs'",
        ),
        ("recipe: nowhere.yaml\n" + DESIGN, r"nowhere\.yaml: no such file"),
        (HEAD + DESIGN + "settings: {seed: 2}\n", r":3: settings\.seed: is set by the study"),
        (HEAD + DESIGN + "settings: {export: {name: a}}\n", r":3: settings\.export: is set by the study"),
        (HEAD + DESIGN + "settings:\n  model: {dropout: 2}\n", r":4: model\.dropout: 2 is not allowed"),
        (
            "recipe: {batches: {size: 10, crops_per_visit: 1}, training: {schedule: joint}}\n" + DESIGN,
            r"divisible by 4",
        ),
    ],
)
def test_faults_are_one_line_with_file_and_line(write_yaml, text, words):
    path = write_yaml(text, "study.yaml")
    with pytest.raises(RecipeError, match=words) as raised:
        read_study(path)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(path)) or "nowhere" in message


def test_the_order_of_names_in_a_recipe_changes_nothing(tmp_path):
    def made(design):
        text = RECIPE.replace("{kind: d-optimal, runs: 24, starts: 2}", design)
        _, design, runs, _ = make_study(tmp_path, text)
        return design, [(run.name, run.job.key) for run in runs]

    design = "{runs: 20, sources: [%s], strategies: [%s], interactions: [%s]}"
    one = made(design % ("bpm, tag, year, self", "ms-sr@fc, mss-cr, ms-cr@2", "'tag:bpm', 'strategy:self'"))
    other = made(design % ("self, bpm, year, tag", "mss-cr, ms-cr@2, ms-sr@fc", "'strategy:self', 'bpm:tag'"))
    assert one[0].cells == other[0].cells
    assert one[1] == other[1]


def test_overrides_reach_the_study_and_its_runs(write_yaml):
    path = write_yaml(HEAD + DESIGN)
    study = read_study(path, ["settings.training.epochs=7", "retries=4", "design.runs=5"])
    assert (study.recipe.retries, study.recipe.design.runs) == (4, 5)
    recipe = study.run_recipe("a", "ms-cr@2", ["tag", "year"], 3)
    assert (recipe.training.epochs, recipe.seed, recipe.strategy) == (7, 3, "ms-cr@2")
    with pytest.raises(RecipeError, match=r"override 'settings\.training\.epochs=0': training\.epochs"):
        read_study(path, ["settings.training.epochs=0"])


def test_a_recipe_from_a_file_gives_everything_but_what_is_the_runs_own(tmp_path):
    study = read_study(write_recipe_file(tmp_path), ["settings.training.epochs=5"])
    recipe = study.run_recipe("a", "ss-r", ["bpm"], 1)
    assert (recipe.sources, recipe.training.epochs, recipe.batches.size) == (("bpm",), 5, 8)


def test_a_run_is_told_nothing_of_sources_that_it_has_not(write_yaml):
    path = write_yaml(
        "recipe: {training: {optimizer: adamw, source_weights: {tag: 2, year: 3}},\n"
        "  augment: {gain_db: [-6, 6], alike: [gain], leave_out: {tag: [gain]}}}\n"
        "design: {kind: full, sources: [self, tag, year]}\n"
    )
    study = read_study(path)
    both, single = (
        study.run_recipe("a", "ms-sr@fc", ["tag", "year"], 0),
        study.run_recipe("b", "ss-r", ["year"], 0),
    )
    assert both.training.source_weights == {"tag": 2, "year": 3} and both.augment.leave_out == {
        "tag": ("gain",)
    }
    assert single.training.source_weights == {"year": 3} and single.augment.leave_out == {}
    assert study.run_recipe("c", "ms-sr@fc", ["self", "tag"], 0).augment.alike == ("gain",)
    path.write_text(path.read_text().replace("year: 3", "yaer: 3"))
    with pytest.raises(RecipeError, match="'yaer' is not a source of this recipe"):
        read_study(path)


def test_the_starters_study_has_each_source_alone_all_of_them_and_all_but_one():
    folder = Path(__file__).parents[3] / "recipes" / "starter"
    study = read_study(folder / "study.yaml")
    runs = plan_runs(study, make_design(study.recipe.design))
    made = Counter((run.facts.strategy, len(run.facts.sources)) for run in runs if run.facts.sources)
    several = [(strategy, n) for strategy in ("mss-cr", "ms-cr@4", "ms-sr@fc") for n in (8, 9)]
    assert made == {("ss-r", 1): 9} | {(strategy, n): 9 if n == 8 else 1 for strategy, n in several}
    assert sum(run.recipe is not None for run in runs) == 29
    benchmark = read_tasks(folder / "benchmark.yaml").tasks
    assert study.own_tasks == tuple(task for task in benchmark if task.name.endswith("_a"))


def test_all_that_every_study_has_is_planned_once(tmp_path):
    _, design, runs, _ = make_study(tmp_path)
    assert len({run.name for run in runs}) == len(runs) == 8 + 2 + 5 + 24
    assert Counter(run.facts.kind for run in runs) == {"multi": 29, "single": 8, "baseline": 2}
    assert [run.facts.in_design for run in runs].count(True) == len(design.cells)
    everything = [run for run in runs if len(run.facts.sources) == 8]
    assert {run.facts.strategy for run in everything} == set(design.factors.strategies)


def test_mss_cr_is_trained_nowhere_and_made_of_single_source_runs(tmp_path):
    _, _, runs, _ = make_study(tmp_path)
    by_name = {run.name: run for run in runs}
    concatenated = [run for run in runs if run.facts.strategy == "mss-cr"]
    assert concatenated
    for run in concatenated:
        assert (run.recipe, run.job.kind) == (None, "concatenate")
        assert [by_name[part].facts.sources for part in run.needs] == [(s,) for s in run.facts.sources]
        assert run.facts.dimension == 512 * len(run.needs)
    others = [run for run in runs if run.facts.strategy not in {"mss-cr", "mfcc", "random"}]
    assert all(run.recipe is not None for run in others)


def test_seeds_make_runs_of_their_own_and_what_is_not_drawn_is_made_once(tmp_path):
    _, design, _, _ = make_study(tmp_path)
    runs = plan_runs(read_study(tmp_path / "made.yaml", ["seeds=[0, 4]"]), design)
    assert len(runs) == 2 * 39 - 1
    random = [run.job.representation for run in runs if run.facts.strategy == "random"]
    assert random == ["random", "random:4"]
    assert {run.recipe.seed for run in runs if run.recipe is not None} == {0, 4}


def test_keys_change_with_what_the_outcome_depends_on_and_nothing_else(tmp_path):
    _, design, runs, _ = make_study(tmp_path)

    def keys(*overrides):
        study = read_study(tmp_path / "made.yaml", overrides)
        return {run.name: run.job.key for run in plan_runs(study, design)}

    before = {run.name: run.job.key for run in runs}
    assert keys("retries=5", "workers.count=3", "export=false", "notes=[a]") == before
    changed = keys("settings.training.epochs=4")
    assert {name for name, key in changed.items() if before[name] == key} == {"baseline.mfcc.s0"}
    assert not set(keys("evaluation.folds=3").values()) & set(before.values())


def test_a_study_does_not_go_on_with_other_training_settings(tmp_path):
    _, design, runs, folder = make_study(tmp_path)
    run = next(run for run in runs if run.recipe is not None)
    write_recipe(folder.run(run.name).recipe, run.recipe)
    check_trained(folder, runs)
    other = plan_runs(read_study(tmp_path / "made.yaml", ["settings.training.epochs=4"]), design)
    with pytest.raises(
        RecipeError, match=r"training\.epochs 3, the recipe now says 4; choose another --output"
    ):
        check_trained(folder, other)


def test_exports_and_tasks_are_no_settings_of_a_training(tmp_path):
    _, design, runs, folder = make_study(tmp_path)
    for run in runs:
        if run.recipe is not None:
            write_recipe(folder.run(run.name).recipe, run.recipe)
    base = tmp_path / "base.yaml"
    (tmp_path / "mood.tsv").write_text("path\tlabel\n")
    base.write_text(
        base.read_text()
        + "export: {directory: elsewhere}\n"
        + f"tasks: [{{name: mood, table: {tmp_path / 'mood.tsv'}, kind: classification}}]\n"
    )
    other = plan_runs(read_study(tmp_path / "made.yaml"), design)
    check_trained(folder, other)
    assert [run.recipe for run in other] == [run.recipe for run in runs]
    assert not {run.job.key for run in other} & {run.job.key for run in runs}  # scores of a task are missing
