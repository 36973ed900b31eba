"""Segments of many files in full batches."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kerasrep.embedding import decoding
from kerasrep.embedding.decoding import WAITING_FILES, Cutting, End, Failure, Segments, _Pool
from kerasrep.embedding.files import BadFile
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.segments import segment_batches, segment_count, stretch_of
from kerasrep.embedding.stream import Rows, embed_parts

SEGMENT = 5


def model(batch_segments, embed_segments=lambda segments: segments.reshape(len(segments), -1)[:, :3].copy()):
    return SegmentModel(embed_segments, 10, SEGMENT, ("shared",), batch_segments=batch_segments)


def parts_of(lengths, size, rng):
    """Files of so many segments in parts of at most `size`, one file among the others; and what they hold."""
    files = [rng.normal(size=(n, SEGMENT, 2)).astype(np.float32) for n in lengths]
    queues = [
        [Segments(key, file[start : start + size]) for start in range(0, len(file), size)]
        + [End(key, len(file))]
        for key, file in enumerate(files)
    ]
    parts = []
    while queues:
        queue = queues[rng.integers(len(queues))]
        parts.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return files, parts


@pytest.mark.parametrize(("size", "part"), [(1, 1), (4, 4), (16, 16), (4, 9), (16, 3)])
@pytest.mark.parametrize("seed", range(6))
def test_each_file_has_its_own_rows_in_order_and_ends_after_them(size, part, seed):
    rng = np.random.default_rng(seed)
    files, parts = parts_of(rng.integers(0, 40, 7), part, rng)
    rows, ended, batches = {}, [], []

    def embed_segments(segments):
        batches.append(len(segments))
        return segments.reshape(len(segments), -1)[:, :3].copy()

    for event in embed_parts(parts, model(size, embed_segments)):
        if isinstance(event, Rows):
            assert event.key not in ended
            rows.setdefault(event.key, []).append(event.values)
        else:
            ended.append(event.key)
    assert sorted(ended) == list(range(len(files)))
    for key, file in enumerate(files):
        found = np.concatenate(rows[key]) if key in rows else np.zeros((0, 3), np.float32)
        np.testing.assert_array_equal(found, file.reshape(len(file), 2 * SEGMENT)[:, :3])
    assert batches == [size] * -(-sum(map(len, files)) // size)  # none is short, none too many


class CutsItself:
    """A model's `embed_segments` that cuts segments that overlap; counts the samples that it was given."""

    def __init__(self):
        self.samples, self.batches = 0, []

    def __call__(self, segments):
        raise AssertionError("segments were copied one by one")

    def windows(self, stretch, starts):
        self.samples += len(stretch)
        self.batches.append(len(starts))
        return np.stack([stretch[start : start + SEGMENT].ravel() for start in starts])


