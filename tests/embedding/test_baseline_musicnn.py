"""The tests that need the published wheel run where it is at `MUSICNN_WHEEL`:
python -m pip download --no-deps --dest . musicnn==0.1.0
"""

import os
import zipfile
from pathlib import Path

import librosa
import numpy as np
import pytest

from kerasrep.embedding.baselines import musicnn
from kerasrep.embedding.baselines.mel import mel_frames
from kerasrep.embedding.baselines.musicnn import Musicnn, patch_batches
from kerasrep.embedding.representations import open_representation
from kerasrep.errors import DataError

WHEEL = os.environ.get("MUSICNN_WHEEL")
with_wheel = pytest.mark.skipif(
    not (WHEEL and Path(WHEEL).is_file()), reason="MUSICNN_WHEEL names no musicnn-0.1.0 wheel"
)
#: Size of each layer's kernel, as the paper's figure 1 and the authors' package have them.
KERNELS = [
    (7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51),
    (7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64),
]  # fmt: skip


def sweep(seconds, rate_hz=16_000):
    """Float32 [samples, 2]: a loud rising tone over noise."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).normal(0, 0.05, (len(times), 2))
    return (0.8 * np.sin(2 * np.pi * (100 + 200 * times) * times)[:, None] + noise).astype(np.float32)


def drawn_weights():
    rng = np.random.default_rng(0)
    weights = {}
    for number, shape in enumerate(KERNELS):
        name = musicnn._variable("conv2d", number)
        weights[f"{name}/kernel"] = rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        weights[f"{name}/bias"] = rng.normal(0, 0.1, shape[-1])
        empty = rng.random(shape[-1]) < (0.6 if number < 6 else 0)
        weights[f"{name}/kernel"][..., empty] *= 1e-9
    for number, size in enumerate([1, *(shape[-1] for shape in KERNELS)]):
        name = musicnn._variable("batch_normalization", number)
        for part in ("gamma", "beta", "moving_mean"):
            weights[f"{name}/{part}"] = rng.normal(0, 1, size)
        weights[f"{name}/moving_variance"] = rng.uniform(0.5, 2, size)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def convolved(x, kernel, bias):
    """Valid convolution over time of [frames, bands], all of a kernel's bands at each position."""
    length, width, _, _ = kernel.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (length, width))
    flat = windows.reshape(*windows.shape[:2], length * width)
    return flat @ kernel.reshape(length * width, -1) + bias


def normalised(x, weights, number):
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    scale = weights[f"{name}/gamma"] / np.sqrt(weights[f"{name}/moving_variance"] + 0.001)
    return (x - weights[f"{name}/moving_mean"]) * scale + weights[f"{name}/beta"]


