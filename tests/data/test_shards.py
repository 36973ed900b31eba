"""Shards are TFRecord files whose index points at the samples themselves."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import soundfile

from kerasrep.data import shard_decoding, shard_writer
from kerasrep.data.audio import decode, decode_blocks
from kerasrep.data.shard_decoding import AudioItem, example_head, framed, to_int16
from kerasrep.data.shard_writer import write_shards
from kerasrep.data.shards import load_index, save_index
from kerasrep.errors import DataError
from kerasrep.recipe.network import AudioSettings
from kerasrep.storage.run_directory import PreparedDirectory

AUDIO = AudioSettings()
RATE_HZ = AUDIO.sample_rate_hz


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Nine tracks of 3 to 4 seconds at two rates; among them a short one, a broken one, and a liar."""
    root = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    made = []
    for number in range(9):
        path = root / f"t{number}.wav"
        rate_hz = 44_100 if number % 2 else RATE_HZ
        seconds = 1.0 if number == 2 else rng.uniform(3, 4)
        soundfile.write(path, 0.2 * rng.normal(size=(round(seconds * rate_hz), 2)), rate_hz)
        made.append(AudioItem(f"track {number} \u266b", path, "validation" if number == 4 else "train"))
    made[5].path.write_text("no audio")
    samples, _ = soundfile.read(made[7].path)
    samples[-1] = np.nan
    soundfile.write(made[7].path, samples, 44_100, subtype="FLOAT")
    return made


@pytest.fixture
def small_shards(monkeypatch):
    """Two tracks of 3 to 4 seconds in a shard."""
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 700_000)


def write(root, items, **options):
    root.mkdir(exist_ok=True)
    directory = PreparedDirectory(root)
    written = write_shards(directory, items, AUDIO, progress=False, **options)
    save_index(directory, written.index)
    return directory, written


def contents(root):
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def test_each_track_is_its_decoded_audio_in_the_order_given(tmp_path, items, small_shards):
    directory, _ = write(tmp_path / "p", items)
    index = load_index(directory)
    kept = [items[number] for number in (0, 1, 3, 4, 6, 8)]
    assert index.track_ids.tolist() == [item.track_id for item in kept]
    assert index.split.tolist() == [0, 0, 0, 1, 0, 0]
    assert index.rows("validation").tolist() == [3]
    assert len(index.shard_files) > 2 and index.sample_rate_hz == RATE_HZ
    for row, item in enumerate(kept):
        expected = decode(item.path, RATE_HZ)
        np.testing.assert_allclose(index.read(row) / 32768, np.clip(expected, -1, 1), atol=0.51 / 32768)


def test_skipped_tracks_say_why(tmp_path, items):
    _, written = write(tmp_path / "p", items)
    assert list(written.skipped) == [items[number].track_id for number in (2, 5, 7)]
    short, text, nan = written.skipped.values()
    assert "shorter than a segment" in short and "no audio" in text and "NaN" in nan


def test_tensorflow_reads_the_shards_as_tfrecords(tmp_path, items, small_shards):
    import tensorflow as tf

    directory, _ = write(tmp_path / "p", items)
    index = load_index(directory)
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("track_id", "samples")}
    records = tf.data.TFRecordDataset([str(path) for path in index.shard_paths])  # checks every CRC
    parsed = [tf.io.parse_single_example(record, features) for record in records]
    assert [record["track_id"].numpy().decode() for record in parsed] == index.track_ids.tolist()
    for row, record in enumerate(parsed):
        values = np.frombuffer(record["samples"].numpy(), dtype="<i2").reshape(-1, 2)
        np.testing.assert_array_equal(values, index.read(row))


@pytest.mark.parametrize("n_bytes", [4, 100, 127, 128, 16_383, 16_384, 2_500_000])
def test_a_record_is_the_example_protocol_buffers_would_make(n_bytes):
    import tensorflow as tf

    payload = np.random.default_rng(0).bytes(n_bytes)
    serialised = example_head("Ⅸ/a b.wav", n_bytes) + payload
    example = tf.train.Example.FromString(serialised)
    assert set(example.features.feature) == {"track_id", "samples"}
    assert example.features.feature["track_id"].bytes_list.value[0].decode() == "Ⅸ/a b.wav"
    assert example.features.feature["samples"].bytes_list.value[0] == payload
    assert len(example.SerializeToString()) == len(serialised)


def test_the_offset_of_a_record_points_at_its_samples_row_by_row_in_any_layout():
    first, second = np.arange(6, dtype=np.int16).reshape(3, 2), np.array([[8, 9]], np.int16)
    for block in (first, np.asfortranarray(first)):
        record = framed("x", [block, second])
        stream = b"".join(record.pieces)
        assert np.frombuffer(stream[record.offset_bytes : -4], "<i2").tolist() == [0, 1, 2, 3, 4, 5, 8, 9]


