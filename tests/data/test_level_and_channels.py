"""Full scale, loudspeakers and phase: what a file means, whatever it is written like."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from sound_files import RATE_HZ, by_ffmpeg, by_libsndfile, music

from kerasrep.data import notices
from kerasrep.data.audio import decode
from kerasrep.data.decoders import downmix
from kerasrep.data.shard_decoding import to_int16
from kerasrep.errors import DataError

SURROUND = ("FL", "FR", "FC", "LFE", "BL", "BR")


def tones(n_channels, rate_hz=RATE_HZ):
    time = np.arange(rate_hz)[:, None] / rate_hz
    frequencies_hz = 200 + 150 * np.arange(n_channels)
    return (0.1 * np.sin(2 * np.pi * frequencies_hz * time)).astype(np.float32)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("form", ["WAV", "AIFF", "CAF"])
def test_integers_written_as_floats_are_refused(tmp_path, form, subtype):
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(by_libsndfile(form, subtype, music() * 32_768))
    with pytest.raises(DataError, match="where full scale is 1; divide it by its full scale"):
        decode(path, RATE_HZ)


def test_loud_float_files_are_clipped_as_shards_are_and_said(tmp_path):
    loud = (4 * music(RATE_HZ)).astype(np.float32)
    soundfile.write(path := tmp_path / "a.wav", loud, RATE_HZ, subtype="FLOAT")
    decoded = decode(path, RATE_HZ)
    np.testing.assert_array_equal(decoded, np.clip(loud, -1, 1))
    full_scale = 32_768
    assert np.abs(to_int16(decoded) / full_scale - decoded).max() <= 1 / full_scale
    n_clipped = np.count_nonzero(np.abs(loud) > 1)
    assert n_clipped > 100
    assert notices.take() == [f"{path}: {n_clipped} samples are beyond full scale and clipped"]


def test_five_speakers_and_a_subwoofer_are_mixed_as_bs775_has_it(tmp_path):
    samples = tones(6)
    path = tmp_path / "a.wav"
    path.write_bytes(by_ffmpeg("wav", "pcm_s16le", samples, layout="5.1"))
    half = np.sqrt(0.5)
    front_left, front_right, centre, _, back_left, back_right = samples.T
    left, right = front_left + half * (centre + back_left), front_right + half * (centre + back_right)
    np.testing.assert_allclose(decode(path, RATE_HZ), np.stack([left, right], 1), atol=1e-4)
    assert notices.take() == []


@pytest.mark.parametrize(
    ("suffix", "codec", "layout", "channels", "rate_hz"),
    [
        ("wav", "pcm_s16le", "5.1", 6, RATE_HZ),
        ("wav", "pcm_s16le", "quad", 4, RATE_HZ),
        ("wav", "pcm_s16le", "7.1", 8, RATE_HZ),
        ("wav", "pcm_s16le", "3.0", 3, RATE_HZ),
        ("flac", "flac", "5.1", 6, RATE_HZ),
        ("caf", "pcm_s16le", "5.1", 6, RATE_HZ),
        ("ogg", "libopus", "5.1", 6, 48_000),
        ("ogg", "libsndfile", "5.1", 6, RATE_HZ),
        ("wv", "wavpack", "5.1(side)", 6, RATE_HZ),
        ("ac3", "ac3", "5.1(side)", 6, 48_000),
    ],
)
def test_surround_is_mixed_as_the_ffmpeg_command_mixes_it(tmp_path, suffix, codec, layout, channels, rate_hz):
    """Its mix of floats is not scaled down, as that of integers is."""
    command = shutil.which("ffmpeg")
    if command is None:
        pytest.skip("the command ffmpeg is not installed")
    path = tmp_path / f"a.{suffix}"
    sound = tones(channels, rate_hz)
    if codec == "libsndfile":
        path.write_bytes(by_libsndfile("OGG", "VORBIS", sound, rate_hz))
    else:
        path.write_bytes(by_ffmpeg(suffix, codec, sound, rate_hz, layout))
    # The AC-3 decoder would mix by levels that the file names; what is asked for is the recommendation's.
    mix = ["-af", "aformat=sample_fmts=fltp,aresample=internal_sample_fmt=fltp:out_chlayout=stereo"]
    decoder = ["-c:a", codec] if codec == "libopus" else []  # ffmpeg's own differs from the authors'
    arguments = [command, "-v", "error", *decoder, "-i", str(path), *mix, "-f", "f32le", "-"]
    theirs = np.frombuffer(subprocess.run(arguments, capture_output=True, check=True).stdout, "<f4")
    ours = decode(path, rate_hz)
    common = min(len(ours), len(theirs) // 2)
    assert common >= 0.95 * rate_hz
    np.testing.assert_allclose(ours[:common], theirs.reshape(-1, 2)[:common], atol=2e-3)


@pytest.mark.parametrize("channels", [3, 5, 16, 100])
def test_a_mix_of_unknown_places_keeps_the_mean_power(channels):
    noise = np.random.default_rng(0).normal(0, 0.1, (50_000, channels)).astype(np.float32)
    mixed = downmix.to_stereo(noise, ())
    np.testing.assert_array_equal(mixed[:, 0], mixed[:, 1])
    assert np.mean(mixed[:, 0] ** 2) == pytest.approx(np.mean(noise**2), rel=0.02)


def test_what_the_mix_is_does_not_depend_on_the_length_of_blocks():
    noise = np.random.default_rng(1).normal(0, 0.1, (5_000, 6)).astype(np.float32)
    whole = downmix.to_stereo(noise, SURROUND)
    parts = [downmix.to_stereo(noise[start : start + 77], SURROUND) for start in range(0, 5_000, 77)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def through_phase(samples, block=1_000, window=4_096):
    told = []
    blocks = (samples[start : start + block] for start in range(0, len(samples), block))
    return np.concatenate(list(downmix.in_phase(blocks, window, lambda: told.append(1)))), bool(told)


def test_ordinary_stereo_goes_through_bit_by_bit():
    for samples in (music(), tones(1).repeat(2, axis=1), np.zeros((9_000, 2), np.float32)):
        came, told = through_phase(samples)
        np.testing.assert_array_equal(came, samples)
        assert not told


def test_sides_of_opposite_phase_are_turned_so_that_their_mean_is_the_sound():
    left = music(channels=1)
    came, told = through_phase(np.concatenate([left, -0.95 * left], axis=1))
    assert told
    np.testing.assert_allclose(came.mean(axis=1), 0.975 * left[:, 0], atol=1e-6)
    assert np.array_equal(
        through_phase(np.concatenate([left, -left], 1), block=333)[0], np.repeat(left, 2, 1)
    )


def test_channels_that_cancel_each_other_in_the_mix_are_said(tmp_path):
    front = tones(2)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([front, -front], axis=1), RATE_HZ, subtype="PCM_16")
    assert np.abs(decode(path, RATE_HZ)).max() < 1e-4  # rounding
    unknown = "does not say where its 4 channels stand; each goes to both sides"
    cancel = "its channels cancel each other where they are mixed to two"
    assert notices.take() == [f"{path}: {unknown}", f"{path}: {cancel}"]
    soundfile.write(path, np.concatenate([front, front], axis=1), RATE_HZ, subtype="PCM_16")
    decode(path, RATE_HZ)
    assert notices.take() == [f"{path}: {unknown}"]


def test_what_is_said_of_files_can_be_handed_to_another_process():
    notices.add("b.wav", "is odd")
    notices.add("a.wav", "is odd")
    handed = notices.hand_over()
    assert notices.take() == []
    for notice in handed:
        notices.add(*notice)
    assert notices.take() == ["a.wav: is odd", "b.wav: is odd"]
