import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.embedding.baselines import mel
from kerasrep.embedding.baselines.mel import MelGeometry, Mfcc, mel_frames
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.errors import DataError


def music(seconds, rate_hz=22_050, seed=0):
    """Float32 [samples, 2]: tones that come and go over noise, with a silent second in the beginning."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    rng = np.random.default_rng(seed)
    tones = sum(np.sin(2 * np.pi * f * times) * (np.sin(times * f / 300) > 0) for f in (220, 331, 1760))
    stereo = 0.2 * tones[:, None] + rng.normal(0, 0.01, (len(times), 2))
    stereo[: min(rate_hz, len(times) // 4)] = 0
    return stereo.astype(np.float32)


def by_librosa(stereo, mode="interp"):
    """What librosa gives for the whole recording at once."""
    mono = stereo.mean(axis=1)
    coefficients = librosa.feature.mfcc(y=mono, sr=22_050, n_mfcc=20)
    first = librosa.feature.delta(coefficients, mode=mode)
    second = librosa.feature.delta(coefficients, order=2, mode=mode)
    series = np.concatenate([coefficients, first, second])
    return np.concatenate([series.mean(axis=1), series.std(axis=1)])


def blocks(stereo, sizes):
    start = 0
    for size in sizes:
        yield stereo[start : start + size]
        start += size
    yield stereo[start:]


@pytest.mark.parametrize("seconds", [30.0, 2.5])
def test_it_is_what_librosa_gives(seconds):
    stereo = music(seconds)
    found = Mfcc().embed(stereo, 22_050)
    assert found.dtype == np.float32
    assert found.shape == (Mfcc().dimension,) == (120,)
    np.testing.assert_allclose(found, by_librosa(stereo, "nearest"), atol=2e-3)


def test_the_ends_of_deltas_hardly_matter():
    stereo = music(30.0)
    np.testing.assert_allclose(Mfcc().embed(stereo, 22_050), by_librosa(stereo), atol=0.1)


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize("samples", [1, 255, 257, 5_000, 16_000])
def test_mel_frames_are_those_of_the_whole_recording(monkeypatch, padding, samples):
    monkeypatch.setattr(mel, "BATCH_FRAMES", 7)
    geometry = MelGeometry(16_000, fft_samples=512, hop_samples=256, n_mels=96, padding=padding)
    stereo = music(1.0, 16_000)[-samples:]
    found = np.concatenate(list(mel_frames(blocks(stereo, [3, 0, 1000, 13]), geometry)))
    if samples > 1 or padding == "constant":  # librosa refuses to mirror one sample
        expected = librosa.feature.melspectrogram(
            y=stereo.mean(axis=1), sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode=padding
        ).T
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())
    assert found.shape == (1 + samples // 256, 96)


@given(st.lists(st.integers(0, 30_000), max_size=6))
def test_blocks_may_have_any_length(sizes):
    stereo = music(2.0)
    np.testing.assert_allclose(
        Mfcc().embed_blocks(blocks(stereo, sizes)), Mfcc().embed_blocks(iter([stereo])), atol=1e-3
    )


def test_long_recordings_are_taken_in_parts_with_statistics_over_all_frames(monkeypatch):
    stereo = music(12.0, seed=1)
    stereo[: 4 * 22_050] *= 0.5
    monkeypatch.setattr(mel, "PART_FRAMES", 200)
    monkeypatch.setattr(mel, "BATCH_FRAMES", 64)
    power = librosa.feature.melspectrogram(y=stereo.mean(axis=1), sr=22_050)
    parts = []
    for start in range(0, power.shape[1], 200):
        coefficients = librosa.feature.mfcc(S=librosa.power_to_db(power[:, start : start + 200]), n_mfcc=20)
        deltas = [librosa.feature.delta(coefficients, order=order, mode="nearest") for order in (1, 2)]
        parts.append(np.concatenate([coefficients, *deltas]))
    series = np.concatenate(parts, axis=1)
    expected = np.concatenate([series.mean(axis=1), series.std(axis=1)])
    np.testing.assert_allclose(Mfcc().embed(stereo, 22_050), expected, atol=2e-3)


@pytest.mark.parametrize("samples", [1, 100, 3_000])
def test_short_and_silent_recordings_have_finite_embeddings(samples):
    assert np.isfinite(Mfcc().embed(np.zeros(samples, np.float32), 22_050)).all()
    assert np.isfinite(Mfcc().embed_blocks(iter([]))).all()


def test_files_come_in_order_with_their_lengths(tmp_path):
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], music(1 + number / 10, seed=number), 22_050)
    (tmp_path / "text.wav").write_text("no audio")
    paths[3:3] = [tmp_path / "text.wav", tmp_path / "missing.wav"]
    results = list(Mfcc().embed_files(paths))
    assert [result.path for result in results] == paths
    bad = [result for result in results if isinstance(result, BadFile)]
    assert [result.path.name for result in bad] == ["text.wav", "missing.wav"]
    assert all(str(result.path) in result.reason and "\n" not in result.reason for result in bad)
    good = [result for result in results if isinstance(result, FileEmbedding)]
    assert [result.seconds for result in good] == pytest.approx([1 + n / 10 for n in range(12)], abs=1e-3)
    waveform, _ = soundfile.read(good[5].path, dtype="float32")
    np.testing.assert_allclose(good[5].embedding, Mfcc().embed(waveform, 22_050), atol=1e-4)


def test_what_is_no_waveform_is_told_in_one_line():
    with pytest.raises(DataError, match="no samples"):
        Mfcc().embed(np.zeros(0, np.float32), 22_050)


def test_the_fingerprint_changes_with_the_code(monkeypatch):
    before = Mfcc().fingerprint
    assert int(before, 16)
    assert Mfcc().fingerprint == before
    monkeypatch.setattr(mel, "VERSION", 2)
    assert Mfcc().fingerprint != before
