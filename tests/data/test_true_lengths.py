"""How long a file is does not depend on what its header counts: every container, every wrong count."""

from __future__ import annotations

import contextlib
import mmap
import shutil
import struct
import subprocess

import av
import numpy as np
import pytest
import sound_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sound_files import FRAMES, RATE_HZ, by_libsndfile, music

from kerasrep.data import notices
from kerasrep.data.audio import decode, decode_blocks, read_header
from kerasrep.data.decoders import ffmpeg, flac
from kerasrep.data.decoders.content import find
from kerasrep.errors import DataError

CASES = {case.name: case for case in sound_files.all_cases()}


def written(case, folder):
    path = folder / case.name
    path.write_bytes(case.make())
    return path


def decoded(path, decoder="soundfile"):
    """At the file's own rate."""
    return decode(path, read_header(path).sample_rate_hz, decoder)


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        decode(path, RATE_HZ, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("name", CASES)
def test_all_that_was_written_is_read(tmp_path, name):
    case = CASES[name]
    path = written(case, tmp_path)
    samples = decoded(path)
    ratio = read_header(path).sample_rate_hz / case.rate_hz  # Opus is 48 kHz
    frames = case.frames * ratio
    assert abs(len(samples) - frames) <= case.slack * ratio
    assert abs(read_header(path).frames - frames) <= max(case.slack * ratio, 0.06 * frames)
    if case.exact is not None:
        np.testing.assert_array_equal(samples, case.exact)


@pytest.mark.io
def test_the_other_decoder_reads_all_or_says_why_not(tmp_path):
    refused = {}
    for name, case in CASES.items():
        path = written(case, tmp_path)
        try:
            samples = decoded(path, "tensorflow-io")
        except DataError as error:
            refused[name] = str(error)
        else:
            np.testing.assert_allclose(samples, decoded(path), atol=2e-6, err_msg=name)
    assert all("set audio.decoder to soundfile" in reason for reason in refused.values())
    assert {"right.wav", "unknown.wav", "right.mp3", "right.ogg"} <= set(CASES) - set(refused)


def test_ffmpeg_alone_believes_some_of_these_headers(tmp_path):
    """Why it is not asked first: what it gives for headers of the first second is the first second."""
    short = set()
    for name, case in CASES.items():
        path = written(case, tmp_path)
        with contextlib.suppress(av.error.InvalidDataError), av.open(str(path)) as container:
            stream = container.streams.audio[0]
            n_samples = sum(frame.samples for frame in container.decode(stream))
            if n_samples / stream.rate < 0.9 * case.frames / case.rate_hz:
                short.add(name)
    assert {"second.wav", "second.caf", "second.w64", "second.rf64", "both.wav"} <= short
    assert not {name for name in short if name.endswith((".flac", ".opus"))}


@pytest.mark.parametrize("lost_bits", [0, 32])
def test_a_wav_file_of_more_than_four_gibibytes_has_no_wrapped_length(tmp_path, lost_bits):
    """Its header counts modulo 2^32, or nothing."""
    content = by_libsndfile("WAV", "PCM_16", music(1000))
    n_bytes = (1 << 32) + 100_000
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(content[:40] + struct.pack("<I", n_bytes % (1 << 32) >> lost_bits) + content[44:])
        file.truncate(44 + n_bytes)  # the rest is a hole
    assert read_header(path).frames == n_bytes // 4
    np.testing.assert_array_equal(decode(path, RATE_HZ, max_seconds=0.01), music(1000)[:220])


def test_files_one_after_another_are_refused_where_only_the_first_would_be_read(tmp_path):
    for name, form in (("a.wav", "WAV"), ("a.flac", "FLAC"), ("a.aiff", "AIFF"), ("a.au", "AU")):
        one = by_libsndfile(form, "PCM_16", music())
        (tmp_path / name).write_bytes(one + one)
        assert "one after another" in refusal(tmp_path / name)


@given(
    head=st.integers(0, 40),
    rest=st.lists(st.sampled_from([b"f", b"fL", b"fLaC", b"fLaC\0\0\0", b"xyz"]), max_size=12),
    second=st.booleans(),
    piece=st.integers(1, 30),
)
def test_a_second_flac_file_is_found_wherever_it_begins(head, rest, second, piece):
    data = b"fLaC" + bytes(head) + b"".join(rest) + b"fLaC\0\0\0\x22" * second
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flac, "_PIECE_BYTES", piece)
        assert flac._occurs(data, b"fLaC\0\0\0\x22", 4) == (data.find(b"fLaC\0\0\0\x22", 4) >= 0)


