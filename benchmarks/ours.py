"""kerasrep's own side of the contests: the same steps, loop and input pipeline that `kerasrep-train` uses."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasrep import constants
from kerasrep.data.batches import MAX_THREADS, Batch, SplitExamples, TrainingBatches, reader, training_dataset
from kerasrep.data.schedule import JOINT, Examples, Schedule, self_examples
from kerasrep.data.shards import FRAME_BYTES, FULL_SCALE, ShardIndex, save_index
from kerasrep.model.folding import fold_batch_norm
from kerasrep.model.strategies import Scaler, network_of
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.threads import core_count
from kerasrep.sources.stretches import Stretches, Times
from kerasrep.sources.target_files import save_targets
from kerasrep.sources.targets import SourceTargets, TargetSet
from kerasrep.storage.run_directory import PreparedDirectory
from kerasrep.training.devices import Execution, choose_execution
from kerasrep.training.inputs import TrainingData, steps_per_epoch
from kerasrep.training.loop import MultiStep
from kerasrep.training.step import Step
from kerasrep.training.validation import mean_target_scores
from kerasrep.training.vectors import GroupLayout, GroupState

SCALER = Scaler(np.full(128, -30, np.float32), np.full(128, 15, np.float32))
#: Of the training that a measurement is a part of.
N_STEPS = 1_000_000
#: Files and tracks of the made-up corpus; 30 s a track, as the Million Song previews.
N_TRACKS, TRACK_SECONDS, TRACKS_A_SHARD = 1024, 30, 64


def recipe_of(options: Mapping[str, Any]) -> Recipe:
    """The recipe that the options describe; `batch` is a replica's."""
    sources = tuple(options.get("sources", ("tag",)))
    devices = int(options.get("devices", 1))
    training = {
        key: options[key]
        for key in ("precision", "xla", "deterministic", "schedule", "steps_per_call")
        if key in options
    }
    values = {
        "name": "benchmark",
        "strategy": options.get("strategy", "ss-r"),
        "sources": sources,
        "batches": {"size": devices * int(options["batch"])},
        "training": training,
        "distribution": {"devices": devices},
        "model": {"trunk": options.get("trunk", "published")},
        "augment": options.get("augment", {}),
        "targets": {"kinds": {"self": options.get("self", "same")}},
    }
    if options.get("timed"):
        timed = {"path": "tag.tsv", "start": "start", "end": "end", "target": "labels"}
        values["corpus"] = {"name": "folder", "root": ".", "tables": {"tag": timed}}
    return Recipe.model_validate(values)


def build(options: Mapping[str, Any]) -> tuple[Callable[[Any], MultiStep], Execution]:
    """Everything that makes steps, once it has batches.

    Args:
        options: See `recipe_of`; `mels`: batches hold ready mels in the place of waveforms; `together`:
            branches of the joint schedule run together, as on GPUs by default.
    """
    recipe, mels = recipe_of(options), bool(options.get("mels"))
    execution = choose_execution(recipe)
    sizes = {s: constants.SELF_CLASSES if s == "self" else constants.TARGET_SIZE for s in recipe.sources}
    network = network_of(
        recipe,
        sizes,
        SCALER,
        execution.precision,
        execution.replicas,
        execution.xla,
        options.get("together", execution.together),
    )
    if mels:  # undoes the scale of int16
        network = dataclasses.replace(network, features=lambda mel: mel * FULL_SCALE)
    states = {g: GroupState(g, GroupLayout.of(network, g), execution.distribution) for g in network.groups}
    step = Step(recipe, network, states, list(sizes.values()), N_STEPS, execution.xla)
    return partial(MultiStep, step, execution, n_steps=N_STEPS), execution


