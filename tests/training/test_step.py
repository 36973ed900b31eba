import functools
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrep.data.batches import Batch
from kerasrep.data.schedule import JOINT
from kerasrep.model.blocks import BatchNorm
from kerasrep.model.strategies import SHARED, Scaler, network_of
from kerasrep.recipe.augment import AugmentSettings
from kerasrep.recipe.schema import Recipe
from kerasrep.training.step import Step
from kerasrep.training.vectors import PARTS, GroupLayout, GroupState

SIZES = {"self": 2, "tag": 5, "bpm": 5}  # bpm runs on the trace of tag


def make_recipe(strategy="ms-cr@2", **model):
    return Recipe.model_validate(
        {
            "name": "test",
            "strategy": strategy,
            "sources": list(SIZES),
            "batches": {"size": 4},
            "model": {"width": 0.125, "dropout": 0.0, **model},
        }
    )


def make_states(recipe, distribution=None, compiled=False, together=False):
    network = network_of(recipe, SIZES, Scaler.identity(128), compiled=compiled, together=together)
    distribution = distribution or tf.distribute.MirroredStrategy(["CPU:0"])
    states = {g: GroupState(g, GroupLayout.of(network, g), distribution) for g in network.groups}
    return network, states, distribution


def make_batch(source, examples=4, seed=0):
    rng = np.random.default_rng(seed)
    segments = 2 * examples if source == 0 else examples
    targets, weights = [], []
    for place, (name, size) in enumerate(SIZES.items()):
        n = examples if source in (place, JOINT) else 0
        if source == JOINT and name == "self":
            n = examples // 2
        targets.append(tf.constant(rng.dirichlet(np.ones(size), n).reshape(n, size), tf.float32))
        weights.append(tf.fill((n,), 1.0 / max(1, n)))
    waveform = rng.integers(-9000, 9000, (segments, 55_125, 2), dtype=np.int16)
    return Batch(
        tf.constant(0, tf.int64),
        tf.constant(source, tf.int64),
        tf.constant(0, tf.int64),
        tf.constant(waveform),
        tuple(targets),
        tuple(weights),
    )


@functools.cache
def built(recipe_json, compiled=False, together=False):
    """What `make_states` makes, once for all tests, and the vectors of the beginning."""
    network, states, distribution = make_states(
        Recipe.model_validate_json(recipe_json), None, compiled, together
    )
    return network, states, distribution, {group: state.arrays() for group, state in states.items()}


def at_the_beginning(recipe, compiled=False, together=False):
    network, states, distribution, before = built(recipe.model_dump_json(by_alias=True), compiled, together)
    for group, state in states.items():
        state.restore(before[group])
    return network, states, distribution, before


def run_step(recipe, source, batch=None, xla=False, together=False):
    network, states, distribution, before = at_the_beginning(recipe, xla, together)
    step = Step(recipe, network, states, tuple(SIZES.values()), 10, xla)
    batch = make_batch(source) if batch is None else batch
    tf.function(lambda: distribution.run(step.run, args=(source, batch)))()
    after = {group: state.arrays() for group, state in states.items()}
    return network, before, after, Result(*step.totals.take()[0])


class Result(NamedTuple):
    """Sums of one step, which are means where a source was used."""

    loss: np.ndarray
    accuracy: np.ndarray
    used: np.ndarray


@pytest.mark.parametrize("strategy", ["mss-cr", "ms-cr@4", "ms-sr@fc"])
@pytest.mark.parametrize("source", [0, 1])
def test_a_step_changes_the_shared_part_and_its_branch_and_nothing_else(strategy, source):
    network, before, after, _ = run_step(make_recipe(strategy), source)
    active = {SHARED, network.sources[source]}
    for group in network.groups:
        for part in PARTS:
            name = f"{group}.{part}"
            old, new = before[group][name], after[group][name]
            if group in active and len(old):
                assert not np.array_equal(old, new), f"{name} did not move"
            else:
                np.testing.assert_array_equal(old, new, err_msg=name)