def test_blocks_of_what_libsndfile_cannot_read_are_the_file_in_portions_that_pay(tmp_path):
    path = tmp_path / "a.m4a"
    path.write_bytes(sound_files.by_ffmpeg("ipod", "aac", music(200_000)))
    blocks = list(ffmpeg.blocks(path))
    assert [len(block) >= 50_000 for block in blocks[:-1]] == [True] * 3
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray().T for frame in file.decode(audio=0)]
    np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(frames))


def test_frames_of_several_types_of_samples_are_one_recording(tmp_path, monkeypatch):
    values = np.linspace(-0.5, 0.5, 8, dtype=np.float32)
    integers = np.round(values * 32_768).astype(np.int16)
    made = [(values[None], "fltp"), (integers[None], "s16"), (integers[None], "s16p"), (values[None], "flt")]
    frames = [av.AudioFrame.from_ndarray(array, format=kind, layout="mono") for array, kind in made]
    for frame in frames:
        frame.sample_rate = RATE_HZ
    monkeypatch.setattr(ffmpeg, "_frames", lambda path: iter(frames))
    found = np.concatenate(list(ffmpeg.blocks(tmp_path)))
    np.testing.assert_allclose(found[:, 0], np.tile(values, 4), atol=1 / 32_768)


def test_a_file_that_changes_its_rate_is_refused(tmp_path):
    for name, content in {
        "a.mp3": sound_files.mp3(music()) + by_libsndfile("MP3", "MPEG_LAYER_III", music(), 44_100),
        "a.ogg": sound_files.with_serial(by_libsndfile("OGG", "VORBIS", music()), 1)
        + sound_files.with_serial(by_libsndfile("OGG", "VORBIS", music(), 44_100), 2),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert "changes" in refusal(tmp_path / name)


def test_an_empty_wav_file_with_a_title_holds_no_samples(tmp_path):
    content = by_libsndfile("WAV", "PCM_16", np.zeros((0, 2)))
    path = tmp_path / "a.wav"
    path.write_bytes(content + b"LIST" + struct.pack("<I", 6004) + b"INFO" + bytes(6000))
    assert "holds no samples" in refusal(path)


def test_adpcm_of_a_stale_size_is_refused(tmp_path):
    content = by_libsndfile("WAV", "IMA_ADPCM", music())
    path = tmp_path / "a.wav"
    path.write_bytes(sound_files.patched(content, content.index(b"data") + 4, "<I", 2048))
    assert "convert it again" in refusal(path)


def lengths_of(name):
    """A container, where its counts stand, and how."""
    content = CASES[name].make()
    places = {
        "right.wav": [(4, "<I"), (content.find(b"data") + 4, "<I")],
        "right.aiff": [(4, ">I"), (content.find(b"SSND") + 4, ">I"), (content.find(b"COMM") + 10, ">I")],
        "right.au": [(8, ">I")],
        "right.caf": [(content.find(b"data") + 4, ">q")],
        "right.w64": [(16, "<q"), (content.find(b"data\xf3\xac") + 16, "<q")],
        "right.rf64": [(20, "<q"), (28, "<q"), (36, "<q")],
        "0-16.flac": [(21, ">B"), (22, ">I")],
        "right.mp3": [(max(content.find(b"Xing"), content.find(b"Info")) + n, ">I") for n in (8, 12)],
    }
    return content, places[name]


COUNTED = (
    "right.wav",
    "right.aiff",
    "right.au",
    "right.caf",
    "right.w64",
    "right.rf64",
    "0-16.flac",
    "right.mp3",
)


@pytest.mark.parametrize("name", COUNTED)
def test_whatever_a_header_counts_all_is_read_or_refused(tmp_path_factory, name):
    content, places = lengths_of(name)
    path = tmp_path_factory.mktemp("patched") / name

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 2 * FRAMES * 4), min_size=3, max_size=3))
    def check(values):
        patched = content
        for (place, form), value in zip(places, values, strict=False):
            number = value
            if form == ">B":  # which holds four bits of something else
                number = content[place] & 0xF0 | value & 0xF
            patched = sound_files.patched(patched, place, form, number)
        path.write_bytes(patched)
        try:
            n_samples = sum(len(block) for block in decode_blocks(path, RATE_HZ))
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
        else:  # less than 4 kB behind the samples are no samples
            assert FRAMES - 1200 <= n_samples <= FRAMES + 3 * 1152

    check()


