from functools import cache

import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf

from kerasrep import constants
from kerasrep.corpora.demo.arrangement import Arrangement, Voice
from kerasrep.corpora.demo.pieces import sound_font
from kerasrep.corpora.demo.recording import render
from kerasrep.model.frontend import BandedFilterbank, build_frontend, in_chunks, kapre
from kerasrep.recipe.network import AudioSettings

SEGMENT, RATE_HZ = constants.SEGMENT_SAMPLES, constants.SAMPLE_RATE_HZ


def librosa_log_mel(waveform, audio=None):
    """[samples, 2] -> [frames, mels, 2], with `top_db` over both channels together."""
    audio = audio or AudioSettings()
    power = [
        librosa.feature.melspectrogram(
            y=channel,
            sr=audio.sample_rate_hz,
            n_fft=audio.fft_samples,
            hop_length=audio.hop_samples,
            n_mels=audio.n_mels,
            window="hann",
            center=True,
            pad_mode="constant",
            power=2.0,
            norm="slaney",
            htk=False,
        )
        for channel in waveform.T
    ]
    joint = np.stack(power, -1)
    decibels = librosa.power_to_db(joint.reshape(audio.n_mels, -1), ref=1.0, amin=1e-10, top_db=80.0)
    return decibels.reshape(joint.shape).transpose(1, 0, 2)