def test_a_joint_step_changes_every_group():
    network, before, after, result = run_step(make_recipe("ms-cr@4"), JOINT)
    for group in network.groups:
        assert not np.array_equal(before[group][f"{group}.weights"], after[group][f"{group}.weights"])
    np.testing.assert_allclose(result.used, 1.0, rtol=1e-6)


def test_a_joint_step_spares_the_crops_that_have_a_label_what_the_label_would_not_survive():
    def loss(augment, labelled):
        recipe = make_recipe("ms-sr@fc").model_copy(
            update={"augment": AugmentSettings.model_validate(augment)}
        )
        weights = tf.where(tf.constant(labelled), 0.25, 0.0)
        batch = make_batch(JOINT)
        return run_step(recipe, JOINT, batch._replace(weights=(batch.weights[0], weights, batch.weights[2])))[
            3
        ].loss

    gain = {"gain_db": [-60, -50], "noise": 1.0, "noise_db": [-20, -20]}
    spared = {**gain, "leave_out": {"tag": ["gain", "noise"]}}
    everything, half, nothing = [True] * 4, [True, True, False, False], [False] * 4
    np.testing.assert_allclose(loss(spared, everything), loss({}, everything), rtol=1e-5)
    np.testing.assert_allclose(loss(spared, nothing), loss(gain, nothing), rtol=1e-5)
    assert not np.allclose(loss(gain, everything), loss({}, everything), rtol=1e-3)
    assert not np.allclose(loss(spared, half), loss({}, half), rtol=1e-3)
    assert not np.allclose(loss(spared, half), loss(gain, half), rtol=1e-3)


def test_a_joint_step_leaves_a_branch_alone_whose_source_no_track_has():
    batch = make_batch(JOINT)
    none = (*batch.weights[:2], tf.zeros_like(batch.weights[2]))
    _, before, after, result = run_step(make_recipe("ms-cr@4"), JOINT, batch._replace(weights=none))
    assert float(result.used[2]) == 0
    for part in PARTS:
        np.testing.assert_array_equal(before["bpm"][f"bpm.{part}"], after["bpm"][f"bpm.{part}"])
    assert not np.array_equal(before["tag"]["tag.weights"], after["tag"]["tag.weights"])


def test_a_branch_that_is_rarely_present_counts_its_own_updates():
    """Its first update is Adam's first, of the length of the rate; its average forgets the random start."""
    values = make_recipe("ms-cr@2").model_dump(by_alias=True)
    training = {**values["training"], "schedule": "joint", "average": 0.999, "learning_rate": 1e-3}
    recipe = Recipe.model_validate({**values, "training": training, "model": {"width": 0.125, "l2": 0.0}})
    network = network_of(recipe, SIZES, Scaler.identity(128))
    distribution = tf.distribute.MirroredStrategy(["CPU:0"])
    states = {
        group: GroupState(group, GroupLayout.of(network, group), distribution, True, group == "tag")
        for group in network.groups
    }
    step = Step(recipe, network, states, tuple(SIZES.values()), 10_000, False)
    before = states["tag"].arrays()
    full = make_batch(JOINT)._replace(step=tf.constant(5000, tf.int64))
    self_weight, tag_weight, bpm_weight = full.weights
    absent = full._replace(weights=(self_weight, tf.zeros_like(tag_weight), bpm_weight))
    run = tf.function(lambda batch: distribution.run(step.run, args=(JOINT, batch)))
    run(absent)
    assert states["tag"].arrays()["tag.updates"] == 0
    run(full)
    after = states["tag"].arrays()
    assert after["tag.updates"] == 1
    moved = after["tag.weights"] - before["tag.weights"]
    assert np.abs(moved).max() == pytest.approx(1e-3, rel=1e-3)
    expected = before["tag.weights"] / 11 + after["tag.weights"] * 10 / 11
    np.testing.assert_allclose(after["tag.average_weights"], expected, atol=1e-6)


