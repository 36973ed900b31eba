"""What a recipe would do: tracks, steps, parameters, devices, and how long it would take here."""

from __future__ import annotations

import shutil
import time

import numpy as np
import tensorflow as tf

from kerasrep import constants
from kerasrep.corpora.preview import Preview
from kerasrep.data.batches import Batch
from kerasrep.data.schedule import JOINT
from kerasrep.model.picture import describe_network
from kerasrep.model.start import fill_from_start, freeze, read_start
from kerasrep.model.strategies import Network, Scaler, network_of
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.console import clock
from kerasrep.storage.run_directory import home
from kerasrep.training.devices import Execution, choose_execution
from kerasrep.training.inputs import TrainingData, steps_of_tracks, steps_per_epoch
from kerasrep.training.step import Step
from kerasrep.training.vectors import GroupLayout, GroupState

TIMED_STEPS = 3
BYTES_PER_SAMPLE = 2  # int16


def describe_plan(recipe: Recipe, found: Preview) -> str:
    """Describe a recipe without training it.

    Args:
        recipe: What would be trained.
        found: Its shards and targets, where they exist already; what to expect otherwise.

    Returns:
        Lines for people. The time is measured: a few steps on noise, on the devices in question.

    Raises:
        KerasrepError: Where training would be refused.
    """
    sizes: dict[str, int] = {source: recipe.targets.size_of(source) for source in recipe.sources}
    sizes |= found.sizes
    epoch_steps, n_tracks, disk = None, found.training_tracks, _disk(recipe, found.seconds)
    if found.prepared is not None:
        data = TrainingData.open(recipe, found.prepared, check=False)
        sizes, epoch_steps = data.sizes, steps_per_epoch(recipe, data)
        n_tracks, disk = len(data.train.rows), _size(int(data.index.shard_bytes.sum()))
        tracks = f"{n_tracks} to train on, {len(data.validation.rows)} for validation"
    elif n_tracks is not None:
        epoch_steps = steps_of_tracks(recipe, n_tracks)
        tracks = f"about {n_tracks} to train on (the corpus is not prepared yet)"
    else:
        tracks = "unknown until the corpus is prepared"
    several = recipe.distribution.name == "multi_worker"
    if several:  # nobody waits for a plan: it is measured as if this worker were alone
        alone = recipe.distribution.model_copy(update={"name": "mirrored"})
        recipe = recipe.model_copy(update={"distribution": alone})
    execution = choose_execution(recipe)
    scaler = Scaler.identity(recipe.audio.n_mels)
    network = network_of(recipe, sizes, scaler, execution.precision, execution.replicas)
    if recipe.model.start:
        fill_from_start(network, read_start(recipe))
        freeze(network, recipe.model.freeze)
    seconds = _seconds_per_step(recipe, network, sizes, execution)
    sources = ", ".join(f"{source} ({recipe.kind_of(source)})" for source in recipe.sources)
    lines = [
        f"recipe:  {recipe.name}, strategy {recipe.strategy}, sources {sources}",
        f"tracks:  {tracks}",
        f"shards:  {disk}",
        f"devices: {', '.join(execution.devices)}{' a worker, if it were alone' if several else ''}, "
        f"{execution.precision}, "
        f"XLA {'on' if execution.xla else 'off'}, determinism {'on' if execution.deterministic else 'off'}",
        describe_network(network),
    ]
    if epoch_steps is None:
        lines.append(f"time:    {seconds:.3f} s a step")
    else:
        steps = epoch_steps * recipe.training.epochs
        lines.append(f"steps:   {epoch_steps} an epoch, {steps} in all, {recipe.batches.size} segments each")
        crops = _segments(recipe) * epoch_steps / max(1, n_tracks or 0)
        lines.append(
            f"crops:   {crops:.1f} of {recipe.audio.segment_seconds:g} s per track and epoch, "
            f"{crops * recipe.training.epochs:.0f} in all"
        )
        lines.append(
            f"time:    about {clock(seconds * steps)} in steps ({seconds:.3f} s each, measured), "
            "validation and export not counted"
        )
    return "\n".join(lines)


def _segments(recipe: Recipe) -> float:
    """Segments of a step, on average."""
    pairs = "self" in recipe.sources and recipe.training.schedule == "alternating"
    return recipe.batches.size * (1 + 1 / len(recipe.sources) if pairs else 1)


def _disk(recipe: Recipe, seconds: float | None) -> str:
    """What decoded audio will take on the disk, and what is free there."""
    if seconds is None:
        return "unknown until the corpus is prepared"
    n_bytes = round(seconds * recipe.audio.sample_rate_hz) * constants.N_CHANNELS * BYTES_PER_SAMPLE
    place = home()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = _size(shutil.disk_usage(place).free)
    return f"about {_size(n_bytes)} for {seconds / 3600:.1f} hours of audio in {home()} ({free} free)"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _seconds_per_step(recipe: Recipe, network: Network, sizes: dict[str, int], execution: Execution) -> float:
    """Mean time of a step, over sources as the schedule draws them."""
    states = {
        group: GroupState(group, GroupLayout.of(network, group), execution.distribution)
        for group in network.groups
    }
    size_list = tuple(sizes[source] for source in recipe.sources)
    step = Step(recipe, network, states, size_list, 1, execution.xla)
    if recipe.training.schedule == "joint":
        return _time(recipe, step, JOINT, size_list, execution)
    others = [place for place, source in enumerate(recipe.sources) if source != "self"]
    total = len(others) * (_time(recipe, step, others[0], size_list, execution) if others else 0.0)
    if "self" in recipe.sources:
        total += _time(recipe, step, recipe.sources.index("self"), size_list, execution)
    return total / len(recipe.sources)


def _time(recipe: Recipe, step: Step, source: int, sizes: tuple[int, ...], execution: Execution) -> float:
    batch = _noise(recipe, source, sizes, execution.replicas)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def once() -> None:
        execution.distribution.run(step.run, args=(source, batch))

    once()
    step.totals.take()
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        once()
    step.totals.take()
    return (time.perf_counter() - started) / TIMED_STEPS


def _noise(recipe: Recipe, source: int, sizes: tuple[int, ...], replicas: int) -> Batch:
    examples = recipe.batches.size // replicas
    pairs = [name == "self" for name in recipe.sources]
    segments = examples * (2 if source != JOINT and pairs[source] else 1)
    shape = (segments, recipe.audio.segment_samples, constants.N_CHANNELS)
    noise = np.random.default_rng(0).integers(-3000, 3000, shape, dtype=np.int16)
    counts = [
        0 if source not in (JOINT, place) else examples // 2 if source == JOINT and pairs[place] else examples
        for place in range(len(sizes))
    ]
    return Batch(
        tf.constant(0, tf.int64),
        tf.constant(source, tf.int64),
        tf.constant(0, tf.int64),
        tf.constant(noise),
        tuple(tf.fill((count, size), 1.0 / size) for count, size in zip(counts, sizes, strict=True)),
        tuple(tf.fill((count,), 1.0 / recipe.batches.size) for count in counts),
    )
