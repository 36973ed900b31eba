"""Decoding: both decoders against each other, resampling against known tones, and files that are broken."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
import soundfile
import soxr
from sound_files import as_of_48_khz, by_ffmpeg, by_libsndfile, in_webm, with_skipping_times

from kerasrep.data import audio, notices
from kerasrep.data.audio import decode, decode_blocks, read_header
from kerasrep.data.decoders import ffmpeg
from kerasrep.errors import DataError, RunError
from kerasrep.runtime import extras

RATE_HZ = 22_050


def tone(frequencies_hz, seconds=1.0, rate_hz=RATE_HZ, amplitude=0.5):
    """float64 [samples, channels], one sine a channel."""
    time_seconds = np.arange(round(seconds * rate_hz))[:, None] / rate_hz
    return amplitude * np.sin(2 * np.pi * np.asarray(frequencies_hz) * time_seconds)


def write(path, samples, rate_hz=RATE_HZ, **options):
    soundfile.write(path, samples, rate_hz, **options)
    return path


def refusal(path, *arguments):
    """The one line that refuses a file; it names the file."""
    with pytest.raises(DataError) as caught:
        decode(path, RATE_HZ, *arguments)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def test_pcm_comes_back_exactly(tmp_path):
    values = np.random.default_rng(0).integers(-32768, 32768, size=(3000, 2), dtype=np.int16)
    decoded = decode(write(tmp_path / "a.wav", values), RATE_HZ)
    assert (decoded.dtype, decoded.shape) == (np.float32, (3000, 2))
    np.testing.assert_array_equal(decoded * 32768, values)


def test_mono_is_doubled(tmp_path):
    samples = tone([440])
    decoded = decode(write(tmp_path / "a.wav", samples, subtype="FLOAT"), RATE_HZ)
    np.testing.assert_array_equal(decoded, np.repeat(samples.astype(np.float32), 2, axis=1))


@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_are_resampled_as_soxr_resamples_all_at_once(tmp_path, channels):
    samples = np.random.default_rng(0).normal(0, 0.1, (600_000, channels)).astype(np.float32)
    decoded = decode(write(tmp_path / "a.wav", samples, 48_000, subtype="FLOAT"), RATE_HZ)
    expected = soxr.resample(samples, 48_000, RATE_HZ, quality="HQ")
    np.testing.assert_allclose(decoded, np.broadcast_to(expected, decoded.shape), atol=1e-6)


def test_mono_at_another_rate_is_what_two_equal_channels_are(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, (600_000, 1)).clip(-1, 1)
    mono = decode(write(tmp_path / "a.flac", samples, 48_000), RATE_HZ)
    stereo = decode(write(tmp_path / "b.flac", np.repeat(samples, 2, axis=1), 48_000), RATE_HZ)
    assert len(mono) == pytest.approx(600_000 * RATE_HZ / 48_000, abs=1)
    np.testing.assert_array_equal(mono, stereo)


def test_channels_of_unknown_places_go_to_both_sides_with_equal_power(tmp_path):
    samples = tone([200, 300, 400, 500], amplitude=0.2).astype(np.float32)
    decoded = decode(path := write(tmp_path / "a.wav", samples, subtype="FLOAT"), RATE_HZ)
    np.testing.assert_allclose(decoded[:, 0], samples.sum(axis=1) / 2, atol=1e-7)
    np.testing.assert_array_equal(decoded[:, 0], decoded[:, 1])
    assert np.mean(decoded[:, 0] ** 2) == pytest.approx(np.mean(samples**2), rel=1e-3)
    assert notices.take(9) == [f"{path}: does not say where its 4 channels stand; each goes to both sides"]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_resampling_gives_the_same_tone_at_the_new_rate(tmp_path, rate_hz):
    decoded = decode(
        write(tmp_path / "a.wav", tone([1000, 1700], 4, rate_hz), rate_hz, subtype="FLOAT"), RATE_HZ
    )
    expected = tone([1000, 1700], 4, RATE_HZ)
    assert abs(len(decoded) - len(expected)) <= 1
    middle = slice(RATE_HZ // 2, -RATE_HZ // 2)  # the filter sees silence beyond the ends
    np.testing.assert_allclose(decoded[: len(expected)][middle], expected[: len(decoded)][middle], atol=1e-4)


def test_resampling_removes_what_the_new_rate_cannot_hold(tmp_path):
    path = write(tmp_path / "a.wav", tone([15_000], 2, 44_100), 44_100)
    middle = decode(path, RATE_HZ)[RATE_HZ // 2 : -RATE_HZ // 2]
    assert 20 * np.log10(np.abs(middle).max() / 0.5) < -80


def test_blocks_leave_no_seam(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", tone([440, 441], 2, 44_100), 44_100, subtype="FLOAT")
    whole = decode(path, RATE_HZ)
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 1009)
    np.testing.assert_allclose(decode(path, RATE_HZ), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("rate_hz", "channels", "bit_rate"), [(48_000, 2, 64_000), (22_050, 2, 32_000), (22_050, 1, 24_000)]
)
def test_blocks_of_an_mp3_lose_nothing_that_a_frame_takes_from_those_before(
    tmp_path, monkeypatch, rate_hz, channels, bit_rate
):
    walk = np.random.default_rng(0).normal(0, 0.1, (10 * rate_hz, channels)).cumsum(axis=0)
    layout = ("mono", "stereo")[channels - 1]
    path = tmp_path / "a.mp3"
    path.write_bytes(by_ffmpeg("mp3", "libmp3lame", np.sin(walk) / 2, rate_hz, layout, bit_rate))
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 1009)
    decoded = decode(path, rate_hz)[:, :channels]
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_allclose(decoded, whole, atol=1e-6)
    np.testing.assert_allclose(decoded, np.concatenate(list(ffmpeg.blocks(path))), atol=1e-4)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_opus_of_speech_and_of_music_is_decoded_as_libopus_does_in_any_container(tmp_path, rate_hz, channels):
    time_seconds = np.arange(3 * rate_hz)[:, None] / rate_hz
    pitches = 0.15 * sum(np.sin(2 * np.pi * f * time_seconds + np.arange(channels)) for f in (220, 331, 447))
    sound = pitches * (1 + 0.5 * np.sin(5 * time_seconds)) + np.random.default_rng(0).normal(
        0, 0.02, (len(time_seconds), channels)
    )
    content = as_of_48_khz(by_libsndfile("OGG", "OPUS", sound, rate_hz))
    (tmp_path / "a.opus").write_bytes(content)
    expected, _ = soundfile.read(tmp_path / "a.opus", dtype="float32", always_2d=True)
    for name, changed in (("times.opus", with_skipping_times(content)), ("a.webm", in_webm(content))):
        path = tmp_path / name
        path.write_bytes(changed)
        found = decode(path, 48_000)
        n = min(len(found), len(expected))
        assert n > 2.9 * 48_000
        np.testing.assert_allclose(found[:n, :channels], expected[:n], atol=1e-5)


@pytest.mark.parametrize("decoder", ["soundfile", pytest.param("tensorflow-io", marks=pytest.mark.io)])
def test_only_the_beginning_is_taken_where_a_limit_is_set(tmp_path, decoder):
    path = write(tmp_path / "a.wav", tone([440, 550], 3))
    limited = decode(path, RATE_HZ, decoder, max_seconds=1.5)
    assert len(limited) == round(1.5 * RATE_HZ)
    np.testing.assert_array_equal(limited, decode(path, RATE_HZ)[: len(limited)])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.flac", {"subtype": "PCM_S8"}),
        ("a.flac", {"subtype": "PCM_16"}),
        ("a.flac", {"subtype": "PCM_24"}),
        ("a.ogg", {"subtype": "VORBIS"}),
        ("a.mp3", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.io
def test_both_decoders_give_the_same_samples(tmp_path, name, options, channels):
    path = write(tmp_path / name, tone([440, 660][:channels], rate_hz=44_100), 44_100, **options)
    ours, other = decode(path, 44_100), decode(path, 44_100, "tensorflow-io")
    np.testing.assert_allclose(ours, other, atol=2e-6)
    assert np.abs(ours).max() > 0.4


@pytest.mark.io
def test_tensorflow_io_refuses_what_it_cannot_decode(tmp_path):
    path = write(tmp_path / "a.aiff", tone([440]))
    assert len(decode(path, RATE_HZ)) == RATE_HZ
    assert "set audio.decoder to soundfile" in refusal(path, "tensorflow-io")


def test_header_says_what_the_file_holds(tmp_path):
    header = read_header(write(tmp_path / "a.flac", tone([440, 550, 660], 2, 48_000), 48_000))
    assert (header.sample_rate_hz, header.frames, header.channels) == (48_000, 96_000, 3)
    assert (header.seconds, header.format) == (2, "FLAC")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    samples = tone([440], 4).astype(np.float32)
    samples[70_000] = value  # not in the first block
    assert "NaN or infinite" in refusal(write(tmp_path / "a.wav", samples, subtype="FLOAT"))


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_last_sample_that_is_no_number_is_found_at_another_rate(tmp_path, channels):
    samples = tone([440] * channels, 4, 48_000).astype(np.float32)
    samples[-1, -1] = np.nan
    assert "NaN or infinite" in refusal(write(tmp_path / "a.wav", samples, 48_000, subtype="FLOAT"))


def test_things_that_are_no_files_are_refused_without_waiting(tmp_path):
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "fifo.wav")
    assert "cannot be read" in refusal(tmp_path / "missing.wav")
    assert "cannot be read" in refusal(tmp_path / "loop.wav")
    assert "not a regular file" in refusal(tmp_path / "folder.wav")
    assert "not a regular file" in refusal(tmp_path / "fifo.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg", "a.raw"])
@pytest.mark.parametrize("content", [b"", b"these are words, not sound\n" * 500, bytes(5000)])
def test_what_is_no_audio_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path)


def test_a_file_without_samples_is_refused(tmp_path):
    assert "no samples" in refusal(write(tmp_path / "a.wav", np.zeros((0, 2))))


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_file_cut_in_half_is_refused(tmp_path, name):
    path = write(tmp_path / name, 0.1 * np.random.default_rng(0).normal(size=(200_000, 2)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "broken after" in (message := refusal(path)) or "ends after" in message


CUTS = [
    ("a.wav", {"subtype": "PCM_16"}),
    ("a.wav", {"subtype": "PCM_16", "endian": "BIG"}),
    ("a.wav", {"subtype": "IMA_ADPCM"}),
    ("a.wav", {"subtype": "PCM_24", "format": "WAVEX"}),
    ("a.aiff", {"subtype": "PCM_16"}),
    ("a.aiff", {"subtype": "FLOAT"}),
    ("a.mp3", {}),
    ("a.flac", {}),
]


@pytest.mark.parametrize(("name", "options"), CUTS)
@pytest.mark.parametrize("kept", [0.2, 0.98])
def test_a_file_that_ends_early_is_refused_but_its_beginning_can_be_had(tmp_path, name, options, kept):
    path = write(tmp_path / name, 0.1 * np.random.default_rng(0).normal(size=(200_000, 2)), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "broken after" in (message := refusal(path)) or "ends after" in message
    assert len(decode(path, RATE_HZ, max_seconds=0.5)) == round(0.5 * RATE_HZ)


@pytest.mark.parametrize(("name", "options"), [cut for cut in CUTS if cut[0] in {"a.wav", "a.aiff"}])
def test_a_file_that_ends_hardly_early_is_taken_as_it_is(tmp_path, name, options):
    path = write(tmp_path / name, 0.1 * np.random.default_rng(0).normal(size=(200_000, 2)), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.995)])
    assert 190_000 < len(decode(path, RATE_HZ)) < 200_300


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF])
@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_the_sizes_of_streams_are_no_promise(tmp_path, name, size):
    path = write(tmp_path / name, tone([440, 550]))
    content = bytearray(path.read_bytes())
    position = content.index(b"data" if name == "a.wav" else b"SSND") + 4
    content[position : position + 4] = struct.pack("<I" if name == "a.wav" else ">I", size)
    path.write_bytes(content)
    assert len(decode(path, RATE_HZ)) == RATE_HZ


def test_chunks_before_the_samples_hide_no_early_end(tmp_path):
    path = write(tmp_path / "a.wav", tone([440, 550]))
    content = path.read_bytes()
    position = content.index(b"data")
    chunk = b"LIST" + struct.pack("<I", 5) + b"data\xff\0"  # odd, and with a name that is none
    path.write_bytes(content[:position] + chunk + content[position:])
    assert len(decode(path, RATE_HZ)) == RATE_HZ
    path.write_bytes(path.read_bytes()[:-10_000])
    assert "ends after 78200 of 88200 bytes" in refusal(path)


def with_flac_frames(path, frames):
    """Change the 36-bit frame count of a FLAC file's STREAMINFO."""
    content = bytearray(path.read_bytes())
    field = int.from_bytes(content[18:26], "big")
    content[18:26] = (field >> 36 << 36 | frames).to_bytes(8, "big")
    path.write_bytes(content)


