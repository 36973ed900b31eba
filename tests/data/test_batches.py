import numpy as np
import pytest
import tensorflow as tf

from kerasrep.data.batches import (
    TrainingBatches,
    batch_spec,
    plans_dataset,
    reader,
    split_examples,
    to_float,
    training_dataset,
)
from kerasrep.data.crops import ALIGNMENT_BYTES, Buffers, OpenFiles, _open, read_crops
from kerasrep.data.schedule import Schedule
from kerasrep.data.shards import FRAME_BYTES, ShardIndex
from kerasrep.data.validation_plans import ValidationPlans
from kerasrep.errors import DataError
from kerasrep.recipe.schema import Recipe
from kerasrep.sources.stretches import Stretches
from kerasrep.sources.targets import SourceTargets
from kerasrep.training.loop import data_faults

SEGMENT = 2756  # an eighth of a second
N_TRACKS = 12


@pytest.fixture
def index(tmp_path):
    """Two files of random samples; each track begins at an odd byte, as in a real shard."""
    rng = np.random.default_rng(0)
    samples = np.arange(N_TRACKS, dtype=np.int64) * 100 + SEGMENT
    shard = (np.arange(N_TRACKS) % 2).astype(np.int32)
    offsets, blobs = np.zeros(N_TRACKS, np.int64), [bytearray(b"?" * 7), bytearray(b"!" * 33)]
    for row in range(N_TRACKS):
        blob = blobs[shard[row]]
        offsets[row] = len(blob)
        blob += rng.integers(-32768, 32767, (samples[row], 2), dtype=np.int16).tobytes() + b"gap"
    for number, blob in enumerate(blobs):
        (tmp_path / f"{number}.bin").write_bytes(bytes(blob))
    return ShardIndex(
        root=tmp_path,
        track_ids=np.asarray([f"t{row}" for row in range(N_TRACKS)]),
        split=(np.arange(N_TRACKS) >= 8).astype(np.int8),
        shard=shard,
        offset_bytes=offsets,
        samples=samples,
        shard_files=np.asarray(["0.bin", "1.bin"]),
        shard_bytes=np.asarray([len(blob) for blob in blobs]),
        sample_rate_hz=22_050,
    )


@pytest.fixture
def targets():
    eye = np.eye(N_TRACKS, dtype=np.float32)
    return {"tag": SourceTargets(np.asarray([f"t{row}" for row in range(N_TRACKS)]), eye)}


def make_recipe(**training):
    audio = {"segment_seconds": 0.125, "fft_samples": 64, "hop_samples": 16, "n_mels": 32}
    return Recipe.model_validate(
        {
            "name": "test",
            "strategy": "mss-cr",
            "sources": ["self", "tag"],
            "batches": {"size": 4},
            "audio": audio,
            "training": training,
        }
    )


def test_crops_equal_the_samples_of_the_track(index):
    rows, starts = np.asarray([3, 0, 11]), np.asarray([300, 0, 17])
    crops = read_crops(index, rows, starts, SEGMENT)
    for crop, row, start in zip(crops, rows, starts, strict=True):
        np.testing.assert_array_equal(crop, index.read(row)[start : start + SEGMENT])


def test_memory_is_taken_again_only_when_nobody_refers_to_it(index):
    buffers, rows = Buffers(), np.asarray([3, 0])
    first = read_crops(index, rows, np.asarray([300, 0]), SEGMENT, buffers)
    second = read_crops(index, rows, np.asarray([1, 2]), SEGMENT, buffers)
    assert len(buffers) == 2
    np.testing.assert_array_equal(first[0], index.read(3)[300 : 300 + SEGMENT])
    assert first.ctypes.data % ALIGNMENT_BYTES == second.ctypes.data % ALIGNMENT_BYTES == 0
    tensor = tf.constant(second)
    place = first[1:].ctypes.data  # a view of a part keeps the whole
    part = first[1:]
    del first
    assert read_crops(index, rows, np.asarray([5, 6]), SEGMENT, buffers).ctypes.data not in (place, 0)
    del part, second, tensor
    for _ in range(5):
        read_crops(index, rows, np.asarray([5, 6]), SEGMENT, buffers)
    assert len(buffers) == 3