def test_lengths_and_samples_are_those_of_the_ffmpeg_command(tmp_path):
    command = shutil.which("ffmpeg")
    if command is None:
        pytest.skip("the command ffmpeg is not installed")
    for name, case in CASES.items():
        if not name.startswith("other."):
            continue
        path = written(case, tmp_path)
        arguments = [command, "-v", "error", "-i", str(path), "-f", "f32le", "-"]
        raw = subprocess.run(arguments, capture_output=True, check=True).stdout
        theirs, ours = np.frombuffer(raw, "<f4").reshape(-1, 2), decoded(path)
        assert abs(len(theirs) - len(ours)) <= case.slack, name
        common = min(len(theirs), len(ours))
        np.testing.assert_allclose(ours[:common], theirs[:common], atol=1e-4, err_msg=name)


def hole(content, where, n_bytes):
    start = int(len(content) * where)
    return content[:start] + content[start + n_bytes :]


@pytest.mark.parametrize(("form", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS")])
@pytest.mark.parametrize("n_bytes", [4_000, 20_000])
def test_a_hole_in_a_short_ogg_file_is_a_reason(tmp_path, form, subtype, n_bytes):
    path = tmp_path / "a.ogg"
    path.write_bytes(hole(by_libsndfile(form, subtype, music(8 * 24_000), 24_000), 0.5, n_bytes))
    assert "are damaged" in refusal(path)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_lost_page_of_a_long_ogg_file_is_a_notice(tmp_path, subtype):
    samples = music(120 * 24_000, channels=1, rate_hz=24_000)
    content = bytearray(by_libsndfile("OGG", subtype, samples, 24_000))
    content[len(content) // 2] ^= 4
    path = tmp_path / "a.ogg"
    path.write_bytes(content)
    seconds = len(decode(path, 8_000)) / 8_000
    assert 118.8 <= seconds <= 120.1
    (notice,) = notices.take(9)
    assert notice.startswith(f"{path}: ") and "damaged and left out" in notice


def test_an_ogg_file_that_ends_within_a_page_is_refused_and_without_a_last_page_noticed(tmp_path):
    content = by_libsndfile("OGG", "VORBIS", music())
    path = tmp_path / "a.ogg"
    path.write_bytes(content[:-500])
    assert "ends within a page" in refusal(path)
    path.write_bytes(b"".join(sound_files.ogg_pages(content)[:-1]))
    assert len(decode(path, RATE_HZ)) < FRAMES
    assert notices.take(9) == [f"{path}: has no last page; it may be cut"]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("other.")])
def test_half_of_a_file_is_refused_where_its_header_says_how_long_it_is(tmp_path, name):
    path = tmp_path / name
    content = CASES[name].make()
    path.write_bytes(content[: len(content) // 2])
    if name.endswith((".aac", ".ac3", ".mp2")):  # which have no header
        assert len(decode(path, RATE_HZ)) < 0.6 * CASES[name].frames
    else:
        assert refusal(path)


def test_a_cut_mp3_file_is_told_by_the_count_in_its_header(tmp_path):
    path = tmp_path / "a.mp3"
    content = sound_files.mp3(music())
    path.write_bytes(content[: len(content) // 2])
    assert "ends after" in refusal(path)


def test_an_mp3_file_is_read_behind_a_small_hole_and_refused_with_a_large_one(tmp_path):
    samples = music(60 * RATE_HZ)
    content = sound_files.without_first_frame(sound_files.mp3(samples))
    path = tmp_path / "a.mp3"
    middle = len(content) // 2
    for n_bytes in (300, 20_000):
        path.write_bytes(content[:middle] + bytes(n_bytes) + content[middle + n_bytes :])
        if n_bytes > 1000:
            assert "s are damaged" in refusal(path)
        else:
            found = decode(path, RATE_HZ)
            assert abs(len(found) - len(samples)) <= 3 * 1152 and np.abs(found).max() <= 1
            (notice,) = notices.take(9)
            assert "s are damaged and left out" in notice


def test_samples_behind_a_false_size_are_said(tmp_path):
    path = written(CASES["second.wav"], tmp_path)
    assert len(decoded(path)) == FRAMES
    counts = f"its header counts {4 * RATE_HZ} bytes of samples, and {4 * FRAMES} are there and taken"
    assert notices.take(9) == [f"{path}: {counts}"]
    decoded(written(CASES["unknown.wav"], tmp_path))  # as a pipe leaves it
    assert notices.take(9) == []


def test_a_playlist_named_like_audio_opens_no_other_file(tmp_path):
    (tmp_path / "b.wav").write_bytes(by_libsndfile("WAV", "PCM_16", music()))
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{tmp_path}/b.wav\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {tmp_path}/b.wav\n",
    ):
        path = tmp_path / "a.m4a"
        path.write_text(text)
        assert "is no audio that libsndfile or ffmpeg reads" in refusal(path)


def test_a_film_gives_its_sound_and_a_film_without_is_refused(tmp_path):
    def film(path, sound):
        with av.open(str(path), "w") as container:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 32
            audio = container.add_stream("aac", rate=RATE_HZ, layout="stereo") if sound else None
            for number in range(100):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                picture.pts = number
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
            if audio:
                whole = np.ascontiguousarray(music().T)
                frame = av.AudioFrame.from_ndarray(whole, format="fltp", layout="stereo")
                frame.sample_rate = RATE_HZ
                resampler = av.AudioResampler("fltp", "stereo", RATE_HZ, 1024)
                for part in [*resampler.resample(frame), *resampler.resample(None)]:
                    container.mux(audio.encode(part))
                container.mux(audio.encode(None))

    film(tmp_path / "a.mp4", sound=True)
    assert abs(len(decode(tmp_path / "a.mp4", RATE_HZ)) - FRAMES) <= 2100
    film(tmp_path / "b.mkv", sound=False)
    assert "has no sound" in refusal(tmp_path / "b.mkv")


def test_a_file_of_zeros_is_refused_at_once(tmp_path):
    path = tmp_path / "a.mp3"
    with path.open("wb") as file:
        file.truncate(20 << 30)
    assert "never written" in refusal(path)


@pytest.mark.parametrize("gap", [0, 7, 14, 16, 40])
def test_a_mapped_file_is_searched_piece_by_piece(tmp_path, monkeypatch, gap):
    monkeypatch.setattr("kerasrep.data.decoders.content._SEARCHED_BYTES", 8)
    path = tmp_path / "a"
    path.write_bytes(bytes(gap) + b"OggS" + bytes(5) + b"OggS")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        whole = path.read_bytes()
        for start in range(len(whole)):
            for end in (None, gap + 3, gap + 4, len(whole)):
                assert find(data, b"OggS", start, end) == whole.find(b"OggS", start, end)
