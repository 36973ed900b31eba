import sys

import numpy as np
import pytest
import soundfile

from kerasrep.embedding.baselines import hear
from kerasrep.embedding.baselines.hear import Hear
from kerasrep.embedding.files import BadFile
from kerasrep.embedding.representations import open_representation, open_representations
from kerasrep.errors import DataError, RecipeError

MODULE = """
import tensorflow as tf

class Loudness(tf.Module):
    sample_rate = 16000
    scene_embedding_size = 3
    timestamp_embedding_size = 3

    def __init__(self, gain):
        self.gain = tf.Variable(gain)

def load_model(path=""):
    return Loudness(float(open(path).read()) if path else 1.0)

def get_scene_embeddings(audio, model):
    assert isinstance(audio, tf.Tensor) and audio.dtype == tf.float32 and audio.shape[0] == 1
    length = tf.cast(tf.shape(audio)[1:], tf.float32)
    mean, power = tf.reduce_mean(audio, 1), tf.reduce_mean(audio**2, 1)
    return model.gain * tf.stack([mean, power, length], axis=1)
"""

TORCH_MODULE = """
import torch

class Loudness(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 2

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(2.0))

def load_model(path=""):
    return Loudness()

def get_scene_embeddings(audio, model):
    assert isinstance(audio, torch.Tensor) and audio.dtype == torch.float32
    return model.gain * torch.stack([audio.mean(dim=1), (audio**2).mean(dim=1)], dim=1)
"""


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """A function that writes a module where Python finds it, under a name of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(code, name="loudness"):
        (tmp_path / f"{name}.py").write_text(code)
        written.append(name)
        sys.modules.pop(name, None)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0.1, 0.2, (samples, 2)).astype(np.float32)


def test_a_module_of_tensorflow_gets_mono_audio_at_its_rate(write_module):
    representation = open_representation(f"hear:{write_module(MODULE)}")
    stereo = noise(20_000)
    mono = stereo.mean(axis=1)
    found = representation.embed(stereo, 16_000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [mono.mean(), np.mean(mono**2), 20_000], rtol=1e-5)
    assert representation.embed(np.zeros(32_000, np.float32), 32_000)[2] == 16_000
    assert representation.dimension == 3
    assert representation.name == "hear:loudness"


def test_a_module_of_pytorch_gets_its_tensors(write_module):
    pytest.importorskip("torch")
    representation = open_representation(f"hear:{write_module(TORCH_MODULE)}")
    mono = noise(5_000).mean(axis=1)
    found = representation.embed(mono, 16_000)
    np.testing.assert_allclose(found, [2 * mono.mean(), 2 * np.mean(mono**2)], rtol=1e-5)


def test_weights_are_handed_to_load_model_and_into_the_fingerprint(write_module, tmp_path):
    module = write_module(MODULE)
    weights = tmp_path / "gain.txt"
    weights.write_text("3.0")
    plain, weighted = open_representation(f"hear:{module}"), open_representation(f"hear:{module}:{weights}")
    mono = noise(4_000).mean(axis=1)
    np.testing.assert_allclose(weighted.embed(mono, 16_000), 3 * plain.embed(mono, 16_000), rtol=1e-5)
    before = weighted.fingerprint
    assert len({before, plain.fingerprint}) == 2
    weights.write_text("4.0")
    assert open_representation(f"hear:{module}:{weights}").fingerprint != before
    write_module(MODULE + "# changed\n")
    assert open_representation(f"hear:{module}").fingerprint != plain.fingerprint


def test_names_are_short_and_tell_weights_apart(write_module, tmp_path):
    specs = [f"hear:{write_module(MODULE)}"]
    for folder, name in (("ann", "a.pt"), ("bob", "a.pt"), ("bob", "b.pt")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text("1.0")
        specs.append(f"{specs[0]}:{tmp_path / folder / name}")
    names = [one.name for one in open_representations(specs)]
    assert names == ["hear:loudness", *(f"hear:loudness:{n}" for n in ("ann/a.pt", "bob/a.pt", "b.pt"))]
    assert open_representation(specs[1]).name == "hear:loudness:a.pt"
    with pytest.raises(RecipeError, match="stands twice"):
        open_representations([specs[1], specs[1]])


def test_opening_imports_nothing(write_module):
    module = write_module("raise RuntimeError('imported')")
    representation = open_representation(f"hear:{module}")
    assert representation.fingerprint
    assert module not in sys.modules


def test_long_recordings_are_taken_in_parts_weighted_by_length(write_module, monkeypatch):
    monkeypatch.setattr(hear, "PART_SECONDS", 1)
    stereo = noise(40_000)
    found = Hear(write_module(MODULE)).embed(stereo, 16_000)
    mono = stereo.mean(axis=1)
    length = (2 * 16_000 * 16_000 + 8_000 * 8_000) / 40_000
    np.testing.assert_allclose(found, [mono.mean(), np.mean(mono**2), length], rtol=1e-4)


def test_files_are_embedded_and_bad_ones_told(write_module, tmp_path):
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", noise(9_000, number), 16_000, subtype="FLOAT")
    (tmp_path / "1.wav").write_text("no audio")
    code = MODULE.replace(
        "    length =", "    if audio.shape[1] == 7_000: raise ValueError('odd\\nlength')\n    length ="
    )
    soundfile.write(tmp_path / "3.wav", noise(7_000), 16_000)
    representation = Hear(write_module(code))
    results = list(representation.embed_files([tmp_path / f"{number}.wav" for number in range(4)]))
    assert [isinstance(result, BadFile) for result in results] == [False, True, False, True]
    np.testing.assert_allclose(results[2].embedding, representation.embed(noise(9_000, 2), 16_000), rtol=1e-5)
    assert results[3].reason.startswith(f"{tmp_path / '3.wav'}: hear:loudness: get_scene_embeddings failed")
    assert "odd length" in results[3].reason


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import not_there_at_all", "cannot be imported (ModuleNotFoundError: No module named"),
        ("raise SystemExit('stop')", "cannot be imported (SystemExit: stop)"),
        ("def load_model(path=''): pass", "has no function 'get_scene_embeddings'"),
        (
            MODULE.replace("return Loudness", "return 1 / 0 + Loudness"),
            "load_model failed (ZeroDivisionError",
        ),
        (MODULE.replace("sample_rate = 16000", "sample_rate = None"), "its model has sample_rate None"),
        (MODULE.replace("sample_rate = 16000", "sample_rate = 1.5"), "its model has sample_rate 1.5"),
        (MODULE.replace("embedding_size = 3", "embedding_size = 0"), "its model has scene_embedding_size 0"),
        (MODULE.replace("embedding_size = 3", "embedding_size = 4"), "gives [1, 3], [1, 4] was expected"),
    ],
)
def test_what_is_wrong_with_a_module_is_told_in_one_line(write_module, code, said):
    representation = Hear(write_module(code))
    with pytest.raises(DataError) as caught:
        representation.embed(noise(100), 16_000)
    assert said in str(caught.value)
    assert str(caught.value).startswith("hear:loudness: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        ("hear:not_there_at_all", DataError, "there is no module 'not_there_at_all'"),
        ("hear:not_there.at_all", DataError, "cannot be found"),
        ("hear:sys", DataError, ""),
        ("hear", RecipeError, "hear:MODULE"),
        ("hear:", RecipeError, "hear:MODULE"),
        ("hear:a b", RecipeError, "hear:MODULE"),
        ("hear:../x.py", RecipeError, "hear:MODULE"),
    ],
)
def test_what_is_no_module_is_told_in_one_line(spec, kind, said):
    with pytest.raises(kind) as caught:
        open_representation(spec).embed(noise(100), 16_000)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