class Constant:
    """The same batch, which lies on the devices, again and again."""

    def __init__(self, batch: Batch, distribution: tf.distribute.Strategy) -> None:
        self._batches = []
        for device in distribution.extended.worker_devices:
            with tf.device(device):  # not all on the first
                self._batches.append(tf.nest.map_structure(tf.identity, batch))

    def local(self) -> Batch:
        """The batch of the present replica."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return self._batches[int(tf.get_static_value(replica))]  # type: ignore[no-any-return]


def constant_batch(recipe: Recipe, replicas: int, mels: bool) -> Batch:
    """A batch of the first source (of all in the joint schedule) on random audio."""
    rng = np.random.default_rng(0)
    size = recipe.batches.size // replicas
    joint = recipe.training.schedule == "joint"
    targets, weights = [], []
    for place, source in enumerate(recipe.sources):
        n = (size // 2 if source == "self" else size) if joint or place == 0 else 0
        classes = constants.SELF_CLASSES if source == "self" else constants.TARGET_SIZE
        targets.append(tf.constant(rng.dirichlet(np.ones(classes), n).reshape(n, classes), tf.float32))
        weights.append(tf.fill((n,), 1.0 / max(1, n) / replicas))
    if mels:
        audio = rng.normal(size=(size, constants.SEGMENT_FRAMES, 128, 2)).astype(np.float32)
    else:
        audio = rng.integers(-9000, 9000, (size, constants.SEGMENT_SAMPLES, 2), dtype=np.int16)
    zero, source = tf.constant(0, tf.int64), tf.constant(JOINT if joint else 0, tf.int64)
    return Batch(zero, source, zero, tf.constant(audio), tuple(targets), tuple(weights))


def _timed(make: MultiStep, sources: Iterator[int], steps_per_call: int) -> Callable[[int], float]:
    def measure(steps: int) -> float:
        started = time.perf_counter()
        left = steps
        while left:
            n = min(left, steps_per_call)
            make(list(itertools.islice(sources, n)))
            left -= n
        return time.perf_counter() - started

    return measure


def trainer(options: Mapping[str, Any]) -> Callable[[int], float]:
    """Steps on a constant batch; `mels` says that it holds ready mels."""
    make, execution = build(options)
    batch = constant_batch(recipe_of(options), execution.replicas, bool(options.get("mels")))
    source = itertools.repeat(int(batch.source))
    return _timed(make(Constant(batch, execution.distribution)), source, execution.steps_per_call)


def made_up_corpus(root: Path, n_tracks: int = N_TRACKS) -> ShardIndex:
    """Shards of noise with their index; written once."""
    root.mkdir(parents=True, exist_ok=True)
    samples = TRACK_SECONDS * constants.SAMPLE_RATE_HZ
    n_shards = -(-n_tracks // TRACKS_A_SHARD)
    rng = np.random.default_rng(0)
    size = TRACKS_A_SHARD * samples * FRAME_BYTES
    for number in range(n_shards):
        path = root / f"{number}.tfrecord"
        if not path.is_file() or path.stat().st_size != size:
            noise = rng.integers(-9000, 9000, size // 2, dtype=np.int16)
            path.write_bytes(noise.tobytes())
    rows = np.arange(n_tracks)
    return ShardIndex(
        root=root,
        track_ids=rows.astype(str),
        split=np.zeros(n_tracks, np.int8),
        shard=(rows // TRACKS_A_SHARD).astype(np.int32),
        offset_bytes=(rows % TRACKS_A_SHARD) * samples * FRAME_BYTES,
        samples=np.full(n_tracks, samples, np.int64),
        shard_files=np.asarray([f"{n}.tfrecord" for n in range(n_shards)]),
        shard_bytes=np.full(n_shards, size, np.int64),
        sample_rate_hz=constants.SAMPLE_RATE_HZ,
    )


def made_up_prepared(root: Path, shards: Path, n_tracks: int, sources: Sequence[str], timed: int = 0) -> None:
    """Index and targets of `n_tracks` tracks that share the made-up shards: a large corpus, a small disk.

    With `timed`, each track has so many timed labels of each source.
    """
    few = made_up_corpus(shards, 2 * TRACKS_A_SHARD)
    places = np.arange(n_tracks) % len(few)
    ids = np.char.add("TR", np.char.zfill(np.arange(n_tracks).astype(str), 16))  # as long as the real ones
    index = dataclasses.replace(
        few,
        track_ids=ids,
        split=np.asarray(np.arange(n_tracks) % 10 == 0, np.int8),
        shard=few.shard[places],
        offset_bytes=few.offset_bytes[places],
        samples=few.samples[places],
    )
    root.mkdir(parents=True)
    for name in few.shard_files:
        (root / name).symlink_to(shards / name)
    prepared = PreparedDirectory(root)
    save_index(prepared, index)
    targets = {}
    for number, source in enumerate(source for source in sources if source != "self"):
        if timed:
            targets[source] = SourceTargets.of_stretches(ids, made_up_stretches(n_tracks, timed, number))
            continue
        values = np.random.default_rng(number).random((n_tracks, constants.TARGET_SIZE), np.float32)
        values /= values.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        targets[source] = SourceTargets(ids, values)
    save_targets(prepared.targets, TargetSet(targets, {}))


def made_up_stretches(n_tracks: int, n_rows: int, seed: int) -> Stretches:
    """So many labels of two seconds in each track, at equal distances."""
    rng = np.random.default_rng(seed)
    first = np.arange(n_tracks + 1, dtype=np.int64) * n_rows
    start = np.add.outer(rng.uniform(0, 2, n_tracks), np.linspace(0, TRACK_SECONDS - 4, n_rows)).ravel()
    values = rng.integers(constants.TARGET_SIZE, size=n_tracks * n_rows, dtype=np.int32)
    return Stretches("labels", constants.TARGET_SIZE, first, values, Times(start, start + 2, start + 2))


def from_prepared(options: Mapping[str, Any]) -> Callable[[int], float]:
    """What a training holds in memory between validations: prepared files, schedule, vectors, steps."""
    recipe = recipe_of(options)
    data = TrainingData.open(recipe, PreparedDirectory(Path(options["prepared"])), check=False)
    execution = choose_execution(recipe)
    network = network_of(recipe, data.sizes, SCALER, execution.precision, execution.replicas, execution.xla)
    states = {g: GroupState(g, GroupLayout.of(network, g), execution.distribution) for g in network.groups}
    mean_target_scores(data.train, data.validation, data.index.samples)
    n_steps = steps_per_epoch(recipe, data) * recipe.training.epochs
    schedule = Schedule(recipe, data.train.by_source, data.index.samples, n_steps, execution.replicas)
    step = Step(recipe, network, states, [data.sizes[s] for s in recipe.sources], n_steps, execution.xla)
    make = MultiStep(
        step, execution, TrainingBatches(schedule, data.index, 0, execution.distribution), n_steps
    )
    return _timed(make, map(int, schedule.source_of_step), execution.steps_per_call)


def schedule_of(recipe: Recipe, index: ShardIndex, replicas: int, n_steps: int = N_STEPS) -> Schedule:
    """The schedule of a recipe on the made-up corpus, whose tracks have all sources."""
    rng = np.random.default_rng(1)
    rows = np.arange(len(index), dtype=np.int64)
    examples = {
        source: self_examples(rows)
        if source == "self"
        else Examples(rows, rng.dirichlet(np.ones(constants.TARGET_SIZE), len(rows)).astype(np.float32))
        for source in recipe.sources
    }
    return Schedule(recipe, SplitExamples(rows, examples).by_source, index.samples, n_steps, replicas)


def from_shards(options: Mapping[str, Any]) -> Callable[[int], float]:
    """Steps from shards on disk, as `kerasrep-train` makes them."""
    recipe = recipe_of(options)
    index = made_up_corpus(Path(options["corpus"]))
    make, execution = build(options)
    schedule = schedule_of(recipe, index, execution.replicas)
    batches = TrainingBatches(schedule, index, 0, execution.distribution)
    measure = _timed(make(batches), map(int, schedule.source_of_step), execution.steps_per_call)
    measure(1 + int(np.unique(schedule.source_of_step, return_index=True)[1].max()))  # all sources are traced
    return measure


def batches_alone(options: Mapping[str, Any]) -> Callable[[int], float]:
    """The input pipeline without any training: batches are made and dropped."""
    recipe = recipe_of(options)
    choose_execution(recipe)  # or TensorFlow takes all memory of a GPU
    index = made_up_corpus(Path(options["corpus"]))
    schedule = schedule_of(recipe, index, 1)
    threads = min(MAX_THREADS, core_count())
    dataset = training_dataset(schedule, reader(index, schedule.segment_samples), 0, 0, threads)
    options_ = tf.data.Options()
    if options.get("threads"):
        options_.threading.private_threadpool_size = int(options["threads"])
    iterator = iter(dataset.with_options(options_))

    def measure(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            next(iterator)
        return time.perf_counter() - started

    return measure


def embedder(options: Mapping[str, Any]) -> Callable[[int], float]:
    """Embedding of ready mels, or of waveforms; `fold` folds batch norm."""
    recipe = recipe_of(options)
    network = network_of(recipe, {"tag": constants.TARGET_SIZE}, SCALER)
    model = fold_batch_norm(network.embedder) if options.get("fold") else network.embedder
    rng = np.random.default_rng(0)
    size = int(options["batch"])
    if options.get("mels"):
        model = model.get_layer("trunk")
        inputs = rng.normal(size=(size, constants.SEGMENT_FRAMES, 128, 2))
    else:
        inputs = rng.normal(0, 0.1, (size, constants.SEGMENT_SAMPLES, 2))
    tensor = tf.constant(inputs, tf.float32)
    run = tf.function(
        lambda x: tf.nest.flatten(model(x, training=False))[0],
        autograph=False,
        jit_compile=bool(options.get("xla")) or None,
    )
    return _called(run, tensor)


def front_end(options: Mapping[str, Any]) -> Callable[[int], float]:
    """The front end alone; `chain` says which: ours, as training uses it, or Kapre's own layers in a row."""
    from kerasrep.model.frontend import build_frontend, in_chunks

    gpu = bool(tf.config.list_physical_devices("GPU"))
    if options["chain"] == "kapre":
        model = _kapre_chain()
    else:
        model = build_frontend(None, constants.SEGMENT_SAMPLES, compiled=gpu)
        model = in_chunks(model) if options["chain"] == "training" else model
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.1, (int(options["batch"]), constants.SEGMENT_SAMPLES, 2)).astype(np.float32)
    run = tf.function(model, autograph=False, jit_compile=bool(options.get("xla", gpu)) or None)
    return _called(run, tf.constant(audio))


