"""Tasks that ask how often what lies nearest has the same label."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from kerasrep.errors import DataError
from kerasrep.evaluation import neighbours
from kerasrep.evaluation.base import LabelledData
from kerasrep.evaluation.neighbours import evaluate_neighbours
from kerasrep.evaluation.readers.split_list import read_split_list


def items(labels, groups=None):
    ids = tuple(f"item{number}" for number in range(len(labels)))
    grouped = None if groups is None else np.array(groups)
    return LabelledData(ids, tuple(map(str, ids)), np.array(labels), groups=grouped)


def brute_force(vectors, labels, groups):
    """First neighbour right, and share of the first five, item by item."""
    scaled = StandardScaler().fit_transform(vectors.astype(np.float64))
    first, five = [], []
    for i, vector in enumerate(scaled):
        others = [j for j in range(len(scaled)) if groups[j] != groups[i]]
        if not any(labels[j] == labels[i] for j in others):
            continue
        cosines = [vector @ scaled[j] / np.linalg.norm(vector) / np.linalg.norm(scaled[j]) for j in others]
        ranked = [others[k] for k in np.argsort(cosines)[::-1][:5]]
        first.append(labels[ranked[0]] == labels[i])
        five.append(np.mean([labels[j] == labels[i] for j in ranked]))
    return np.mean(first), np.mean(five), len(first)


@pytest.mark.parametrize("chunk", [7, 512])
def test_shares_are_those_of_a_search_item_by_item(chunk, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK_ITEMS", chunk)
    rng = np.random.default_rng(0)
    labels = [*rng.choice(list("abcdef"), 60).tolist(), "alone"]
    groups = [f"g{number // 2}" for number in range(61)]
    centres = {label: rng.normal(0, 1, 8) for label in set(labels)}
    vectors = np.stack([centres[label] for label in labels]) + rng.normal(0, 1.2, (61, 8))
    vectors = (vectors * np.logspace(-2, 2, 8) + 50).astype(np.float32)  # scales and offsets do not matter
    found, chance = evaluate_neighbours(items(labels, groups), vectors)
    first, five, asked = brute_force(vectors, labels, groups)
    scores = {score.metric: score.value for score in found.scores}
    assert scores == pytest.approx({"first_neighbour": first, "first_five": five})
    assert 0.3 < first < 1 and found.mean == scores["first_neighbour"]
    assert (len(found.unit_ids), found.details) == (asked, {"asked": asked, "not_asked": 61 - asked})
    assert found.low < found.mean < found.high
    assert (found.unit_scores == (found.truths == found.predictions)).all()
    assert chance.probe == "chance" and chance.mean < first
    assert "item60" not in found.unit_ids


def test_what_is_drawn_at_random_is_right_by_the_share_of_the_label():
    data = items(list("aabbb"), ["x", "x", "y", "z", "w"])  # a: both in one group; b: 2 of the 4 others
    _, chance = evaluate_neighbours(data, np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    assert chance.mean == pytest.approx(0.5) and len(chance.unit_ids) == 3


def test_permuted_labels_end_at_chance():
    labels = np.repeat(list("abcdefgh"), 40)
    vectors = np.eye(8, dtype=np.float32)[np.repeat(np.arange(8), 40)]
    vectors = vectors + np.random.default_rng(0).normal(0, 0.1, vectors.shape).astype(np.float32)
    right, _ = evaluate_neighbours(items(labels), vectors)
    shuffled, chance = evaluate_neighbours(items(labels), vectors, shuffle_labels=True)
    assert right.mean > 0.95 and abs(shuffled.mean - chance.mean) < 0.08


def test_labels_that_stay_within_their_groups_are_refused():
    with pytest.raises(DataError, match="no item has its label in common"):
        evaluate_neighbours(items(list("aabb"), list("xxyy")), np.eye(4, dtype=np.float32))


def test_a_table_may_have_classes_of_a_single_group(tmp_path):
    table = tmp_path / "artists.csv"
    table.write_text("path,label,group\na.wav,x,1\nb.wav,x,2\nc.wav,y,3\n")
    assert read_split_list(table, tmp_path, "neighbours").labels.tolist() == ["x", "x", "y"]
    with pytest.raises(DataError, match="in one group only"):
        read_split_list(table, tmp_path, "classification")
