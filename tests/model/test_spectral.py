"""Kapre's layers and ours: the same numbers, configuration and files."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasrep import constants
from kerasrep.model import spectral
from kerasrep.model.frontend import build_frontend

FILTERS = {
    "sample_rate": constants.SAMPLE_RATE_HZ,
    "n_freq": 513,
    "n_mels": 128,
    "f_min": 0.0,
    "f_max": constants.SAMPLE_RATE_HZ / 2,
    "htk": False,
    "norm": "slaney",
}
STFT = {
    "n_fft": 1024,
    "hop_length": 256,
    "window_name": "hann_window",
    "input_data_format": "channels_last",
    "output_data_format": "channels_first",
}
#: Each layer's arguments, and a shape that it takes.
LAYERS = {
    "STFT": (STFT, (2, 9000, 2)),
    "ApplyFilterbank": (
        {"type": "mel", "filterbank_kwargs": FILTERS, "data_format": "channels_first"},
        (3, 2, 7, 513),
    ),
    "MagnitudeToDecibel": ({"ref_value": 1.0, "amin": 1e-10, "dynamic_range": 80.0}, (3, 2, 7, 128)),
}
# Builds the front end where there is no Kapre, saves it, and reads one that was saved here.
SCRIPT = """
import sys
sys.modules["kapre"] = None
import keras, numpy as np
from kerasrep.model.frontend import build_frontend, kapre
assert kapre.__name__ == "kerasrep.model.spectral"
waveform = np.load("waveform.npy")
model = build_frontend(samples=waveform.shape[1])
model.save("own.keras")
models = [model, *map(keras.saving.load_model, ("own.keras", "here.keras"))]
np.save("found.npy", [np.asarray(model(waveform)) for model in models])
"""


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_each_layer_has_kapres_numbers_and_configuration(name, data_format):
    kapre = pytest.importorskip("kapre")
    arguments, shape = LAYERS[name]
    if name == "ApplyFilterbank" and data_format == "channels_last":
        arguments, shape = arguments | {"data_format": data_format}, (3, 7, 513, 2)
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32) ** 8
    ours, kapres = (getattr(library, name)(**arguments, name="x") for library in (spectral, kapre))
    np.testing.assert_array_equal(np.asarray(ours(x)), np.asarray(kapres(x)))
    assert ours.get_config() == kapres.get_config()
    again = type(ours).from_config(kapres.get_config())
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(kapres(x)))
    stated, found = ours.compute_output_spec(keras.KerasTensor(shape)), ours(x)
    assert (stated.shape, stated.dtype) == (found.shape, keras.backend.standardize_dtype(found.dtype))


def test_without_kapre_the_front_end_has_the_same_bits_and_reads_the_same_files(tmp_path):
    waveform = np.random.default_rng(1).normal(0, 0.1, (3, 20_000, 2)).astype(np.float32)
    np.save(tmp_path / "waveform.npy", waveform)
    here = build_frontend(samples=waveform.shape[1])
    here.save(tmp_path / "here.keras")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, cwd=tmp_path, env=environment)
    expected = np.asarray(here(waveform))
    for found in np.load(tmp_path / "found.npy"):
        np.testing.assert_array_equal(found, expected)
    there = keras.saving.load_model(tmp_path / "own.keras")
    np.testing.assert_array_equal(np.asarray(there(waveform)), expected)


@pytest.mark.parametrize(
    ("layer", "changed"),
    [
        ("STFT", {"pad_begin": True}),
        ("STFT", {"window_name": "hamming_window"}),
        ("STFT", {"output_data_format": "channels_last"}),
        ("ApplyFilterbank", {"type": "log"}),
    ],
)
def test_what_only_kapres_layers_can_do_is_refused(layer, changed):
    with pytest.raises(ValueError, match="install kapre"):
        getattr(spectral, layer)(**(LAYERS[layer][0] | changed))