def test_a_shard_that_ends_too_early_is_named(index):
    last = np.flatnonzero(index.shard == 1)[-1]
    path = index.root / "1.bin"
    path.write_bytes(path.read_bytes()[: int(index.offset_bytes[last]) + 10 * FRAME_BYTES])
    with pytest.raises(DataError, match=r"1\.bin: ends before byte"):
        read_crops(index, np.asarray([last]), np.asarray([0]), SEGMENT)


def write_other(index, way):
    """Replace the samples in all shards by others, at the same places."""
    for path in index.shard_paths:
        turned = bytes(byte ^ 255 for byte in path.read_bytes())
        if way == "deleted":
            path.unlink()
            path.write_bytes(turned)
        elif way == "renamed over":
            (index.root / "new").write_bytes(turned)
            (index.root / "new").rename(path)
        else:
            path.write_bytes(turned)


@pytest.mark.parametrize("way", ["deleted", "renamed over", "written over"])
def test_shards_that_were_replaced_are_read_anew(index, targets, way):
    rows, starts = np.asarray([3, 0]), np.asarray([300, 0])
    train = split_examples(index, targets, "train", ("self", "tag"))
    plan = Schedule(make_recipe(), train.by_source, index.samples, n_steps=1).plan(0, 0)
    before = read_crops(index, rows, starts, SEGMENT)
    (batch,) = plans_dataset([plan], index, (2, N_TRACKS), SEGMENT)
    write_other(index, way)
    np.testing.assert_array_equal(read_crops(index, rows, starts, SEGMENT), ~before)
    (again,) = plans_dataset([plan], index, (2, N_TRACKS), SEGMENT)
    np.testing.assert_array_equal(again.waveform, ~batch.waveform.numpy())


def test_one_dataset_never_mixes_a_shard_with_what_replaced_it(index):
    rows, starts, files = np.asarray([3]), np.asarray([300]), OpenFiles()
    before = read_crops(index, rows, starts, SEGMENT, files=files)
    write_other(index, "renamed over")
    np.testing.assert_array_equal(read_crops(index, rows, starts, SEGMENT, files=files), before)
    _open.cache_clear()  # as when so many other shards were read since
    with pytest.raises(DataError, match=r"1\.bin: was replaced while it was read; start again"):
        read_crops(index, rows, starts, SEGMENT, files=files)


@pytest.mark.parametrize("replica", [0, 1])
@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_batches_hold_what_the_schedule_plans_wherever_they_begin(index, targets, schedule, replica):
    recipe = make_recipe(schedule=schedule)
    train = split_examples(index, targets, "train", recipe.sources)
    plans = Schedule(recipe, train.by_source, index.samples, n_steps=9, replicas=2)
    sizes = (2, N_TRACKS)
    dataset = training_dataset(plans, reader(index, SEGMENT), 4, replica, threads=2)
    tf.nest.map_structure(
        lambda spec, expected: spec.shape.assert_is_compatible_with(expected.shape),
        tuple(dataset.element_spec),
        tuple(batch_spec(sizes, SEGMENT)),
    )
    elements = list(dataset)
    assert [int(e.step) for e in elements] == list(range(4, 9))
    for number, element in enumerate(elements):
        plan = plans.plan(4 + number, replica)
        expected = read_crops(index, plan.rows, plan.starts, SEGMENT)
        np.testing.assert_array_equal(element.waveform.numpy(), expected)
        assert int(element.source) == plan.source
        for place in range(2):
            np.testing.assert_array_equal(element.targets[place].numpy(), plan.targets[place])
            np.testing.assert_array_equal(element.weights[place].numpy(), plan.weights[place])


def test_a_dataset_does_not_tune_itself_since_its_end_could_wait_a_minute_for_that(index, targets):
    recipe = make_recipe()
    train = split_examples(index, targets, "train", recipe.sources)
    plans = Schedule(recipe, train.by_source, index.samples, n_steps=2, replicas=1)
    training = training_dataset(plans, reader(index, SEGMENT), 0, 0, threads=2)
    validation = plans_dataset([plans.plan(0, 0)], index, (2, N_TRACKS), SEGMENT)
    for dataset in (training, validation):
        assert dataset.options().autotune.enabled is False


