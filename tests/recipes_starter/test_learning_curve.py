"""What a network of a learning curve may learn from, and what it is tested on."""

from __future__ import annotations

import learning_curve
import pytest
from files import CollectError


def rows(pieces: dict[str, int], stretches: int = 2) -> list[dict[str, str]]:
    """So many pieces a label, each of some stretches."""
    return [
        {"path": f"{label}{piece}.{n}.opus", "label": label, "group": f"{label}{piece}"}
        for label, number in pieces.items()
        for piece in range(number)
        for n in range(stretches)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_the_test_are_never_trained_on_and_every_label_is_in_both(seed: int) -> None:
    by_size = learning_curve.drawn(rows({"a": 20, "b": 7, "c": 3}), [8, 16, 30], seed)
    for size, chosen in by_size.items():
        train, test = ([row for row in chosen if row["split"] == split] for split in ("train", "test"))
        assert len(train) == size
        assert not {row["group"] for row in train} & {row["group"] for row in test}
        assert {row["label"] for row in train} == {row["label"] for row in test} == {"a", "b", "c"}
        assert len(test) == 2 * (8 + 3 + 1)


def test_smaller_training_sets_are_part_of_larger_ones_and_the_test_stays() -> None:
    by_size = learning_curve.drawn(rows({"a": 20, "b": 7}), [6, 12, 24], 0)
    paths = {
        size: {split: {row["path"] for row in chosen if row["split"] == split} for split in ("train", "test")}
        for size, chosen in by_size.items()
    }
    assert paths[6]["train"] < paths[12]["train"] < paths[24]["train"]
    assert paths[6]["test"] == paths[12]["test"] == paths[24]["test"]


def test_sizes_beyond_what_is_there_are_refused() -> None:
    with pytest.raises(CollectError, match="from 4 to 16"):
        learning_curve.drawn(rows({"a": 7, "b": 6}), [4, 40], 0)