@pytest.mark.parametrize("hop", [1, 2, 4])
@pytest.mark.parametrize("size", [2, 3, 16])
@pytest.mark.parametrize("seed", range(4))
def test_segments_that_overlap_are_cut_by_the_model_out_of_samples_that_come_once(hop, size, seed):
    rng = np.random.default_rng(seed)
    files = [rng.normal(size=(n, 2)).astype(np.float32) for n in rng.integers(1, 120, 5)]
    queues = [
        [Segments(key, some) for some in segment_batches(np.array_split(file, 3), SEGMENT, 7, hop)]
        for key, file in enumerate(files)
    ]
    parts = [part for some in itertools.zip_longest(*queues) for part in some if part is not None]
    rows, cuts_itself = {}, CutsItself()
    for event in embed_parts(parts, model(size, cuts_itself)):
        rows.setdefault(event.key, []).append(event.values)
    n_rows = 0
    for key, file in enumerate(files):
        count = segment_count(len(file), SEGMENT, hop)
        filled = np.concatenate([file, np.zeros((count * SEGMENT, 2), np.float32)])
        expected = [filled[hop * n : hop * n + SEGMENT].ravel() for n in range(count)]
        np.testing.assert_array_equal(np.concatenate(rows[key]), expected)
        n_rows += count
    assert cuts_itself.batches == [size] * -(-n_rows // size)
    stretches = len(parts) + len(cuts_itself.batches)  # each needs a segment's samples to begin with
    assert cuts_itself.samples <= n_rows * hop + stretches * (SEGMENT - hop)


def test_the_model_waits_until_all_of_its_batch_was_copied(monkeypatch):
    real, rng = np.copyto, np.random.default_rng(0)

    def late(*given):
        time.sleep(0.02)
        real(*given)

    monkeypatch.setattr(np, "copyto", late)
    (file,), parts = parts_of([24], 3, rng)
    rows = [event.values for event in embed_parts(parts, model(8)) if isinstance(event, Rows)]
    np.testing.assert_array_equal(np.concatenate(rows), file.reshape(24, 2 * SEGMENT)[:, :3])


def test_the_next_batch_is_put_together_while_the_model_works():
    drawn_second = threading.Event()

    def embed_segments(segments):
        assert drawn_second.wait(60)
        return segments[:, 0]

    def parts():
        for key in range(2):
            if key == 1:
                drawn_second.set()
            yield Segments(key, np.zeros((4, SEGMENT, 2), np.float32))
            yield End(key, 4)

    events = list(embed_parts(parts(), model(4, embed_segments)))
    assert [type(event) for event in events] == [Rows, End, Rows, End]


@pytest.mark.parametrize(("workers", "may_wait"), [(1, 4), (6, 6)])
def test_of_what_nobody_takes_as_many_parts_wait_as_may_and_one_is_in_each_hand(workers, may_wait):
    made, lock, n_expected = [], threading.Lock(), 1 + may_wait + workers

    def parts(key, path):
        while True:
            with lock:
                made.append(key)
            yield Segments(key, np.zeros((1, SEGMENT, 2), np.float32))

    pool = _Pool(parts, workers)
    taken = pool.run((number, Path("missing")) for number in range(workers))
    next(taken)
    end = time.monotonic() + 60
    while len(made) < n_expected and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(0.2)  # in which none must come
    assert len(made) == n_expected
    pool.close()


@pytest.mark.parametrize(("hop", "n_segments"), [(50, 16), (25, 31), (10, 76), (40, 16), (80, 16), (1, 751)])
def test_a_part_holds_the_samples_of_16_segments_however_they_overlap(hop, n_segments, tmp_path):
    path, samples = tmp_path / "a.wav", 2_000
    soundfile.write(path, np.zeros((samples, 2)), 4_000)
    *parts, end = Cutting(4_000, 50, hop).parts(0, path)
    assert len(parts[0].segments) == n_segments and end == End(0, samples)
    assert sum(len(part.segments) for part in parts) == segment_count(samples, 50, hop)
    stretch, _ = stretch_of(parts[0].segments)
    assert len(stretch) <= 16 * 50


def test_of_the_last_files_the_largest_is_decoded_first(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "LAST_FILES", 9)
    sizes, drawn, begun = [3, 1, 4, 1, 5, 9, 2, 6], threading.Event(), []
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(bytes(size))

    def files():
        for number in range(len(sizes)):
            yield number, tmp_path / str(number)
        yield len(sizes), tmp_path / "missing"
        drawn.set()

    def parts(key, path):
        assert drawn.wait(60)
        begun.append(key)
        yield End(key, 0)

    pool = _Pool(parts, 1)
    ended = [part.key for part in pool.run(files())]
    pool.close()
    assert begun == ended
    first, *others = begun  # the thread takes one as soon as there is any
    largest_first = [5, 7, 4, 2, 0, 6, 1, 3, 8]
    assert others == [number for number in largest_first if number != first]


def test_before_the_last_files_none_is_put_off_for_being_small(tmp_path):
    n_files, begun = WAITING_FILES + 40, []
    for number in range(n_files):
        (tmp_path / str(number)).write_bytes(bytes(number))  # the later the larger

    def parts(key, path):
        begun.append(key)
        yield End(key, 0)

    pool = _Pool(parts, 1)
    for _ in pool.run((number, tmp_path / str(number)) for number in range(n_files)):
        pass
    pool.close()
    assert begun == [*range(n_files - 2), n_files - 1, n_files - 2]


def test_a_failure_comes_after_what_was_embedded_of_the_file():
    bad = Failure(0, BadFile(Path("a"), "broken"))
    parts = [Segments(0, np.ones((2, SEGMENT, 2), np.float32)), bad]
    events = list(embed_parts(parts, model(4)))
    assert [type(event) for event in events] == [Rows, Failure]
    assert list(embed_parts([bad], model(4))) == [bad]


def test_what_the_model_raises_ends_it_and_no_thread_is_left():
    calls = itertools.count()

    def embed_segments(segments):
        if next(calls):
            raise MemoryError("of the device")
        return segments[:, 0]

    parts = [Segments(key, np.zeros((4, SEGMENT, 2), np.float32)) for key in range(9)]
    events = embed_parts(parts, model(4, embed_segments))
    assert next(events).key == 0
    with pytest.raises(MemoryError, match="of the device"):
        list(events)
    stopped = embed_parts(parts, model(4))
    next(stopped)
    stopped.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embed")]
