import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instruments import DRUM_CLASSES, DRUM_KEYS, FAMILIES, drum_class, family
from rendering import merged


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (35, "kick"),
        (36, "kick"),
        (37, "snare"),
        (40, "snare"),
        (41, "tom"),
        (42, "hi-hat"),
        (46, "hi-hat"),
        (49, "cymbal"),
        (50, "tom"),
        (54, "other percussion"),
        (59, "cymbal"),
        (81, "other percussion"),
    ],
)
def test_drum_classes(key, expected):
    assert drum_class(key) == expected


def test_every_class_and_family_occurs():
    assert {drum_class(key) for key in DRUM_KEYS} == set(DRUM_CLASSES)
    assert [family(8 * number + 7) for number in range(16)] == list(FAMILIES)


SPANS = st.lists(
    st.tuples(st.sampled_from(["bass", "kick"]), st.floats(0, 30), st.floats(0.01, 5)).map(
        lambda s: (s[0], s[1], s[1] + s[2])
    ),
    max_size=20,
)


@given(SPANS)
def test_merged_spans_cover_the_same_time_and_stay_apart(spans):
    result = merged(spans)
    for item, start, end in spans:
        assert any(i == item and s <= start and end <= e for i, s, e in result)
    for item in ("bass", "kick"):
        mine = [(s, e) for i, s, e in result if i == item]
        assert all(after[0] > before[1] for before, after in itertools.pairwise(mine))
    assert merged(result) == result