def signals():
    rng = np.random.default_rng(0)
    time = np.arange(SEGMENT) / RATE_HZ
    tones = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.1 * np.sin(2 * np.pi * 5000 * time)], 1)
    noise = rng.normal(0, 0.1, (SEGMENT, 2))
    quiet_right = noise * np.asarray([1.0, 1e-6])
    impulse = np.zeros((SEGMENT, 2))
    impulse[0] = impulse[SEGMENT // 2] = 1.0
    return {
        "tones": tones,
        "noise": noise,
        "silence": np.zeros((SEGMENT, 2)),
        "clipping": np.clip(20 * tones, -1, 1),
        "one channel 120 dB below": quiet_right,
        "impulses": impulse,
        "very quiet": 1e-4 * noise,
        "a rendered track": rendered_track(),
    }


@cache
def rendered_track():
    """Two instruments of the demo corpus, a rising scale against held notes."""
    starts = np.arange(8) * 0.3
    scale = Voice(73, starts, np.full(8, 0.28), 60 + np.arange(8), np.full(8, 90), level=1.0, pan=-0.4)
    held = Voice(48, np.zeros(2), np.full(2, 2.4), np.asarray([48, 55]), np.full(2, 70), level=0.5, pan=0.5)
    arrangement = Arrangement((scale, held), 100.0, 0, "duo", 0.0)
    return render(arrangement, constants.SEGMENT_SECONDS, sound_font())[:SEGMENT] / 32768


@pytest.fixture(scope="module")
def frontend():
    return build_frontend()


@pytest.mark.parametrize("name", list(signals()))
def test_log_mel_equals_librosa(frontend, name):
    waveform = signals()[name].astype(np.float32)
    found = frontend(waveform[None]).numpy()[0]
    assert found.shape == (constants.SEGMENT_FRAMES, constants.N_MELS, 2)
    np.testing.assert_allclose(found, librosa_log_mel(waveform), atol=2e-3)


def kapre_chain():
    """Kapre's own layers alone, one after the other, channels last."""
    kapre = pytest.importorskip("kapre")
    waveform = keras.Input((SEGMENT, 2))
    x = keras.layers.ZeroPadding1D(512)(waveform)
    x = kapre.STFT(n_fft=1024, hop_length=256, window_name="hann_window")(x)
    x = keras.ops.square(kapre.Magnitude()(x))
    filters = {
        "sample_rate": RATE_HZ,
        "n_freq": 513,
        "n_mels": 128,
        "f_min": 0.0,
        "f_max": RATE_HZ / 2,
        "htk": False,
        "norm": "slaney",
    }
    x = kapre.ApplyFilterbank(type="mel", filterbank_kwargs=filters)(x)
    return keras.Model(waveform, kapre.MagnitudeToDecibel(1.0, 1e-10, 80.0)(x))


def test_the_faster_order_gives_the_numbers_of_kapres_own_chain(frontend):
    waveforms = np.stack(list(signals().values())).astype(np.float32)
    np.testing.assert_allclose(frontend(waveforms).numpy(), kapre_chain()(waveforms).numpy(), atol=5e-5)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_an_example_does_not_depend_on_the_batch_it_is_in(frontend, batch):
    waveforms = np.stack(list(signals().values())[:batch]).astype(np.float32)
    together = frontend(waveforms).numpy()
    for waveform, found in zip(waveforms, together, strict=True):
        np.testing.assert_allclose(found, librosa_log_mel(waveform), atol=2e-3)


def test_any_length_gives_one_frame_a_hop_and_one_more(frontend):
    for samples in (256, 1000, 22_050):
        waveform = np.random.default_rng(samples).normal(0, 0.1, (samples, 2)).astype(np.float32)
        found = frontend(waveform[None]).numpy()[0]
        assert len(found) == 1 + samples // 256
        np.testing.assert_allclose(found, librosa_log_mel(waveform), atol=2e-3)


@pytest.mark.parametrize("samples", [None, 9000])
def test_each_layer_gives_the_shape_and_type_that_it_states(samples):
    frontend = build_frontend(AudioSettings(reference="segment"), samples)
    outputs = [layer.output for layer in frontend.layers[1:]]
    found = keras.Model(frontend.input, outputs)(np.zeros((3, 9000, 2), np.float32))
    for stated, value in zip(outputs, found, strict=True):
        assert stated.dtype == keras.backend.standardize_dtype(value.dtype)
        assert len(stated.shape) == len(value.shape)
        assert all(size in (None, there) for size, there in zip(stated.shape, value.shape, strict=True))
        assert samples is None or None not in stated.shape[1:]


def test_other_rates_and_geometries_equal_librosa_as_well():
    audio = AudioSettings(sample_rate_hz=16_000, fft_samples=512, hop_samples=160, n_mels=64)
    waveform = np.random.default_rng(1).normal(0, 0.1, (8000, 2)).astype(np.float32)
    found = build_frontend(audio)(waveform[None]).numpy()[0]
    np.testing.assert_allclose(found, librosa_log_mel(waveform, audio), atol=2e-3)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("n_mels", [1, 15, 16, 64, 128, 300])
def test_filters_applied_band_by_band_equal_kapres_dense_product(data_format, n_mels):
    filters = {"sample_rate": RATE_HZ, "n_freq": 513, "n_mels": n_mels, "f_min": 0.0, "f_max": RATE_HZ / 2}
    arguments = {"type": "mel", "filterbank_kwargs": filters | {"htk": False, "norm": "slaney"}}
    shape = (2, 2, 7, 513) if data_format == "channels_first" else (2, 7, 513, 2)
    power = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    banded, dense = (
        kind(**arguments, data_format=data_format) for kind in (BandedFilterbank, kapre.ApplyFilterbank)
    )
    np.testing.assert_allclose(banded(power), dense(power), rtol=1e-5, atol=1e-7)
    again = BandedFilterbank.from_config(banded.get_config())
    np.testing.assert_array_equal(again(power), banded(power))
    assert banded.compute_output_shape(shape) == dense(power).shape


def test_a_compiled_front_end_equals_a_plain_one(frontend):
    waveforms = np.stack(list(signals().values())[:3]).astype(np.float32)
    compiled = build_frontend(compiled=True)
    np.testing.assert_allclose(compiled(waveforms).numpy(), frontend(waveforms).numpy(), atol=5e-5)


@pytest.mark.parametrize("batch", [1, 3, 4, 8, 10])
@pytest.mark.parametrize("static", [False, True])
def test_in_chunks_each_example_gives_what_it_gives_alone(frontend, batch, static):
    waveforms = np.random.default_rng(batch).normal(0, 0.1, (batch, 4000, 2)).astype(np.float32)
    signature = [tf.TensorSpec((batch if static else None, 4000, 2), tf.float32)]
    run = tf.function(in_chunks(frontend), input_signature=signature)
    assert run.get_concrete_function().output_shapes.as_list()[0] == (batch if static else None)
    np.testing.assert_allclose(run(waveforms).numpy(), frontend(waveforms).numpy(), atol=5e-5)


def test_the_front_end_has_no_weights_to_train(frontend):
    assert frontend.trainable_variables == []


@pytest.mark.parametrize("name", ["tones", "noise"])
def test_decibels_below_the_loudest_value_do_not_depend_on_the_level(name):
    frontend = build_frontend(AudioSettings(reference="segment"), SEGMENT)
    signal = signals()[name].astype(np.float32)
    found = frontend(np.stack([signal, 0.1 * signal])).numpy()
    expected = librosa_log_mel(signal)
    np.testing.assert_allclose(found[0], expected - expected.max(), atol=5e-3)
    np.testing.assert_allclose(found[1], found[0], atol=5e-3)