@pytest.mark.parametrize("decoder", ["soundfile", pytest.param("tensorflow-io", marks=pytest.mark.io)])
@pytest.mark.parametrize("frames", [150_000, 2**31, 2**36 - 1])
def test_a_frame_count_that_is_too_large_is_refused_by_both_decoders(tmp_path, decoder, frames):
    path = write(tmp_path / "a.flac", 0.1 * np.random.default_rng(0).normal(size=(100_000, 2)))
    with_flac_frames(path, frames)
    assert "frames" in refusal(path, decoder)


@pytest.mark.io
def test_a_false_data_size_never_reaches_tensorflow_io(tmp_path):
    """Its decoder would abort the process; it gets the samples that are there behind another header."""
    path = write(tmp_path / "a.wav", tone([440, 550]))
    content = bytearray(path.read_bytes())
    position = content.index(b"data") + 4
    content[position : position + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content)
    assert len(decode(path, RATE_HZ)) == RATE_HZ
    np.testing.assert_array_equal(decode(path, RATE_HZ, "tensorflow-io"), decode(path, RATE_HZ))


@pytest.mark.io
@pytest.mark.parametrize("align", [0, 1, 65_535])
def test_a_false_block_align_never_reaches_tensorflow_io(tmp_path, align):
    """Its decoder divides by it."""
    path = write(tmp_path / "a.wav", tone([440, 550]))
    right = decode(path, RATE_HZ)
    content = bytearray(path.read_bytes())
    content[32:34] = struct.pack("<H", align)
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(path, RATE_HZ, "tensorflow-io"), right)


