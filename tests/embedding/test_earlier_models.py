"""Models that earlier releases wrote still load, and give the vectors that they gave."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from kerasrep.embedding.embedder import load

#: An export (less its warm-up requests), a run and its `.keras` file, with 0.06 times the channels and 1 s
#: segments, made with TensorFlow 2.17.1 and Keras 3.13.2 before Keras 3.14 refused their `Normalization`; and
#: the vectors that they gave then of seeded noise.
BEFORE = Path(__file__).with_name("before_keras_3_14.zip")


@pytest.mark.parametrize("kind", ["exported/before", "run/model.keras", "run"])
def test_models_made_before_keras_3_14_load_and_give_the_same_vectors(tmp_path, kind):
    with zipfile.ZipFile(BEFORE) as archive:
        archive.extractall(tmp_path)
    waveform = np.random.default_rng(0).normal(0, 0.1, (50_000, 2)).astype(np.float32)
    found = load(tmp_path / kind).embed(waveform, sample_rate_hz=22_050)
    expected = np.load(tmp_path / "vectors.npz")[kind.replace("/", "_")]
    assert np.count_nonzero(expected) > 500
    np.testing.assert_allclose(found, expected, atol=1e-5)
