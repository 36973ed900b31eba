import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kerasrep.data.audio import decode
from kerasrep.embedding.files import BadFile, FileEmbedding, find_audio


def write(path, seconds=3.0, rate_hz=22_050, channels=2, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, (int(seconds * rate_hz), channels))
    soundfile.write(path, samples.astype(np.float32), rate_hz)
    return path


def test_folders_are_searched_at_any_depth_in_sorted_order(tmp_path):
    for name in ("b.wav", "a/z.FLAC", "a/b/c.mp3", "a.ogg", "notes.txt", ".hidden.wav", ".git/x.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    files, bad = find_audio([tmp_path])
    assert [p.relative_to(tmp_path).as_posix() for p in files] == ["a/b/c.mp3", "a/z.FLAC", "a.ogg", "b.wav"]
    assert bad == []


def test_named_files_come_in_order_whatever_their_suffix_and_once(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in.wav").touch()
    named = tmp_path / "folder" / "in.wav"
    files, bad = find_audio([Path("missing"), named, tmp_path / "folder", Path("x.dat"), Path("missing")])
    assert files == [Path("missing"), named, Path("x.dat")]
    assert bad == []


def test_a_folder_without_audio_is_bad(tmp_path):
    files, bad = find_audio([tmp_path])
    assert files == []
    assert [item.path for item in bad] == [tmp_path]
    assert "holds no audio files (looked for .wav .flac .mp3" in bad[0].reason
    assert len(bad[0].reason) < len(str(tmp_path)) + 120


def test_links_that_loop_end(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a.wav").touch()
    assert find_audio([tmp_path])[0] == [tmp_path / "a.wav"]


def test_files_are_embedded_as_their_waveforms(tmp_path, small_model):
    paths = [
        write(tmp_path / "stereo.wav", seconds=6.0),
        write(tmp_path / "mono.flac", rate_hz=44_100, channels=1, seed=1),
        write(tmp_path / "six.wav", rate_hz=48_000, channels=6, seed=2),
        write(tmp_path / "vorbis.ogg", rate_hz=32_000, seed=3),
    ]
    results = list(small_model.embed_in_order(paths))
    assert [result.path for result in results] == paths
    for path, result in zip(paths, results, strict=True):
        assert isinstance(result, FileEmbedding)
        waveform, rate_hz = soundfile.read(path, dtype="float32")
        np.testing.assert_allclose(result.embedding, small_model.embed(waveform, rate_hz), atol=1e-5)
        np.testing.assert_allclose(result.embedding, small_model.embed_file(path), atol=1e-5)
        stereo = decode(path, 22_050)
        np.testing.assert_allclose(result.embedding, small_model.embed(stereo, 22_050), atol=1e-5)
        assert result.seconds == pytest.approx(len(waveform) / rate_hz, abs=1e-3)


def test_bad_files_do_not_disturb_their_neighbours(tmp_path, small_model):
    first, last = write(tmp_path / "1.wav"), write(tmp_path / "9.wav", seed=1)
    late_nan = np.zeros(60 * 22_050, np.float32)
    late_nan[-1] = np.nan
    soundfile.write(tmp_path / "2.wav", late_nan, 22_050, subtype="FLOAT")
    (tmp_path / "3.wav").write_text("no audio")
    paths = [first, tmp_path / "2.wav", tmp_path / "3.wav", tmp_path / "missing.wav", last]
    results = list(small_model.embed_in_order(paths))
    assert [type(result) for result in results] == [FileEmbedding, BadFile, BadFile, BadFile, FileEmbedding]
    for path, result in zip(paths, results, strict=True):
        assert result.path == path
        if isinstance(result, BadFile):
            assert str(path) in result.reason
            assert "\n" not in result.reason
    np.testing.assert_allclose(results[0].embedding, small_model.embed_file(first), atol=1e-6)
    np.testing.assert_allclose(results[4].embedding, small_model.embed_file(last), atol=1e-6)


@pytest.mark.io
def test_the_other_decoder_gives_the_same(tmp_path, small_model):
    path = write(tmp_path / "a.wav")
    (found,) = small_model.embed_in_order([path], decoder="tensorflow-io")
    np.testing.assert_allclose(found.embedding, small_model.embed_file(path), atol=1e-5)


def test_stopping_early_leaves_no_thread_behind(tmp_path, small_model):
    paths = [write(tmp_path / f"{n}.wav") for n in range(3)]
    results = small_model.embed_in_order(paths)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