def test_a_rate_that_cannot_be_is_refused(tmp_path):
    assert "rate of 7 Hz" in refusal(write(tmp_path / "a.wav", tone([1]), 7))


def test_a_name_that_is_not_utf8_is_decoded_like_any_other(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "plain.wav", np.linspace(-0.5, 0.5, 3000), 22_050)
    (tmp_path / "plain.wav").rename(path)
    audio = np.concatenate(list(decode_blocks(path, 22_050)))
    np.testing.assert_allclose(audio[:, 0], np.linspace(-0.5, 0.5, 3000), atol=1e-4)
    broken = tmp_path / os.fsdecode(b"brok\xe9n.wav")
    broken.write_bytes(b"no audio")
    with pytest.raises(DataError, match="no audio that libsndfile or ffmpeg reads"):
        list(decode_blocks(broken, 22_050))


@pytest.mark.parametrize("code", [0, 1, 7])
def test_what_is_said_of_a_broken_file_is_not_what_libsndfile_says_of_a_file_of_another_thread(
    tmp_path, monkeypatch, code
):
    path = tmp_path / "a.wav"
    path.write_bytes(b"no audio")
    alone = refusal(path)

    def open_beside_another(*_):  # libsndfile has one number for the last fault of all threads
        raise soundfile.LibsndfileError(code)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", open_beside_another)
    monkeypatch.setattr(soundfile.SoundFile, "__del__", lambda sound: None)
    assert refusal(path) == alone