@pytest.mark.parametrize("source", [1, JOINT])
def test_a_step_in_which_no_crop_has_a_label_moves_nothing(source):
    tables = {"tag": {"path": "tag.csv", "target": "classes"}, "bpm": {"path": "bpm.csv", "target": "number"}}
    values = make_recipe("ms-cr@4").as_dict() | {"corpus": {"name": "folder", "root": ".", "tables": tables}}
    batch = make_batch(source)
    batch = batch._replace(weights=tuple(tf.zeros_like(weight) for weight in batch.weights))
    _, before, after, _ = run_step(Recipe.model_validate(values), source, batch)
    for group, vectors in before.items():
        for name, value in vectors.items():
            np.testing.assert_array_equal(value, after[group][name], err_msg=name)


@pytest.mark.parametrize("name", ["tag", "bpm"])
def test_the_gradient_is_that_of_the_loss_with_l2_inside(name):
    recipe, source = make_recipe("mss-cr", l2=0.01), list(SIZES).index(name)
    batch = make_batch(source)
    network, states, distribution = make_states(recipe)
    step = Step(recipe, network, states, tuple(SIZES.values()), 10, False)
    before = states[name].arrays()
    run = tf.function(lambda place, examples: distribution.run(step.run, args=(place, examples)))
    run(1, make_batch(1))  # a trace that bpm shares
    states[name].restore(before)
    step.totals.take()
    run(source, batch)
    result = Result(*step.totals.take()[0])
    after = states[name].arrays()
    layout = GroupLayout.of(network, name)
    layout.weights.set(before[f"{name}.weights"])
    layout.statistics.set(before[f"{name}.statistics"])
    with tf.GradientTape() as tape:
        mel = network.features(tf.cast(batch.waveform, tf.float32) / 32768.0)
        logits = network.logits(name, mel, training=True)
        loss = tf.reduce_mean(keras.losses.kl_divergence(batch.targets[source], tf.nn.softmax(logits)))
    gradient = layout.weights.join(tape.gradient(loss, [v.value for v in layout.weights.variables])).numpy()
    expected = 0.1 * (gradient + 0.01 * before[f"{name}.weights"])  # first moment after one step
    assert float(result.loss[source]) == pytest.approx(float(loss), rel=1e-4)
    np.testing.assert_allclose(after[f"{name}.first_moment"], expected, atol=2e-6)
    np.testing.assert_allclose(after[f"{name}.statistics"], layout.statistics.get(), rtol=1e-4, atol=1e-5)


@pytest.fixture
def no_determinism():
    """XLA refuses max pooling's gradient under the determinism that an earlier test may have turned on."""
    from tensorflow.python.framework import config

    before = config.is_op_determinism_enabled()
    config.disable_op_determinism()
    yield
    if before:
        config.enable_op_determinism()


@pytest.mark.usefixtures("no_determinism")
@pytest.mark.parametrize("strategy", ["mss-cr", "ms-cr@2", "ms-cr@6"])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_branches_that_run_together_make_the_same_joint_step(strategy, compiled):
    recipe = make_recipe(strategy)
    _, _, apart, losses = run_step(recipe, JOINT, xla=compiled)
    _, _, together, found = run_step(recipe, JOINT, xla=compiled, together=True)
    np.testing.assert_allclose(found.loss, losses.loss, rtol=1e-4)
    for group, values in apart.items():
        for part, bound in (("first_moment", 5e-3), ("statistics", 1e-5)):
            name = f"{group}.{part}"
            scale = np.abs(values[name]).max(initial=1e-12)
            np.testing.assert_allclose(together[group][name] / scale, values[name] / scale, atol=bound)


