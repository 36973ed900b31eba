import pytest
import tensorflow as tf

from kerasrep.errors import RecipeError
from kerasrep.training.devices import choose_execution

on_cpu = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="says what a CPU does")


@on_cpu
def test_auto_on_a_cpu_is_plain_float32_and_deterministic(tiny_recipe):
    execution = choose_execution(tiny_recipe())
    assert (execution.devices, execution.precision) == (("CPU:0",), "float32")
    assert (execution.xla, execution.deterministic) == (False, True)


@on_cpu
def test_compiling_turns_determinism_off_unless_both_are_asked_for(tiny_recipe):
    assert choose_execution(tiny_recipe(training={"xla": True})).deterministic is False
    with pytest.raises(RecipeError, match=r"training\.deterministic: true cannot be compiled"):
        choose_execution(tiny_recipe(training={"xla": True, "deterministic": True}))


@on_cpu
def test_a_strategy_is_made_once_a_process(tiny_recipe):
    first, second = (choose_execution(tiny_recipe(distribution={"devices": 2})) for _ in range(2))
    assert first.replicas == 2
    assert first.distribution is second.distribution


def test_replicas_that_cannot_share_the_batch_are_refused(tiny_recipe):
    with pytest.raises((RecipeError, ValueError), match="cannot be divided among 3 replicas"):
        choose_execution(tiny_recipe(distribution={"devices": 3}))


@on_cpu
def test_on_a_cpu_the_host_starts_steps_one_by_one(tiny_recipe):
    assert choose_execution(tiny_recipe(distribution={"devices": 2})).rows is False
