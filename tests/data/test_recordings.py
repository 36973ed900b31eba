"""One recording is known under any name and encoding, and is taken for no other."""

import hashlib
from itertools import combinations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from sound_files import RATE_HZ, by_ffmpeg, by_libsndfile
from tones import piece

from kerasrep.data import identity, recordings
from kerasrep.data.audio import decode
from kerasrep.data.identity import LEAST_WORDS, Identity, identity_of
from kerasrep.data.recordings import (
    SAME_FROM,
    Identities,
    correlations,
    first_of_each,
    read_identities,
    write_identities,
)
from kerasrep.data.shard_decoding import to_int16
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import write_arrays


def known_by(samples, rate_hz=RATE_HZ):
    return identity_of([to_int16(samples)], rate_hz)


PIECES = [piece(seed) for seed in range(6)]
IDENTITIES = [known_by(samples) for samples in PIECES]


def silence(seconds):
    return np.zeros((round(seconds * RATE_HZ), 2), np.float32)


ENCODINGS = {
    "mp3 64 kb/s": lambda x: by_ffmpeg("mp3", "libmp3lame", x, bit_rate=64_000),
    "aac 64 kb/s": lambda x: by_ffmpeg("adts", "aac", x, bit_rate=64_000),
    "opus 48 kb/s": lambda x: by_ffmpeg(
        "ogg", "libopus", soxr.resample(x, RATE_HZ, 48_000).astype(np.float32), 48_000, bit_rate=48_000
    ),
    "vorbis": lambda x: by_libsndfile("OGG", "VORBIS", x),
    "quiet": lambda x: by_libsndfile("FLAC", "PCM_16", 0.25 * x),
    "mono at 44,100 Hz": lambda x: by_libsndfile(
        "WAV", "PCM_16", soxr.resample(x.mean(axis=1, keepdims=True), RATE_HZ, 44_100), 44_100
    ),
    "1 s of silence before": lambda x: by_libsndfile("FLAC", "PCM_16", np.concatenate([silence(1), x])),
    "0.37 s cut off": lambda x: by_libsndfile("FLAC", "PCM_16", x[round(0.37 * RATE_HZ) :]),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_another_encoding_is_the_same_recording(tmp_path, encoding):
    path = tmp_path / "copy"
    path.write_bytes(ENCODINGS[encoding](PIECES[2]))
    copy = known_by(decode(path, RATE_HZ))
    assert copy.digest != IDENTITIES[2].digest
    assert first_of_each(Identities.of([*IDENTITIES, copy])).tolist() == [0, 1, 2, 3, 4, 5, 2]


def test_the_digest_is_of_the_samples():
    whole = to_int16(PIECES[0])
    expected = hashlib.sha256(whole.astype("<i2").tobytes()).digest()[:8]
    assert IDENTITIES[0].digest == expected
    parts = identity_of([whole[:5], whole[5:5], whole[5:70_000], whole[70_000:]], RATE_HZ)
    assert parts.digest == expected and parts.words.tolist() == IDENTITIES[0].words.tolist()


def test_short_recordings_are_known_by_their_samples_alone():
    short = PIECES[0][: 6 * RATE_HZ]
    quiet = known_by(0.5 * short)
    assert not len(quiet.words)
    both = Identities.of([known_by(short), quiet, known_by(short.copy())])
    assert first_of_each(both).tolist() == [0, 1, 0]


def test_recordings_without_sound_or_treble_are_not_alike():
    rng = np.random.default_rng(0)
    almost = [silence(20 + n) for n in range(3)]
    time = np.arange(20 * RATE_HZ)[:, None] / RATE_HZ
    hums = [np.repeat(0.1 * np.sin(2 * np.pi * hz * time), 2, axis=1) for hz in (50, 60)]
    noise = [rng.normal(0, 0.1, (20 * RATE_HZ, 2)) for _ in range(2)]
    identities = [known_by(np.asarray(x, np.float32)) for x in (*almost, *hums, *noise)]
    assert first_of_each(Identities.of(identities)).tolist() == list(range(7))


def test_only_the_first_five_minutes_and_the_samples_count(monkeypatch):
    long = np.concatenate([*PIECES * 2, PIECES[0]])
    assert len(long) > 302 * RATE_HZ
    other_end = np.concatenate([long[: 301 * RATE_HZ], PIECES[3]])
    one, other = known_by(long), known_by(other_end)
    assert one.digest != other.digest
    assert len(one.words) == len(other.words) == 1195
    assert first_of_each(Identities.of([one, other])).tolist() == [0, 0]
    monkeypatch.setattr(identity, "PRINT_SECONDS", 60.0)  # as version 1 had it
    assert known_by(long).words.tolist() == one.words[:235].tolist()


@pytest.mark.parametrize(("start_seconds", "seconds"), [(5, 10), (61.37, 30), (90, 7)])
def test_an_excerpt_from_any_minute_is_the_same_recording(tmp_path, start_seconds, seconds):
    long = np.concatenate(PIECES[2:6])
    first = round(start_seconds * RATE_HZ)
    path = tmp_path / "copy"
    path.write_bytes(ENCODINGS["mp3 64 kb/s"](long[first : first + seconds * RATE_HZ]))
    identities = Identities.of([known_by(long), *IDENTITIES[:2], known_by(decode(path, RATE_HZ))])
    assert first_of_each(identities).tolist() == [0, 1, 2, 0]


def test_a_copy_that_is_a_little_faster_is_known_by_a_part_of_it():
    long = np.concatenate(PIECES[2:6])
    faster = soxr.resample(long, RATE_HZ, 0.99 * RATE_HZ).astype(np.float32)
    identities = Identities.of([known_by(long), *IDENTITIES[:2], known_by(faster)])
    assert first_of_each(identities).tolist() == [0, 1, 2, 0]


def test_rates_without_the_upper_bands_give_an_identity():
    low = known_by(soxr.resample(PIECES[0], RATE_HZ, 8_000).astype(np.float32), 8_000)
    assert len(low.words) == len(IDENTITIES[0].words)


def made(rng, frames):
    """A print that no recording has: every bit by chance."""
    return Identity(rng.bytes(8), rng.integers(0, 1 << 16, frames).astype(np.uint16))


def changed(rng, identity, share, shift):
    """The same print with a share of wrong bits, later by some frames."""
    wrong = np.packbits(rng.random((len(identity.words), 16)) < share, axis=1).view(np.uint16)[:, 0]
    return Identity(rng.bytes(8), np.concatenate([made(rng, shift).words, identity.words ^ wrong]))


def bits_of(identity):
    """-1 and 1, [frames, bands]."""
    return np.unpackbits(identity.words.view(np.uint8)).reshape(-1, 16) * 2.0 - 1


def by_brute_force(identities):
    """Every pair at every shift, and sets that are merged until nothing changes."""
    first, bits = list(range(len(identities))), [bits_of(one) for one in identities]
    for one, other in combinations(range(len(identities)), 2):
        same = identities[one].digest == identities[other].digest
        products = bits[one] @ bits[other].T
        for shift in range(32 - len(bits[one]), len(bits[other]) - 31):
            along = np.diagonal(products, shift)
            same |= len(along) >= 32 and along.sum() / (16 * len(along)) >= SAME_FROM
        if same:
            low, high = sorted((first[one], first[other]))
            first = [low if value == high else value for value in first]
    return first


@settings(max_examples=30)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 90), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.05]), st.integers(0, 12)), max_size=5),
)
def test_the_index_finds_what_comparing_all_pairs_finds(seed, lengths, copies):
    rng = np.random.default_rng(seed)
    least = 2 * LEAST_WORDS  # shorter prints have so few places that wrong bits may hide one
    originals = [made(rng, frames if frames >= least else 0) for frames in lengths]
    others = [changed(rng, originals[n % len(originals)], share, shift) for n, share, shift in copies]
    others = [one if len(one.words) >= least else Identity(one.digest, one.words[:0]) for one in others]
    identities = [*originals, *others]
    assert first_of_each(Identities.of(identities)).tolist() == by_brute_force(identities)


