"""Devices, precision and compilation: what `auto` means on this machine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import lru_cache

import tensorflow as tf

from kerasrep.errors import RecipeError, RunError
from kerasrep.recipe import Recipe

STEPS_PER_CALL_CPU, STEPS_PER_CALL_GPU = 4, 50
BFLOAT16_CAPABILITY = (8, 0)  # Ampere


@dataclass(frozen=True)
class Execution:
    """How a recipe runs on this machine.

    Attributes:
        distribution: Over all devices in use.
        devices: Their names.
        precision: Keras dtype policy of the trunk.
        xla: Whether steps are compiled.
        deterministic: Whether TensorFlow's determinism is on.
        steps_per_call: Steps in one call into TensorFlow.
    """

    distribution: tf.distribute.MirroredStrategy
    devices: tuple[str, ...]
    precision: str
    xla: bool
    deterministic: bool
    steps_per_call: int

    @property
    def replicas(self) -> int:
        """Parts that a batch is divided into."""
        return int(self.distribution.num_replicas_in_sync)

    def as_dict(self) -> dict[str, object]:
        """Plain values for the card."""
        return {
            "devices": list(self.devices),
            "precision": self.precision,
            "xla": self.xla,
            "deterministic": self.deterministic,
            "steps_per_call": self.steps_per_call,
        }


def choose_execution(recipe: Recipe) -> Execution:
    """Choose devices and settle every `auto` of the recipe.

    Raises:
        RecipeError: Where there are too few devices, or they cannot share the batch.
        RunError: Where logical CPU devices are asked for after TensorFlow has started.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Too late where TensorFlow has started already; then whoever started it has chosen.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    devices = _devices(recipe, len(gpus))
    try:
        recipe.check_replicas(len(devices))
    except ValueError as error:
        raise RecipeError(f"recipe '{recipe.name}': {error}") from error
    training = recipe.training
    xla = bool(gpus) if training.xla == "auto" else training.xla
    if xla and training.deterministic is True:
        raise RecipeError(
            "training.deterministic: true cannot be compiled, max pooling has no deterministic gradient in "
            "XLA; set training.xla=false"
        )
    deterministic = not xla if training.deterministic == "auto" else training.deterministic
    if xla and recipe.distribution.batch_norm == "synchronised" and len(devices) > 1:
        if training.xla is True:
            raise RecipeError(
                "training.xla: true cannot be compiled with distribution.batch_norm 'synchronised'; "
                "use 'averaged' or training.xla=false"
            )
        xla = False
    if deterministic:
        tf.keras.utils.set_random_seed(recipe.seed)
        tf.config.experimental.enable_op_determinism()
    calls = STEPS_PER_CALL_GPU if gpus else STEPS_PER_CALL_CPU
    return Execution(
        distribution=_mirrored(tuple(devices)),
        devices=tuple(devices),
        precision=_precision(recipe, gpus),
        xla=xla,
        deterministic=deterministic,
        steps_per_call=calls if training.steps_per_call == "auto" else training.steps_per_call,
    )


@lru_cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One strategy a process: a second one over the same devices would reuse the keys of its collectives."""
    return tf.distribute.MirroredStrategy(devices)


def _devices(recipe: Recipe, n_gpus: int) -> list[str]:
    wanted = recipe.distribution.devices
    if n_gpus:
        count = n_gpus if wanted == "auto" else wanted
        if count > n_gpus:
            raise RecipeError(f"distribution.devices: {count} wanted, but {n_gpus} GPUs are visible")
        return [f"GPU:{number}" for number in range(count)]
    count = 1 if wanted == "auto" else wanted
    if count > 1:
        _make_logical_cpus(count)
    return [f"CPU:{number}" for number in range(count)]


def _make_logical_cpus(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    made = tf.config.get_logical_device_configuration(cpu)
    if made is not None and len(made) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise RunError(
            f"distribution.devices: {count} logical CPU devices must be made before TensorFlow starts; "
            "run the recipe in a process of its own"
        ) from error


def _precision(recipe: Recipe, gpus: list[tf.config.PhysicalDevice]) -> str:
    if recipe.training.precision != "auto":
        return recipe.training.precision
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
    ]
    fast = bool(capabilities) and all(capability >= BFLOAT16_CAPABILITY for capability in capabilities)
    return "mixed_bfloat16" if fast else "float32"