def test_each_replica_of_a_process_gets_its_own_part_of_every_step(index, targets):
    recipe = make_recipe()
    train = split_examples(index, targets, "train", recipe.sources)
    plans = Schedule(recipe, train.by_source, index.samples, n_steps=5, replicas=2)
    distribution = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    batches = TrainingBatches(plans, index, 2, distribution)
    draw = tf.function(lambda: distribution.run(batches.local), autograph=False)
    for step in range(2, 5):
        parts = distribution.experimental_local_results(draw().waveform)
        assert len(parts) == 2
        for replica, part in enumerate(parts):
            plan = plans.plan(step, replica)
            np.testing.assert_array_equal(part, read_crops(index, plan.rows, plan.starts, SEGMENT))


def test_a_broken_shard_in_the_pipeline_is_reported_with_its_name(index, targets):
    recipe = make_recipe()
    train = split_examples(index, targets, "train", recipe.sources)
    plan = Schedule(recipe, train.by_source, index.samples, n_steps=1).plan(0, 0)
    for name in ("0.bin", "1.bin"):
        (index.root / name).write_bytes(b"short")
    with pytest.raises(tf.errors.OpError, match=r"DataError: .*\.bin: ends before byte"):
        list(plans_dataset([plan], index, (2, N_TRACKS), SEGMENT))
    with pytest.raises(DataError, match=r"^\S+\.bin: ends before byte \d+; delete"), data_faults():
        list(plans_dataset([plan], index, (2, N_TRACKS), SEGMENT))
    for name in ("0.bin", "1.bin"):
        (index.root / name).rename(index.root / f"gone-{name}")
    with pytest.raises(DataError, match=r"\.bin: cannot be read \(No such file"), data_faults():
        list(plans_dataset([plan], index, (2, N_TRACKS), SEGMENT))


def test_a_split_joins_tracks_with_their_own_targets(index, targets):
    ids, target = targets["tag"].track_ids, targets["tag"].target
    shuffled = np.random.default_rng(1).permutation(N_TRACKS)[:7]
    found = split_examples(
        index, {"tag": SourceTargets(ids[shuffled], target[shuffled])}, "train", ("self", "tag")
    )
    assert found.by_source["self"].rows.tolist() == list(range(8))
    tag = found.by_source["tag"]
    assert set(tag.rows.tolist()) == set(shuffled.tolist()) & set(range(8))
    np.testing.assert_array_equal(tag.targets(np.arange(len(tag.rows)))[0].argmax(1), tag.rows)


def test_classes_that_no_validation_track_has_are_validated_on_tracks_held_out_of_each(index):
    ids = index.track_ids[index.rows("train")]
    first = np.arange(len(ids) + 1)
    classes = Stretches("classes", 2, first, (np.arange(len(ids)) % 2).astype(np.int32))
    targets = {"band": SourceTargets.of_stretches(ids, classes)}
    train, held = (
        split_examples(index, targets, split, ("self", "band")) for split in ("train", "validation")
    )
    band, other = train.by_source["band"], held.by_source["band"]
    assert band.within_groups and other.within_groups
    assert sorted([*band.rows, *other.rows]) == train.rows.tolist()
    assert sorted(other.targets(np.arange(len(other.rows)))[0].argmax(1)) == [0, 1]  # one of each class
    plans = ValidationPlans(list(held.by_source.values()), held.rows, index.samples, SEGMENT, 2)
    weights = [np.concatenate([plan.weights[place] for plan in plans]) for place in (0, 1)]
    rows = np.concatenate([plan.rows for plan in plans])
    np.testing.assert_array_equal(weights[0] > 0, np.isin(rows, held.rows))
    np.testing.assert_array_equal(weights[1] > 0, np.isin(rows, other.rows))


def test_a_source_without_labels_is_refused_with_those_there_are(index, targets):
    with pytest.raises(DataError, match="no labels for 'lyrics'; it has self, tag"):
        split_examples(index, targets, "train", ("lyrics",))
    with pytest.raises(DataError, match="no track of the validation split has 'tag'"):
        few = SourceTargets(targets["tag"].track_ids[:8], targets["tag"].target[:8])
        split_examples(index, {"tag": few}, "validation", ("tag",))


def test_samples_become_floats_between_minus_one_and_one():
    values = to_float(tf.constant([[-32768, 0, 16384, 32767]], tf.int16)).numpy()
    np.testing.assert_array_equal(values, [[-1.0, 0.0, 0.5, 32767 / 32768]])
