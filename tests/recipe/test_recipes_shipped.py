"""Every recipe in recipes/: readable, explained, and with the settings it promises."""

import re
from pathlib import Path

import pytest

from kerasrep import constants
from kerasrep.recipe.file import read_recipe

ROOT = Path(__file__).parents[2]
SHIPPED = {
    "ss": "ss-r",
    "mss": "mss-cr",
    "ms-cr-2": "ms-cr@2",
    "ms-cr-4": "ms-cr@4",
    "ms-cr-6": "ms-cr@6",
} | {"ms-sr-fc": "ms-sr@fc"}
DEMO = {name: ROOT / "recipes" / f"{name}.yaml" for name in SHIPPED}
PAPER = {name: ROOT / "recipes" / "paper" / f"paper-{name}.yaml" for name in SHIPPED}
OWN_LABELS = ROOT / "recipes" / "own-labels.yaml"
OWN = [ROOT / "recipes" / f"{name}.yaml" for name in ("own-music", "own-sources", "distil")]
STARTER = ROOT / "recipes" / "starter.yaml"
#: Tasks alone, for `kerasrep-evaluate --recipe`.
BENCHMARKS = {ROOT / "recipes" / "starter" / name for name in ("benchmark.yaml", "benchmark-c.yaml")}
#: Settings that differ from the starter's, for recipes/starter/variants.py.
VARIANTS = ROOT / "recipes" / "starter" / "variants.yaml"
#: Of other commands: file -> command. What they say is tested beside the command.
OTHERS = {
    ROOT / "recipes" / "tune-demo.yaml": "kerasrep-tune",
    ROOT / "recipes" / "study-demo.yaml": "kerasrep-study",
    ROOT / "recipes" / "starter" / "study.yaml": "kerasrep-study",
    ROOT / "recipes" / "paper" / "paper-study.yaml": "kerasrep-study",
}


def test_one_recipe_a_strategy_those_for_own_music_the_starters_and_those_of_other_commands_are_shipped():
    assert set(SHIPPED.values()) == set(constants.STRATEGIES)
    wanted = {*DEMO.values(), *PAPER.values(), OWN_LABELS, *OWN, STARTER, *OTHERS, *BENCHMARKS, VARIANTS}
    assert set((ROOT / "recipes").rglob("*.yaml")) == wanted


@pytest.mark.parametrize(
    "path",
    [*DEMO.values(), *PAPER.values(), OWN_LABELS, *OWN, STARTER, *OTHERS],
    ids=lambda path: path.stem,
)
def test_the_header_gives_purpose_command_time_and_score(path):
    header = path.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in header)
    assert re.match(r"# [A-Z].*\.$", header[0])
    fields = dict(re.findall(r"^# (\w+): +(.+)$", "\n".join(header), re.MULTILINE))
    assert {"Command", "Time", "Score"} <= set(fields)
    command = f"{OTHERS.get(path, 'kerasrep-train')} {path.relative_to(ROOT)}"
    assert fields["Command"].removesuffix(" corpus.root=~/Music") == command


@pytest.mark.parametrize("name", SHIPPED)
def test_demo_recipes_learn_from_the_embedded_corpus(name):
    recipe = read_recipe(DEMO[name])
    assert (recipe.name, recipe.strategy, recipe.corpus.name) == (name, SHIPPED[name], "demo")
    assert recipe.sources == (("tag",) if name == "ss" else constants.SOURCES)


@pytest.mark.parametrize("name", SHIPPED)
def test_paper_recipes_have_the_papers_settings(name):
    recipe = read_recipe(PAPER[name])
    assert (recipe.name, recipe.strategy, recipe.corpus.name) == (
        f"paper-{name}",
        SHIPPED[name],
        "million_song",
    )
    training = recipe.training
    assert (recipe.batches.size, training.epochs, training.learning_rate) == (128, 200, 2.5e-4)
    assert (training.decay, training.schedule) == ("constant", "alternating")
    assert (recipe.model.dropout, recipe.model.l2, recipe.model.loss_scaling) == (0.5, 1e-6, "paper")
    assert [recipe.targets.size_of(source) for source in constants.SOURCES] == [2] + [50] * 7


def test_demo_recipes_share_all_but_name_strategy_sources_and_length():
    def rest(name):
        values = read_recipe(DEMO[name]).as_dict()
        values["training"].pop("epochs")
        return {key: value for key, value in values.items() if key not in {"name", "strategy", "sources"}}

    assert all(rest(name) == rest("mss") for name in SHIPPED)


def test_the_recipe_for_own_labels_reads_two_tables_in_a_folder():
    corpus = read_recipe(OWN_LABELS).corpus
    assert corpus.name == "folder" and set(corpus.tables) == {"tag", "year"}
    assert (corpus.tables["tag"].track, corpus.tables["tag"].item) == ("file", "tag")


def test_the_starters_recipe_learns_from_every_kind_of_its_folder_by_contrast_and_labels():
    recipe = read_recipe(STARTER)
    assert recipe.model.trunk == "residual" and recipe.kind_of("self") == "contrast"
    assert {recipe.kind_of(source) for source in recipe.sources} == {
        "contrast",
        "labels",
        "classes",
        "number",
    }
    assert set(recipe.corpus.pools.shares) == {"real", "rendered", "note"}