def _called(run: Callable[[Any], Any], inputs: Any) -> Callable[[int], float]:
    """Calls of a function; the last one's result is waited for."""

    def measure(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            result = run(inputs)
        tf.reshape(result, (-1,))[:1].numpy()
        return time.perf_counter() - started

    return measure


def _kapre_chain() -> Any:
    import kapre
    import keras

    waveform = keras.Input((constants.SEGMENT_SAMPLES, 2))
    x = keras.layers.ZeroPadding1D(512)(waveform)
    x = kapre.STFT(n_fft=1024, hop_length=256, window_name="hann_window")(x)
    x = keras.ops.square(kapre.Magnitude()(x))
    rate_hz = constants.SAMPLE_RATE_HZ
    filters = {"sample_rate": rate_hz, "n_freq": 513, "n_mels": 128, "f_min": 0.0, "f_max": rate_hz / 2}
    x = kapre.ApplyFilterbank(type="mel", filterbank_kwargs=filters | {"htk": False, "norm": "slaney"})(x)
    return keras.Model(waveform, kapre.MagnitudeToDecibel(1.0, 1e-10, 80.0)(x))


def facts() -> dict[str, Any]:
    """Versions and devices, for the report."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    return {"tensorflow": tf.__version__, "devices": names or ["CPU"]}