def test_bytes_do_not_depend_on_the_number_of_threads(tmp_path, items, small_shards):
    write(tmp_path / "one", items, n_threads=1)
    write(tmp_path / "four", items, n_threads=4)
    assert contents(tmp_path / "one") == contents(tmp_path / "four")


def test_checksums_are_those_of_the_files(tmp_path, items, small_shards):
    directory, written = write(tmp_path / "p", items)
    for name, checksum in written.checksums.items():
        assert hashlib.sha256((directory.root / name).read_bytes()).hexdigest() == checksum


def test_an_interrupted_call_keeps_finished_shards_and_ends_with_the_same_bytes(
    tmp_path, items, small_shards, monkeypatch
):
    write(tmp_path / "whole", items)
    interrupted = PreparedDirectory(tmp_path / "p")
    interrupted.root.mkdir()

    def stop_at_the_last(path, *arguments):
        if path == items[8].path:
            raise KeyboardInterrupt
        return decode_blocks(path, *arguments)

    monkeypatch.setattr(shard_decoding, "decode_blocks", stop_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        write_shards(interrupted, items, AUDIO, progress=False)
    finished = {path: path.stat().st_mtime_ns for path in interrupted.root.glob("*.tfrecord")}
    assert finished and not list(interrupted.root.glob(".*")), "no temporary file may stay"

    monkeypatch.setattr(shard_decoding, "decode_blocks", decode_blocks)
    write(interrupted.root, items)
    assert contents(interrupted.root) == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())


def test_a_finished_shard_of_other_tracks_or_of_another_size_is_written_anew(tmp_path, items, small_shards):
    _, expected = write(tmp_path / "whole", items)
    directory, _ = write(tmp_path / "p", items[:6] + items[8:])
    first = directory.shard(0, len(expected.index.shard_files))
    first.write_bytes(b"torn")
    write(tmp_path / "p", items)
    whole = contents(tmp_path / "whole")
    now = contents(tmp_path / "p")
    assert {name: now[name] for name in whole} == whole


def test_long_tracks_are_shortened_and_counted(tmp_path, items, monkeypatch):
    monkeypatch.setattr(shard_decoding, "MAX_TRACK_SECONDS", 2.9)
    _, written = write(tmp_path / "p", items)
    assert written.shortened == 7  # the NaN of one lies behind what is taken
    assert set(written.index.samples.tolist()) == {round(2.9 * RATE_HZ)}


def test_int16_rounds_to_nearest_and_clips():
    samples = np.array([0, 0.4 / 32768, 0.6 / 32768, -1, 1, 7, -7], dtype=np.float32)
    assert to_int16(samples).tolist() == [0, 0, 1, -32768, 32767, 32767, -32768]


@pytest.mark.parametrize("harm", ["truncated", "longer", "missing"])
def test_a_harmed_shard_is_named(tmp_path, items, harm):
    directory, _ = write(tmp_path / "p", items)
    shard = directory.shard(0, 1)
    if harm == "missing":
        shard.unlink()
    else:
        content = shard.read_bytes()
        shard.write_bytes(content[:-1] if harm == "truncated" else content + b"x")
    with pytest.raises(DataError, match=r"shard-00000-of-00001\.tfrecord.*prepare again") as caught:
        load_index(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset_bytes": -1}, "outside its shard"),
        ({"samples": 2**62}, "outside its shard"),
        ({"samples": 0}, "outside its shard"),
        ({"offset_bytes": 2**40}, "outside its shard"),
        ({"shard": 1}, "'shard' is out of range"),
        ({"split": 3}, "'split' is out of range"),
        ({"sample_rate_hz": 0}, "not positive"),
        ({"shard_files": "../shard"}, "instead of a file name"),
        ({"track_ids": "same"}, "stands twice"),
    ],
    ids=str,
)
def test_a_malformed_index_is_refused(tmp_path, items, change, message):
    directory, written = write(tmp_path / "p", items)
    ((name, value),) = change.items()
    array = np.full_like(getattr(written.index, name), value, dtype=None if isinstance(value, int) else "U10")
    save_index(directory, dataclasses.replace(written.index, **{name: array}))
    with pytest.raises(DataError, match=message) as caught:
        load_index(directory)
    assert str(directory.index) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["track_ids", "split", "shard_bytes", "sample_rate_hz"])
def test_an_index_that_lacks_an_array_is_refused(tmp_path, items, name):
    directory, _ = write(tmp_path / "p", items)
    with np.load(directory.index) as arrays:
        np.savez(directory.index, **{key: arrays[key] for key in arrays.files if key != name})
    with pytest.raises(DataError, match=f"lacks the array '{name}'"):
        load_index(directory)


def test_a_missing_or_truncated_index_is_refused(tmp_path, items):
    directory, _ = write(tmp_path / "p", items)
    directory.index.write_bytes(directory.index.read_bytes()[:300])
    with pytest.raises(DataError, match=r"index\.npz"):
        load_index(directory)
    directory.index.unlink()
    with pytest.raises(DataError, match=r"index\.npz: cannot be read"):
        load_index(directory)