def test_text_with_a_suffix_of_headerless_samples_is_no_audio(tmp_path):
    for suffix in ("au", "snd"):
        (tmp_path / f"a.{suffix}").write_text("words " * 500)
        assert "is no audio" in refusal(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("value", [1e11, -1e30])
def test_samples_whose_power_has_no_number_are_refused(tmp_path, value):
    samples = np.zeros((50, 4), np.float32)
    samples[7, 2] = value
    message = refusal(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert "where full scale is 1" in message


def test_files_of_many_channels_are_read_in_short_blocks(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).normal(0, 0.1, (5000, 100)).astype(np.float32)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    whole = decode(path, RATE_HZ)
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 10_000)
    blocks = [len(block) for block in decode_blocks(path, RATE_HZ)]
    assert max(blocks) == 100
    np.testing.assert_array_equal(decode(path, RATE_HZ), whole)


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ({}, r"^audio.decoder: tensorflow-io: needs tensorflow_io; .* install 'kerasrep\[io\]'$"),
        ({"tensorflow_io": "0.37.1"}, r"needs TensorFlow 2\.17, here is 2\.20\.0; .* 'kerasrep\[io\]'"),
    ],
)
def test_a_decoder_that_cannot_run_here_is_refused_with_the_line_to_install_it(
    monkeypatch, installed, message
):
    monkeypatch.setattr(extras, "find_spec", installed.get)
    monkeypatch.setattr(audio.metadata, "version", lambda _: "2.20.0")
    audio.require_decoder("soundfile")
    with pytest.raises(RunError, match=message):
        audio.require_decoder("tensorflow-io")
