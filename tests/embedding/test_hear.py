"""The HEAR API: what hear-validator asks of a module, asked here, as it wants an old Python."""

import sys

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from kerasrep.embedding import hear
from kerasrep.embedding.representations import model_fingerprint, open_representation
from kerasrep.errors import DataError, ExportError

RATE_HZ = 22_050


@pytest.fixture(scope="module")
def model(small_export):
    return hear.load_model(str(small_export))


def noise(sounds, seconds, rate_hz=RATE_HZ):
    return np.random.default_rng(0).uniform(-1, 1, (sounds, int(seconds * rate_hz))).astype(np.float32)


def test_the_model_says_what_it_is(model):
    assert isinstance(model, tf.Module)
    assert model.sample_rate == 22_050 and type(model.sample_rate) is int
    assert model.scene_embedding_size == 1024 and type(model.scene_embedding_size) is int
    assert model.timestamp_embedding_size == 512 and type(model.timestamp_embedding_size) is int


def test_scenes_are_embedded_as_files_are(model, small_model, tmp_path):
    audio = noise(4, 2.74)
    embeddings = hear.get_scene_embeddings(tf.constant(audio), model)
    assert isinstance(embeddings, tf.Tensor) and embeddings.dtype == tf.float32
    assert embeddings.shape == (4, model.scene_embedding_size)
    soundfile.write(tmp_path / "a.wav", audio[1], RATE_HZ, subtype="FLOAT")  # mono, doubled there too
    np.testing.assert_allclose(embeddings[1], small_model.embed_file(tmp_path / "a.wav"), atol=1e-5)


@pytest.mark.parametrize("seconds", [1.07, 1.98, 4.0, 0.02])
def test_timestamps_are_regular_and_reach_the_end(model, seconds):
    embeddings, timestamps = hear.get_timestamp_embeddings(tf.constant(noise(2, seconds)), model)
    assert embeddings.dtype == timestamps.dtype == tf.float32
    assert embeddings.shape == (2, timestamps.shape[1], model.timestamp_embedding_size)
    assert timestamps.shape == embeddings.shape[:2]
    times = timestamps.numpy()
    steps = np.diff(times)
    assert (steps > 0).all() and (steps <= 50).all()
    assert np.abs(steps - steps.mean()).max(initial=0) < 1 if steps.size else True
    assert (times[:, 0] == 0).all()
    assert (times[:, -1] <= 1000 * seconds).all() and (times[:, -1] >= 1000 * seconds - 50).all()
    np.testing.assert_array_equal(times[0], times[1])


def test_a_timestamp_is_in_the_middle_of_what_its_embedding_is_of(model, small_model):
    audio = noise(1, 4.0)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
    number = 40
    middle = round(float(timestamps[0, number]) / 1000 * RATE_HZ)
    start = middle - 55_125 // 2
    around = np.repeat(audio[0, start : start + 55_125, None], 2, axis=1)
    expected = small_model.embed_segments(around[None])[0]
    np.testing.assert_allclose(embeddings[0, number], expected, atol=1e-5)
    beginning = np.zeros((55_125, 2), np.float32)
    beginning[55_125 // 2 :] = audio[0, : 55_125 - 55_125 // 2, None]
    np.testing.assert_allclose(embeddings[0, 0], small_model.embed_segments(beginning[None])[0], atol=1e-5)


def test_the_times_do_not_drift(model, monkeypatch):
    seen = []
    monkeypatch.setattr(hear, "TIMESTAMP_HOP_MILLISECONDS", 25.0)  # 551.25 samples
    stereo = np.zeros((60 * RATE_HZ, 2), np.float32)
    stereo[:, 0] = np.arange(len(stereo))
    moments = np.arange(2400) * 0.025
    for _, segments in hear._around(stereo, moments, model.embedder):
        seen.extend(segments[:, 55_125 // 2, 0])
    np.testing.assert_allclose(seen, moments * RATE_HZ, atol=0.51)


def test_a_sound_does_not_depend_on_its_neighbours(model):
    audio = noise(3, 1.5)
    together = hear.get_scene_embeddings(audio, model)
    alone = np.concatenate([hear.get_scene_embeddings(audio[k : k + 1], model) for k in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    together, _ = hear.get_timestamp_embeddings(audio, model)
    alone, _ = hear.get_timestamp_embeddings(audio[1:2], model)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-6)


def test_tensors_come_back_in_the_library_that_they_came_in(model):
    audio = noise(1, 0.5)
    plain = hear.get_scene_embeddings(audio, model)
    assert isinstance(plain, np.ndarray)
    torch = pytest.importorskip("torch")
    scene = hear.get_scene_embeddings(torch.from_numpy(audio), model)
    embeddings, timestamps = hear.get_timestamp_embeddings(torch.from_numpy(audio), model)
    assert scene.dtype == embeddings.dtype == timestamps.dtype == torch.float32
    np.testing.assert_array_equal(scene.numpy(), plain)


def test_our_own_evaluation_takes_the_module(small_export, tmp_path, small_model):
    representation = open_representation(f"hear:kerasrep.embedding.hear:{small_export}")
    assert representation.dimension == 1024
    audio = noise(1, 3.0)[0] * 0.1
    found = representation.embed(audio, RATE_HZ)
    np.testing.assert_allclose(found, small_model.embed(audio, RATE_HZ), atol=1e-5)
    assert representation.fingerprint


def test_a_model_of_another_fingerprint_is_refused(small_export):
    own = model_fingerprint(small_export)
    assert hear.load_model(str(small_export), own).sample_rate == 22_050
    with pytest.raises(ExportError, match=f"has the fingerprint {own}, not 1234"):
        hear.load_model(str(small_export), "1234")


@pytest.mark.parametrize("rate_hz", [(8_000, 16_000), (22_050, 22_050), (32_000, 44_100), (96_000, 48_000)])
def test_the_rate_is_one_that_hear_allows(model, rate_hz):
    class Other:
        sample_rate_hz, allowed = rate_hz
        dimension = 4

    assert hear.HearModel(Other()).sample_rate == Other.allowed


@pytest.mark.parametrize(
    "audio", [np.zeros((0, 5), np.float32), np.zeros((2, 0)), np.zeros(5), np.zeros((1, 5), int), [[np.nan]]]
)
def test_what_is_no_audio_is_told(model, audio):
    for function in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(DataError):
            function(np.asarray(audio), model)


def test_pytorch_is_not_imported_where_nobody_uses_it(model):
    before = "torch" in sys.modules
    hear.get_scene_embeddings(noise(1, 0.1), model)
    assert ("torch" in sys.modules) == before
