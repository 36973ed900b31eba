from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from parts import PARTS, assign_parts, deal_groups, joined_groups, part_by_hash

HOURS = st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.floats(0.01, 3), max_size=30)


@given(HOURS)
def test_every_group_has_one_part_and_hours_are_balanced(hours):
    parts = assign_parts(hours, {})
    assert set(parts) == set(hours)
    filled = Counter(dict.fromkeys(PARTS, 0.0))
    for group, part in parts.items():
        filled[part] += hours[group]
    assert max(filled.values()) - min(filled.values()) <= max(hours.values(), default=0) + 1e-9


@given(HOURS, st.data())
def test_order_does_not_matter_and_fixed_parts_stay(hours, data):
    groups = data.draw(st.permutations(sorted(hours)))
    parts = assign_parts({group: hours[group] for group in groups}, {})
    assert parts == assign_parts(hours, {})
    assert assign_parts({**hours, "new one": 1.0}, parts).items() >= parts.items()


def test_packages_of_one_composer_are_one_group():
    groups = joined_groups(
        [("package a", "composer x"), ("package b", "composer x"), ("package c", "composer y")]
    )
    assert groups["package a"] == groups["package b"] != groups["package c"]


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3), max_size=12))
def test_names_of_a_member_share_a_group_whatever_the_order(members):
    groups = joined_groups(members)
    assert groups == joined_groups(members[::-1])
    assert all(len({groups[name] for name in names}) == 1 for names in members)


def test_part_by_hash_is_fixed():
    assert "".join(part_by_hash(f"sample {number}") for number in range(1, 9)) == "AABABCAA"


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.sampled_from(["kick", "snare", "tom"])))
def test_groups_of_a_class_are_dealt_evenly(class_of):
    parts = deal_groups({group: {item} for group, item in class_of.items()})
    dealt = Counter((item, parts[group]) for group, item in class_of.items())
    for item in set(class_of.values()):
        counts = [dealt[item, part] for part in PARTS]
        assert max(counts) - min(counts) <= 1


def test_groups_of_several_classes_count_for_each_and_order_does_not_matter():
    classes = {
        "both": {"kick", "tom"},
        **{f"{item} {n}": {item} for item in ("kick", "tom") for n in range(8)},
    }
    parts = deal_groups(classes)
    assert parts == deal_groups(dict(reversed(classes.items())))
    for item in ("kick", "tom"):
        assert Counter(parts[group] for group, own in classes.items() if item in own) == dict.fromkeys(
            PARTS, 3
        )
