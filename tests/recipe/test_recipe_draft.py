"""Drafts laid over each other, and what the schema says of a key."""

import pytest

from kerasrep.errors import RecipeError
from kerasrep.recipe import faults as recipe_faults
from kerasrep.recipe.file import read_draft
from kerasrep.recipe.schema import Recipe


@pytest.fixture
def base(write_yaml):
    text = "name: a\nstrategy: mss-cr\nsources: [tag, year]\ntraining:\n  epochs: 9\n  decay: cosine\n"
    return read_draft(write_yaml(text, "base.yaml"))


def test_a_draft_laid_over_another_sets_what_it_names_and_leaves_the_rest(base, write_yaml):
    base.lay_over(read_draft(write_yaml("sources: [tag, bpm, artist]\ntraining: {epochs: 2}", "over.yaml")))
    recipe = base.check(Recipe)
    assert recipe.sources == ("tag", "bpm", "artist")
    assert (recipe.training.epochs, recipe.training.decay) == (2, "cosine")


def test_a_fault_is_placed_in_the_file_that_it_comes_from(base, write_yaml):
    over = write_yaml("seed: 1\nsources: [tag, taste, Tag]\nmodel:\n  dropout: 2", "over.yaml")
    base.lay_over(read_draft(over))
    with pytest.raises(RecipeError, match=rf"{over}:2: sources\[2\]: 'Tag' is not allowed.*'tag'\?"):
        base.check(Recipe)
    base.override("sources=[tag, year]")
    with pytest.raises(RecipeError, match=rf"{over}:4: model\.dropout: 2 is not allowed; .* below 1"):
        base.check(Recipe)
    base.override("model.dropout=0.1")
    base.override("training.epochs=0")
    with pytest.raises(RecipeError, match=r"^override 'training\.epochs=0': training\.epochs: 0 is not"):
        base.check(Recipe)


def test_a_section_is_a_draft_of_its_own_that_keeps_its_lines(write_yaml):
    path = write_yaml("other: 1\nrecipe:\n  name: a\n  strategy: ss-r\n  sources: [tag, year]\n")
    inner = read_draft(path).section("recipe")
    assert inner.values == {"name": "a", "strategy": "ss-r", "sources": ["tag", "year"]}
    with pytest.raises(RecipeError, match=rf"{path}:5: sources: strategy 'ss-r' takes one source, not 2"):
        inner.check(Recipe)


def test_a_value_in_the_way_of_a_section_is_told(base, write_yaml):
    over = write_yaml("name:\n  first: 1\n", "over.yaml")
    with pytest.raises(RecipeError, match=rf"{over}:2: name is a value and has no keys"):
        base.lay_over(read_draft(over))


@pytest.mark.parametrize(
    ("key", "kinds"),
    [
        ("training.learning_rate", {"number"}),
        ("batches.size", {"integer"}),
        ("strategy", {"string"}),
        ("training.steps_per_call", {"string", "integer"}),
        ("targets.sizes.bpm", {"integer"}),
        ("sources", {"array"}),
        ("model", {"object"}),
        ("training.epoch", set()),
        ("training.epochs.more", set()),
    ],
)
def test_the_schema_says_what_kind_of_value_a_key_takes(key, kinds):
    assert recipe_faults.kinds(tuple(key.split("."))) == kinds
