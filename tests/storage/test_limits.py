"""Limits on what comes from elsewhere: documented, told where they are met, and raised by a variable."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from kerasrep.data.audio import read_header
from kerasrep.errors import DataError, RecipeError
from kerasrep.model.reference_checkpoint import read_checkpoint
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.file import read_draft
from kerasrep.sources.readers.lines import read_lines
from kerasrep.storage import limits
from kerasrep.storage.run_directory import read_arrays, read_json, write_arrays
from kerasrep.storage.tables import read_fields

#: Holds the table of limits, which is made out of `limits.ALL`.
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "environment.md"


def test_the_reference_has_the_table_of_limits():
    assert "```{generated} limits\n```\n" in REFERENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize("limit", limits.ALL, ids=lambda limit: limit.name)
def test_a_limit_says_what_it_bounds(limit):
    assert limit.bounds and "|" not in limit.bounds
    assert limit.default <= limit.most


def test_all_limits_are_listed():
    assert {name for name in dir(limits) if isinstance(getattr(limits, name), limits.Limit)} == {
        limit.name for limit in limits.ALL
    }


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "many", "1" * 30, "٣", " 5"])
def test_a_variable_without_a_number_is_told(monkeypatch, text):
    monkeypatch.setenv("KERASREP_MAX_JSON_BYTES", text)
    with pytest.raises(RecipeError, match=r"KERASREP_MAX_JSON_BYTES: .* is not a number from 1 to"):
        limits.JSON_BYTES.value  # noqa: B018


def recipe(path):
    path.write_text("strategy: mss-cr  # and more\n")
    read_draft(path)


def levels(path):
    strict_yaml.load("[" * 30 + "]" * 30)


def number(path):
    strict_yaml.load("9" * 150)


def table(path):
    path.write_text("track,item\n" + "x" * 2_000 + ",y\n")
    list(read_fields(path))


def text(path):
    path.write_text("x" * 2_000)
    list(read_lines(path, path.name))


def card(path):
    path.write_text('{"a": "' + "x" * 2_000 + '"}')
    read_json(path)


def arrays(path):
    np.savez_compressed(path, a=np.zeros(100_000))
    read_arrays(path)


def checkpoint(path):
    write_arrays(path, {"a": np.zeros(500), "tasks": np.array(["tag"]), "branch_at": np.array("null")})
    read_checkpoint(path)


def sound(path):
    soundfile.write(path, np.zeros(100_000), 44_100)  # silence takes FLAC a few hundred bytes
    read_header(path)


CASES = [
    (recipe, "RECIPE_BYTES", 10, "x.yaml"),
    (levels, "RECIPE_LEVELS", 20, "x.yaml"),
    (number, "RECIPE_NUMBER_CHARACTERS", 100, "x.yaml"),
    (table, "LINE_CHARACTERS", 1_000, "x.csv"),
    (text, "LINE_CHARACTERS", 1_000, "x.txt"),
    (card, "JSON_BYTES", 1_000, "x.json"),
    (arrays, "NPZ_BYTES", 1_000, "x.npz"),
    (checkpoint, "CHECKPOINT_BYTES", 1_000, "x.npz"),
    (sound, "SAMPLE_RATE_HZ", 8_000, "x.wav"),
    (sound, "FRAMES_PER_BYTE", 1, "x.flac"),
]


@pytest.mark.parametrize(("use", "name", "low", "file"), CASES, ids=[case[1] for case in CASES])
def test_an_error_at_a_limit_names_the_variable_which_raises_it(use, name, low, file, tmp_path, monkeypatch):
    variable = f"{limits.PREFIX}{name}"
    monkeypatch.setenv(variable, str(low))
    with pytest.raises((RecipeError, DataError, strict_yaml.StrictYamlError), match=f"raise {variable}$"):
        use(tmp_path / file)
    limit = next(limit for limit in limits.ALL if limit.name == name)
    monkeypatch.setenv(variable, str(min(limit.most, 1_000 * low)))
    use(tmp_path / file)