def test_parts_of_the_work_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    originals = [made(rng, 120) for _ in range(40)]
    identities = Identities.of([*originals, *(changed(rng, one, 0.1, 3) for one in originals[::2])])
    whole = first_of_each(identities)
    assert whole.tolist() == [*range(40), *range(0, 40, 2)]
    monkeypatch.setattr(recordings, "_PLACES_AT_ONCE", 500)
    monkeypatch.setattr(recordings, "_ROWS_AT_ONCE", 7)
    assert first_of_each(identities).tolist() == whole.tolist()
    asked = first_of_each(identities, 5)
    assert asked.tolist() == [*range(40), 0, 2, 4, *range(43, 60)]


def test_correlations_are_those_of_the_bits():
    rng = np.random.default_rng(4)
    one, other = made(rng, 60), made(rng, 80)
    bits = [bits_of(one), bits_of(other)]
    shift = np.array([-25, 0, 7, 45, 49])
    expected = []
    for start in shift:
        a, b = (bits[0], bits[1][start:]) if start >= 0 else (bits[0][-start:], bits[1])
        n = min(len(a), len(b))
        expected.append((a[:n] * b[:n]).mean() if n >= 32 else 0)
    rows = np.zeros(5, np.int64)
    identities = Identities.of([one, other])
    found = correlations(identities, rows, rows + 1, shift, np.full(5, -60))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    (part,) = correlations(identities, rows[:1], rows[:1] + 1, shift[2:3], np.array([20]))
    np.testing.assert_allclose(part, (bits[0][20:] * bits[1][27:67]).mean(), atol=1e-12)


def test_files_of_the_first_version_are_read(tmp_path):
    path = tmp_path / "identities.npz"
    write_identities(path, Identities.of(IDENTITIES))
    arrays = dict(np.load(path))
    write_arrays(path, arrays | {"version": np.array(1)})
    np.testing.assert_array_equal(read_identities(path).words, Identities.of(IDENTITIES).words)
    write_arrays(path, arrays | {"version": np.array(3)})
    with pytest.raises(DataError, match="version 3, this is version 2"):
        read_identities(path)


def test_files_come_back_and_damaged_ones_are_refused(tmp_path):
    path = tmp_path / "identities.npz"
    identities = Identities.of([*IDENTITIES[:2], Identity(b"12345678", np.zeros(0, np.uint16))])
    write_identities(path, identities)
    back = read_identities(path)
    for name in ("digests", "lengths", "words"):
        np.testing.assert_array_equal(getattr(back, name), getattr(identities, name))
    turned = identities.take(np.array([2, 1, 0]))
    assert turned.words.tolist() == [*IDENTITIES[1].words, *IDENTITIES[0].words]
    for arrays in (
        {"digests": identities.digests},
        {**vars(identities), "version": np.array(1)},
    ):
        write_arrays(path, arrays)
        with pytest.raises(DataError, match=r"identities\.npz: "):
            read_identities(path)


def test_identities_come_back_from_their_bytes():
    again = Identity.from_bytes(IDENTITIES[0].to_bytes())
    assert again.digest == IDENTITIES[0].digest and again.words.tolist() == IDENTITIES[0].words.tolist()
    with pytest.raises(ValueError, match="8 bytes"):
        Identity.from_bytes(b"short")
