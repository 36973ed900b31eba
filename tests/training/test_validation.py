from dataclasses import replace

import numpy as np
import pytest

from kerasrep.api import prepare
from kerasrep.data.batches import SplitExamples
from kerasrep.data.crops import read_crops
from kerasrep.data.schedule import Examples, Schedule, self_examples
from kerasrep.errors import DataError
from kerasrep.model.strategies import Scaler, network_of
from kerasrep.recipe.schema import Recipe
from kerasrep.sources.stretches import Stretches
from kerasrep.training.inputs import TrainingData, balanced
from kerasrep.training.network import fit_scaler
from kerasrep.training.validation import Validator, mean_target_scores
from kerasrep.training.vectors import GroupLayout, GroupState


def test_the_mean_target_scores_its_own_divergence():
    rng = np.random.default_rng(0)
    train, held = rng.dirichlet(np.ones(4), 9), rng.dirichlet(np.ones(4), 5)
    held[0] = [0, 0, 1, 0]

    def split(target):
        rows = np.arange(len(target))
        by_source = {"self": self_examples(rows), "tag": Examples(rows, target.astype(np.float32))}
        return SplitExamples(rows, by_source)

    scores = mean_target_scores(split(train), split(held), np.full(9, 99_999))
    mean = train.mean(0)
    terms = [sum(t * np.log(t / m) for t, m in zip(row, mean, strict=True) if t > 0) for row in held]
    assert scores["tag"].loss == pytest.approx(np.mean(terms), rel=1e-5)
    assert scores["tag"].accuracy == np.mean(held.argmax(1) == mean.argmax())
    assert scores["self"][:2] == (pytest.approx(np.log(2)), 0.5)


def test_balanced_classes_count_alike_in_training_and_in_the_baseline():
    classes = np.array([0] * 6 + [1] * 2 + [2])
    first = np.arange(len(classes) + 1)
    stretches = Stretches("classes", 3, first, classes.astype(np.int32))
    examples = Examples(
        np.arange(9), np.zeros((0, 3), np.float32), np.arange(9, dtype=np.int32), "classes", stretches
    )
    weights = balanced(examples)
    np.testing.assert_allclose(weights * [6, 2, 1], 3)  # scikit-learn: n / (classes * count)
    weighted = SplitExamples(np.arange(9), {"mood": replace(examples, class_weights=weights)})
    found = mean_target_scores(weighted, weighted, np.full(9, 99_999))["mood"]
    np.testing.assert_allclose(found.prediction, 1 / 3)
    assert found.loss == pytest.approx(np.log(3)) and found.accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("strategy", ["mss-cr", "ms-sr@fc"])
def test_validation_equals_a_plain_loop_over_tracks(strategy, tone_recipe, prepared_tones):
    import tensorflow as tf

    recipe = tone_recipe(strategy)
    data = TrainingData.open(recipe, prepared_tones)
    network = network_of(recipe, data.sizes, Scaler.identity(128))
    distribution = tf.distribute.MirroredStrategy(["CPU:0"])
    states = {g: GroupState(g, GroupLayout.of(network, g), distribution) for g in network.groups}
    validator = Validator(recipe, network, states, data.validation, data.index)
    found = validator()
    assert validator() == found  # from the cache
    segment = recipe.audio.segment_samples
    rows = data.validation.rows
    room = data.index.samples[rows] - segment
    embeddings = []
    for place in (1 / 3, 2 / 3):
        crops = read_crops(data.index, rows, (place * room).astype(np.int64), segment) / np.float32(32768)
        embeddings.append(network.trunk(network.features(crops.astype(np.float32))))
    branch = {"ms-sr@fc": "shared"}.get(strategy, "tag")
    tag = data.validation.by_source["tag"]
    assert tag.rows.tolist() == rows.tolist()
    target = tag.targets(np.arange(len(rows)))[0]
    losses = []
    for embedding in embeddings:
        q = tf.nn.softmax(network.heads["tag"](embedding[branch])).numpy()
        losses.append((target * (np.log(np.maximum(target, 1e-30)) - np.log(q))).sum(1))
    assert found["tag"].loss == pytest.approx(np.mean(losses), rel=1e-4)
    left, right = (e[{"ms-sr@fc": "shared"}.get(strategy, "self")].numpy() for e in embeddings)
    pairs = np.concatenate([np.hstack([left, right]), np.hstack([left, np.roll(right, -1, axis=0)])])
    logs = tf.nn.log_softmax(network.heads["self"](pairs)).numpy()
    expected = -np.concatenate([logs[: len(rows), 1], logs[len(rows) :, 0]]).mean()
    assert found["self"].loss == pytest.approx(expected, rel=1e-4)


def test_the_scaler_standardises_the_training_set(tone_recipe, prepared_tones):
    recipe = tone_recipe()
    data = TrainingData.open(recipe, prepared_tones)
    scaler = fit_scaler(recipe, data.index, data.train.rows)
    again = fit_scaler(recipe, data.index, data.train.rows)
    np.testing.assert_array_equal(scaler.mean, again.mean)
    network = network_of(recipe, data.sizes, scaler)
    rng = np.random.default_rng(5)
    rows = np.repeat(data.train.rows, 2)
    starts = rng.integers(data.index.samples[rows] - recipe.audio.segment_samples, endpoint=True)
    crops = read_crops(data.index, rows, starts, recipe.audio.segment_samples).astype(np.float32) / 32768
    mel = network.features(crops).numpy()
    assert np.abs(mel.mean((0, 1, 3))).max() < 0.15
    np.testing.assert_allclose(mel.std((0, 1, 3)), 1.0, atol=0.15)


def test_tracks_of_a_group_are_no_candidates_where_the_recipe_ignores_them(tone_values, tmp_path):
    groups = "".join(f"t{number:02d}.wav,{'one' if number < 30 else number}\n" for number in range(40))
    (tmp_path / "groups.csv").write_text("track,group\n" + groups)
    values = tone_values(
        corpus={"groups": str(tmp_path / "groups.csv"), "validation_fraction": 0.4},
        sources=["self", "tag"],
        targets={"kinds": {"self": "contrast"}},
        contrast={"same_group": "ignored"},
    )
    recipe = Recipe.model_validate(values)
    data = TrainingData.open(recipe, prepare(recipe, progress=False))
    examples = data.train.by_source["self"]
    assert len(np.unique(examples.groups)) == 11
    schedule = Schedule(recipe, data.train.by_source, data.index.samples, 20)
    plan = schedule.plan(int(np.flatnonzero(schedule.source_of_step == 0)[0]), 0)
    names = data.index.track_ids[plan.targets[0][:, 0].astype(int)]
    of_one = np.array([int(name[1:3]) < 30 for name in names])
    numbers = plan.targets[0][:, 1]
    assert len(np.unique(numbers[of_one])) == 1 and len(np.unique(numbers)) == 1 + len(set(names[~of_one]))


def test_contrast_without_a_second_group_is_refused(tone_values, tmp_path):
    groups = "".join(f"t{number:02d}.wav,{'one' if number < 36 else 'two'}\n" for number in range(40))
    (tmp_path / "groups.csv").write_text("track,group\n" + groups)
    values = tone_values(
        corpus={"groups": str(tmp_path / "groups.csv")},
        sources=["self", "tag"],
        targets={"kinds": {"self": "contrast"}},
        contrast={"same_group": "ignored"},
    )
    recipe = Recipe.model_validate(values)
    prepared = prepare(recipe, progress=False)
    with pytest.raises(DataError, match=r"contrast\.same_group: all training tracks are of one group"):
        TrainingData.open(recipe, prepared)