@pytest.mark.usefixtures("no_determinism")
def test_a_compiled_step_gives_the_same_numbers():
    recipe = make_recipe("ms-cr@2")
    _, _, plain, result = run_step(recipe, 1)
    _, _, compiled, compiled_result = run_step(recipe, 1, xla=True)
    np.testing.assert_allclose(compiled_result.loss, result.loss, rtol=1e-4)
    for group in (SHARED, "tag"):
        found, expected = (values[group][f"{group}.first_moment"] for values in (compiled, plain))
        np.testing.assert_allclose(found, expected, atol=3e-4 * np.abs(expected).max())


def test_dropout_depends_on_the_step_and_on_nothing_else():
    recipe = make_recipe("mss-cr", dropout=0.5)
    batch = make_batch(1)
    losses = [
        float(run_step(recipe, 1, batch._replace(step=tf.constant(step, tf.int64)))[3].loss[1])
        for step in (4, 4, 5)
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_fifty_steps_lose_what_a_plain_keras_loop_loses(compiled):
    recipe, source = make_recipe("mss-cr", l2=1e-3), 1
    batches = [make_batch(source, seed=seed) for seed in range(5)]
    network, states, distribution = make_states(recipe, compiled=compiled)
    step = Step(recipe, network, states, tuple(SIZES.values()), 50, False)
    run = tf.function(lambda batch: distribution.run(step.run, args=(source, batch)))
    twin = network_of(recipe, SIZES, Scaler.identity(128))
    norms = [layer for layer in twin.encoders["tag"].layers if isinstance(layer, BatchNorm)]
    assert len(norms) == 8
    for norm in norms:
        norm.fused = False
    weights = [v for v in twin.variables("tag") if v.trainable]
    optimizer = keras.optimizers.Adam(recipe.training.learning_rate, epsilon=1e-8)
    optimizer.build(weights)

    @tf.function
    def plain(batch):
        with tf.GradientTape() as tape:
            mel = twin.features(tf.cast(batch.waveform, tf.float32) / 32768.0)
            logits = twin.logits("tag", mel, training=True)
            loss = tf.reduce_mean(keras.losses.kl_divergence(batch.targets[source], tf.nn.softmax(logits)))
        slopes = tape.gradient(loss, [v.value for v in weights])
        optimizer.apply([s + recipe.model.l2 * v for s, v in zip(slopes, weights, strict=True)], weights)
        return loss

    found, expected = [], []
    for number in range(50):
        count = tf.constant(number, tf.int64)
        batch = batches[number % 5]._replace(step=count, uses=count)
        run(batch)
        found.append(step.totals.take()[0][0, source])
        expected.append(float(plain(batch)))
    assert expected[-1] < 0.9 * expected[0]
    # Rounding grows from step to step: a maximum that moves in a pooling layer sends its gradient elsewhere.
    np.testing.assert_allclose(found[:10], expected[:10], rtol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("source", [1, JOINT])
@pytest.mark.parametrize("group", [SHARED, "tag"])
def test_a_weight_that_is_not_finite_makes_the_loss_nan_whatever_kernels_make_of_it(source, group):
    recipe = make_recipe(
        width=1.0
    )  # as many filters as oneDNN fuses batch norm and ReLU for, which hides NaN
    network, states, distribution, _ = at_the_beginning(recipe)
    arrays = states[group].arrays()
    arrays[f"{group}.weights"][5] = np.nan
    states[group].restore(arrays)
    step = Step(recipe, network, states, tuple(SIZES.values()), 10, xla=False)
    tf.function(lambda: distribution.run(step.run, args=(source, make_batch(source))))()
    sound = {1: [True, False, True], JOINT: [group == "tag", False, group == "tag"]}
    sums, fault = step.totals.take()
    np.testing.assert_array_equal(np.isfinite(sums[0]), sound[source])
    assert fault == (0, tuple(np.flatnonzero(~np.asarray(sound[source]))))
    assert step.totals.take()[1] is None, "taken once"