def by_hand(patch, weights):
    """One patch [187, 96] through the network, written out in NumPy; returns [1506]."""
    x = normalised(patch[:, :, None].astype(np.float64), weights, 0)[:, :, 0]

    def layer(number, padded):
        name = f"conv2d_{number}" if number else "conv2d"
        maps = np.maximum(convolved(padded, weights[f"{name}/kernel"], weights[f"{name}/bias"]), 0)
        return normalised(maps, weights, number + 1)

    def padded(features, before, after):
        return np.pad(features, ((before, after), (0, 0)))

    front = [layer(number, padded(x, 3, 3)).max(axis=1) for number in (0, 1)]
    for number, length in ((2, 128), (3, 64), (4, 32)):
        front.append(layer(number, padded(x, length // 2 - 1, length // 2)).max(axis=1))
    front = np.concatenate(front, axis=1)
    first = layer(5, padded(front, 3, 3))[:, 0]
    second = layer(6, padded(first, 3, 3))[:, 0] + first
    third = layer(7, padded(second, 3, 3))[:, 0] + second
    features = np.concatenate([front, first, second, third], axis=1)
    return np.concatenate([features.mean(axis=0), features.max(axis=0)])


def test_the_network_is_the_described_one():
    weights = drawn_weights()
    patches = np.random.default_rng(1).uniform(0, 4, (2, 187, 96)).astype(np.float32)
    found = musicnn.build_network(weights)(patches)
    everything = by_hand(patches[0], weights)
    live = np.tile(musicnn.live_features(weights), 2)
    varies = np.abs(everything - by_hand(patches[1], weights)) > 1e-6
    assert not varies[~live].any()
    assert live.sum() / 2 < varies.sum() <= live.sum() < 1000
    np.testing.assert_allclose(found[0], everything[live], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("frames", "patches"), [(1, 1), (186, 1), (187, 1), (373, 1), (374, 2), (2000, 10)])
def test_patches_follow_each_other_and_short_recordings_are_repeated(frames, patches):
    spectrum = np.arange(frames, dtype=np.float32)[:, None] * np.ones((1, 96), np.float32)
    batches = [spectrum[start : start + 100] for start in range(0, frames, 100)]
    found = list(patch_batches(batches, batch_patches=4))
    assert all(len(batch) <= 4 for batch in found)
    joined = np.concatenate(found)
    assert joined.shape == (patches, 187, 96)
    np.testing.assert_array_equal(joined[:, :, 0].ravel(), np.arange(patches * 187) % frames)


def test_the_spectrum_is_librosas():
    stereo = sweep(4.0)
    expected = librosa.feature.melspectrogram(
        y=stereo.mean(axis=1), sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect"
    )
    found = musicnn.compress(np.concatenate(list(mel_frames(iter([stereo]), musicnn.GEOMETRY))))
    np.testing.assert_allclose(found, np.log10(10_000 * expected.T + 1), atol=1e-4)
    assert np.isfinite(found).all()
    assert (10_000 * expected).max() > np.finfo(np.float16).max  # where half precision would overflow


def test_a_missing_wheel_is_told_with_the_command(monkeypatch, tmp_path):
    monkeypatch.delenv("MUSICNN_WHEEL", raising=False)
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    with pytest.raises(DataError) as caught:
        open_representation("musicnn")
    command = f"python -m pip download --no-deps --dest {tmp_path / 'musicnn'} musicnn==0.1.0"
    assert str(caught.value).endswith(command)
    assert "\n" not in str(caught.value)


def test_the_wheel_is_looked_for_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSICNN_WHEEL", str(tmp_path))
    assert musicnn.wheel_path() == tmp_path / musicnn.WHEEL_NAME
    monkeypatch.setenv("MUSICNN_WHEEL", str(tmp_path / "my folder" / "renamed.whl"))
    assert musicnn.wheel_path() == tmp_path / "my folder" / "renamed.whl"
    assert f"--dest '{tmp_path / 'my folder'}' musicnn" in musicnn.fetch_command()


def test_any_other_wheel_is_refused(monkeypatch, tmp_path):
    wheel = tmp_path / musicnn.WHEEL_NAME
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("musicnn/MSD_musicnn/.index", b"")
        archive.writestr("../../escaped", b"")
    monkeypatch.setenv("MUSICNN_WHEEL", str(wheel))
    with pytest.raises(DataError, match="is not the published wheel"):
        open_representation("musicnn")
    with pytest.raises(DataError, match="cannot be read"):
        musicnn.read_weights(wheel)
    assert not (tmp_path.parent.parent / "escaped").exists()


def original_pools(wheel, folder, patches):
    """Mean and maximum over time that the authors' own graph gives; none of their code runs."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    with zipfile.ZipFile(wheel) as archive:
        for name in (".index", ".data-00000-of-00001", ".meta"):
            (folder / f"msd{name}").write_bytes(archive.read(f"musicnn/MSD_musicnn/{name}"))
    meta = meta_graph_pb2.MetaGraphDef.FromString((folder / "msd.meta").read_bytes())
    pools = ["model/moments/mean", "model/Max"]
    reader = tf.train.load_checkpoint(str(folder / "msd"))
    with tf.Graph().as_default() as graph:
        # The gradients' part of the graph is refused by today's TensorFlow, and not needed.
        part = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, pools)
        tf.import_graph_def(part, name="")
        variables = [op for op in graph.get_operations() if op.type == "VariableV2"]
        feed = {op.outputs[0]: reader.get_tensor(op.name) for op in variables}
        inputs = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
        feed |= {t: patches if t.dtype == tf.float32 else False for t in inputs}
        with tf.compat.v1.Session() as session:
            found = session.run([f"{name}:0" for name in pools], feed)
    return np.concatenate([pool.reshape(len(patches), 753) for pool in found], axis=1)


@with_wheel
def test_it_gives_what_the_original_graph_gives(tmp_path):
    representation = open_representation("musicnn")
    track = sweep(14.0)
    frames = np.concatenate(list(mel_frames(iter([track]), musicnn.GEOMETRY)))
    patches = musicnn.compress(np.concatenate(list(patch_batches([frames]))))
    assert len(patches) == 4
    everything = original_pools(WHEEL, tmp_path, patches)
    live = np.tile(musicnn.live_features(musicnn.read_weights(Path(WHEEL))), 2)
    assert everything[:, ~live].std(axis=0).max() < 1e-6
    assert np.median(everything[:, live].std(axis=0)) > 0.1
    expected = everything[:, live]
    assert np.abs(expected).max() > 10
    found = representation.embed(track, 16_000)
    np.testing.assert_allclose(found, expected.mean(axis=0), rtol=1e-4, atol=1e-3)
    assert representation.dimension == found.size == 424
    assert representation.fingerprint == Musicnn().fingerprint


@with_wheel
def test_files_are_embedded_side_by_side_as_one_by_one(tmp_path):
    import soundfile

    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        soundfile.write(path, sweep(3 + number), 16_000)
    representation = Musicnn()
    for result, path in zip(representation.embed_files(paths), paths, strict=True):
        waveform, rate_hz = soundfile.read(path, dtype="float32")
        np.testing.assert_allclose(
            result.embedding, representation.embed(waveform, rate_hz), rtol=1e-4, atol=1e-3
        )
