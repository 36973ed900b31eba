import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.recipe import strict_yaml
from kerasrep.recipe.strict_yaml import StrictYamlError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALAR = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | TEXT
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUE, max_size=5))
def test_what_is_dumped_loads_equal(value):
    assert strict_yaml.load(strict_yaml.dump(value))[0] == value


@given(st.dictionaries(TEXT, TEXT | st.integers() | st.booleans() | st.none(), max_size=5))
def test_what_is_dumped_means_the_same_to_other_yaml_readers(value):
    assert yaml.safe_load(strict_yaml.dump(value)) == value


@pytest.mark.parametrize(
    "written",
    [
        "1e-3",
        "on",
        "off",
        "yes",
        "No",
        "2018-02-11",
        "12:30",
        "0x1F",
        "1_000",
        ".5",
        "null",
        "~",
        "",
        "=",
        "<<",
    ],
)
def test_words_that_look_like_something_else_stay_words_when_dumped(written):
    assert strict_yaml.load(strict_yaml.dump({"word": written}))[0] == {"word": written}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("2.5E-4", 0.00025),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-7", -7),
        ("1_000", 1000),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("on", "on"),
        ("no", "no"),
        ("12:30", "12:30"),
        ("2018-02-11", "2018-02-11"),
        ("'5'", "5"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_follow_the_core_schema(written, value):
    loaded = strict_yaml.load(f"a: {written}")[0]["a"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_nan_is_read_as_nan():
    assert math.isnan(strict_yaml.load("a: .nan")[0]["a"])


def test_every_key_and_item_has_its_line():
    text = "# comment\na:\n  b: 1\n\n  c:\n    - x\n    - {d: 2}\n"
    _, lines = strict_yaml.load(text)
    assert lines == {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", 0): 6,
        ("a", "c", 1): 7,
        ("a", "c", 1, "d"): 7,
    }


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' stands twice, first in line 1"),
        ("a: 1\nb: {c: 1, c: 2}", 2, "'c' stands twice"),
        ("a: &x [1]\nb: *x", 1, "anchors"),
        ("a: 1\nb: *x", 2, "anchors"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", 2, "tags"),
        ("a: !local 1", 1, "tags"),
        ("1: 2", 1, "'1' must be text"),
        ("null: 2", 1, "must be text"),
        ("true: 2", 1, "must be text"),
        ("? [a]\n: 2", 1, "must be text"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("a: [1", 1, "not valid YAML"),
        ("a: 1\nb: \x00", 2, "NUL"),
        ("a: 1\nb: \x07", 2, "control character"),
        ('a: "\\UFFFFFFFF"', 1, "escape"),
        ("a: " + "9" * 5000, 1, "5000 characters"),
        ("a: 0x" + "f" * 5000, 1, "5002 characters"),
    ],
)
def test_what_is_refused_names_its_line(text, line, words):
    with pytest.raises(StrictYamlError, match=words) as raised:
        strict_yaml.load(text)
    assert raised.value.line == line
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_without_exhausting_the_stack(opening):
    with pytest.raises(StrictYamlError, match="nested more than 20 deep"):
        strict_yaml.load("a:\n " + opening * 20_000)


def test_an_alias_bomb_is_refused_at_its_first_anchor():
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(StrictYamlError, match="anchors"):
        strict_yaml.load("\n".join(["l0: &l0 [x]", *levels]))


@given(st.text(max_size=60))
def test_any_text_loads_or_is_refused_in_one_line(text):
    try:
        strict_yaml.load(text)
    except StrictYamlError as error:
        assert error.line >= 1
        assert len(str(error).splitlines()) == 1
