"""Devices, precision and compilation: what `auto` means on this machine."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from functools import lru_cache

import tensorflow as tf

from kerasrep.errors import RecipeError, RunError
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.child_process import check_not_forked
from kerasrep.training.cluster import read_cluster
from kerasrep.training.workers import Workers, join_workers

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
        together: Whether branches of the joint schedule run together: on a GPU, where it is faster.
        steps_per_call: Steps between two looks at their losses.
        rows: Whether the host may start several steps at once: where GPUs of one process add up gradients.
        workers: The processes that train together.
    """

    distribution: tf.distribute.Strategy
    devices: tuple[str, ...]
    precision: str
    xla: bool
    deterministic: bool
    together: bool
    steps_per_call: int
    rows: bool = False
    workers: Workers = field(default_factory=Workers)

    @property
    def own_replicas(self) -> range:
        """Numbers of the replicas of this process, among all."""
        count = self.replicas // self.workers.size
        return range(self.workers.rank * count, (self.workers.rank + 1) * count)

    @property
    def plain(self) -> bool:
        """Whether the network that is trained is made of ordinary layers, in float32, for one device."""
        return self.precision == "float32" and not self.xla and self.replicas == 1

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
            "branches_together": self.together,
            "steps_per_call": self.steps_per_call,
            "workers": self.workers.size,
            "replicas": self.replicas,
        }


def choose_execution(recipe: Recipe) -> Execution:
    """Choose devices and settle every `auto` of the recipe.

    Raises:
        RecipeError: Where there are too few devices, or they cannot share the batch.
        RunError: Where logical CPU devices are asked for after TensorFlow has started, or this process was
            forked from one in which it had.
    """
    check_not_forked()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:  # threads of their own launch the steps, so that none waits for those that read
        os.environ.setdefault("TF_GPU_THREAD_MODE", "gpu_private")
    for gpu in gpus:
        # Too late where TensorFlow has started already; then whoever started it has chosen.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    several = recipe.distribution.name == "multi_worker"
    devices = _worker_devices(recipe, gpus) if several else _devices(recipe, len(gpus))
    size = read_cluster().size if several else 1
    replicas = size * len(devices)
    try:
        recipe.check_replicas(replicas)
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
    waits = _waits(recipe)
    if xla and waits and replicas > 1:
        if training.xla is True:
            raise RecipeError(
                f"training.xla: true cannot be compiled with {waits} on several replicas; change either"
            )
        xla = False
    if deterministic:
        tf.keras.utils.set_random_seed(recipe.seed)
        tf.config.experimental.enable_op_determinism()
    workers, distribution = Workers(), None
    if several:
        workers, distribution = join_workers(recipe.distribution.connect_seconds)
        devices = _all_devices(workers, devices)
    calls = STEPS_PER_CALL_GPU if gpus else STEPS_PER_CALL_CPU
    return Execution(
        distribution=distribution or _mirrored(tuple(devices)),
        devices=tuple(devices),
        precision=_precision(recipe, gpus),
        xla=xla,
        deterministic=deterministic,
        together=xla and bool(gpus) and training.schedule == "joint",
        rows=xla and bool(gpus) and replicas > 1 and not several,
        steps_per_call=calls if training.steps_per_call == "auto" else training.steps_per_call,
        workers=workers,
    )


def _waits(recipe: Recipe) -> str | None:
    """What lets replicas wait for each other in the middle of a step, if anything."""
    if recipe.distribution.batch_norm == "synchronised":
        return "distribution.batch_norm 'synchronised'"
    everywhere = recipe.contrast.negatives == "all" and recipe.kind_of("self") == "contrast"
    return "contrast.negatives 'all'" if everywhere and "self" in recipe.sources else None


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


def _worker_devices(recipe: Recipe, gpus: list[tf.config.PhysicalDevice]) -> list[str]:
    """This worker's devices: the first GPUs, or the CPU, which TensorFlow does not divide here."""
    wanted = recipe.distribution.devices
    if not gpus:
        if wanted not in ("auto", 1):
            raise RecipeError(
                f"distribution.devices: {wanted} wanted, but a worker without a GPU has one device; start "
                "more workers instead"
            )
        return ["CPU:0"]
    devices = _devices(recipe, len(gpus))
    with contextlib.suppress(RuntimeError):  # TensorFlow has started: they were chosen before
        tf.config.set_visible_devices(gpus[: len(devices)], "GPU")
    return devices


def _all_devices(workers: Workers, devices: list[str]) -> list[str]:
    """Devices of all workers, which must have equally many."""
    found = workers.exchange("devices", devices)
    for rank, theirs in enumerate(found):
        if len(theirs) != len(found[0]):
            raise RunError(
                f"worker {rank} has {', '.join(theirs)}, the chief {', '.join(found[0])}; set "
                "distribution.devices to what all of them have"
            )
    return [f"worker:{rank}/{device}" for rank, theirs in enumerate(found) for device in theirs]


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
