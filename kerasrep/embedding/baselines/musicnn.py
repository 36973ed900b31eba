"""The MSD checkpoint of musicnn, a tagger of 3 s patches (Pons, Serra 2019, arXiv 1909.06654).

Its package pins old libraries, so it is neither installed nor run: the checkpoint is taken out of the wheel
of musicnn 0.1.0 (licence ISC), which is fetched by hand (`fetch_command`), recognised by its checksum, and
opened as a zip file; TensorFlow's reader reads it. The network is built here as Pons, Nieto, Prockup,
Schmidt, Ehmann, Serra (2018), arXiv 1711.02520, describe it.

The embedding is what the network pools over a patch: the mean and the maximum over time of the features that
its back-end reads, averaged over the patches of a recording. Of these 753 features (561 of the front-end,
three times 64 of the middle) weight decay has emptied 541 in the published checkpoint: their kernels are
zero, their values constant up to rounding, which a probe that standardises would blow up to noise. They are
left out; 212 remain. Patches do not overlap; an unfinished last one is left out, and a recording shorter than
a patch is repeated, as in training. The authors' package keeps the mel spectrum in half precision, which
overflows in loud passages; here it is single precision.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.baselines.mel import MelGeometry, mel_frames
from kerasrep.embedding.recordings import RecordingRepresentation
from kerasrep.errors import DataError
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage.regular_file import sha256_of
from kerasrep.storage.run_directory import home, user_path

#: Raised whenever the code gives other values for the same audio.
VERSION = 1
GEOMETRY = MelGeometry(16_000, fft_samples=512, hop_samples=256, n_mels=96, padding="reflect")
PATCH_FRAMES = 187  # 3 s
BATCH_PATCHES = 8
#: Features that `live_features` finds in the published checkpoint.
N_LIVE = 212
#: Kernels of a smaller norm are empty: those of the checkpoint are all under 2e-6 or over 5e-3.
EMPTY_NORM = 1e-4
FRONT_LAYERS = range(5)
BATCH_NORM_EPSILON = 1e-3

_NORM_PARTS = ("moving_mean", "moving_variance", "beta", "gamma")

Tensor = Any  # tf.Tensor
WHEEL_NAME = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
WHEEL_VARIABLE = "MUSICNN_WHEEL"
_MEMBERS = {
    "musicnn/MSD_musicnn/.index": "msd.index",
    "musicnn/MSD_musicnn/.data-00000-of-00001": "msd.data-00000-of-00001",
}
Weights = Mapping[str, NDArray[np.float32]]


class Musicnn(RecordingRepresentation):
    """212 means, then 212 maxima.

    Raises:
        DataError: When made, where the wheel is missing or is not the published one.
    """

    name = "musicnn"
    sample_rate_hz = GEOMETRY.sample_rate_hz
    dimension = 2 * N_LIVE
    segment_seconds = PATCH_FRAMES * GEOMETRY.hop_samples / GEOMETRY.sample_rate_hz
    workers = 2  # TensorFlow spreads each call over the cores itself

    def __init__(self) -> None:
        self._wheel = wheel_path()
        check_wheel(self._wheel)
        self._network: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
        self._loading = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Digest of this code and of the published wheel."""
        return fingerprint(["musicnn", VERSION, WHEEL_SHA256])

    def embed_blocks(self, blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """float32 [samples, 2] blocks -> float32 [424]."""
        self.prepare()
        assert self._network is not None
        total, count = np.zeros(self.dimension), 0
        for patches in patch_batches(mel_frames(blocks, GEOMETRY)):
            total += self._network(compress(patches)).sum(axis=0, dtype=np.float64)
            count += len(patches)
        return (total / count).astype(np.float32)

    def prepare(self) -> None:
        """Read the checkpoint and build the network, once."""
        with self._loading:
            if self._network is None:
                self._network = build_network(read_weights(self._wheel))


def compress(mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power -> log10(10,000 power + 1), float32."""
    compressed: NDArray[np.float32] = np.log10(10_000 * mel + 1).astype(np.float32)
    return compressed


def patch_batches(
    frames: Iterable[NDArray[np.float32]], batch_patches: int = BATCH_PATCHES
) -> Iterator[NDArray[np.float32]]:
    """Cut frames [frames, mels] of one recording into batches of [patches, 187, mels]."""
    held: list[NDArray[np.float32]] = []
    n_held, n_patches = 0, 0
    for batch in frames:
        held.append(batch)
        n_held += len(batch)
        while n_held >= batch_patches * PATCH_FRAMES:
            joined = np.concatenate(held)
            yield _as_patches(joined[: batch_patches * PATCH_FRAMES])
            held = [joined[batch_patches * PATCH_FRAMES :]]
            n_held, n_patches = len(held[0]), n_patches + batch_patches
    rest = np.concatenate(held)
    if not n_patches and len(rest) < PATCH_FRAMES:
        rest = np.take(rest, range(PATCH_FRAMES), axis=0, mode="wrap")
    if len(rest) >= PATCH_FRAMES:
        yield _as_patches(rest[: len(rest) // PATCH_FRAMES * PATCH_FRAMES])


def _as_patches(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return frames.reshape(-1, PATCH_FRAMES, frames.shape[1])


def live_features(weights: Weights) -> NDArray[np.bool_]:
    """Which of the 753 features depend on the audio: those whose kernel is not empty.

    Those of the middle's second and third layer carry the first layer's along and always count.
    """
    layers = [_is_live(weights, number) for number in (*FRONT_LAYERS, 5)]
    n_middle = len(layers[-1])
    return np.concatenate([*layers, np.ones(2 * n_middle, np.bool_)])


def build_network(weights: Weights) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Make the network up to its pooling over time, without the filters that are empty.

    Returns:
        A function from compressed mel patches, float32 [patches, 187, 96], to the live features' means over
        time, then their maxima: float32 [patches, 2 x live].
    """
    import tensorflow as tf

    live = np.flatnonzero(live_features(weights))
    n_front = sum(int(_is_live(weights, number).sum()) for number in FRONT_LAYERS)
    first_of_middle = sum(len(_is_live(weights, number)) for number in FRONT_LAYERS)
    # Empty filters are not computed, so that the middle's features stand right behind the live ones.
    chosen = np.where(live < first_of_middle, np.arange(len(live)), live - first_of_middle + n_front)
    constants = {name: tf.constant(value) for name, value in _without_empty(weights).items()}
    signature = [tf.TensorSpec((None, PATCH_FRAMES, GEOMETRY.n_mels), tf.float32)]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def forward(patches: Tensor) -> Tensor:
        features = tf.gather(_features(patches, constants), chosen, axis=2)
        return tf.concat([tf.reduce_mean(features, axis=1), tf.reduce_max(features, axis=1)], axis=1)

    def pooled(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = forward(tf.constant(patches)).numpy()
        return values

    return pooled


def _is_live(weights: Weights, number: int) -> NDArray[np.bool_]:
    kernel = weights[f"{_variable('conv2d', number)}/kernel"]
    live: NDArray[np.bool_] = np.sqrt(np.square(kernel).sum(axis=(0, 1, 2))) > EMPTY_NORM
    return live


def _without_empty(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Drop the front-end's empty filters.

    What they are is constant, so that all they give the middle is an offset for each frame (which differs at
    the ends, where the middle's first convolution is padded): it becomes `offset`, float32 [1, 187, filters].
    """
    import tensorflow as tf

    kept = dict(weights)
    empty_values = []
    for number in FRONT_LAYERS:
        live = _is_live(weights, number)
        convolution, norm = _variable("conv2d", number), _variable("batch_normalization", number + 1)
        constant = tf.nn.relu(tf.constant(weights[f"{convolution}/bias"]))
        empty_values.append(np.where(live, 0, _batch_norm(constant, weights, number + 1).numpy()))
        for name in (f"{convolution}/kernel", f"{convolution}/bias"):
            kept[name] = weights[name][..., live]
        for part in _NORM_PARTS:
            kept[f"{norm}/{part}"] = weights[f"{norm}/{part}"][live]
    kernel = weights["conv2d_5/kernel"][:, :, 0]  # [7, features, filters]
    constant_map = np.tile(np.concatenate(empty_values).astype(np.float32), (1, PATCH_FRAMES, 1))
    kept["offset"] = tf.nn.conv1d(constant_map, kernel, 1, "SAME").numpy()
    all_live = np.concatenate([_is_live(weights, number) for number in FRONT_LAYERS])
    kept["conv2d_5/kernel"] = weights["conv2d_5/kernel"][:, all_live]
    return kept


def _features(patches: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Compressed mel [patches, frames, mels] -> [patches, frames, features]."""
    import tensorflow as tf

    # Front-end: filters over timbre (7 frames by 38 and 67 bands) and over time (128, 64 and 32 frames)
    x = _batch_norm(patches[..., tf.newaxis], weights, 0)
    padded = tf.pad(x, [[0, 0], [3, 3], [0, 0], [0, 0]])
    maps = [_convolve(padded, weights, 0, "VALID"), _convolve(padded, weights, 1, "VALID")]
    maps += [_convolve(x, weights, number, "SAME") for number in (2, 3, 4)]
    front = tf.concat([tf.reduce_max(one, axis=2) for one in maps], axis=2)
    # Middle: three convolutions over time, the later two with residual connections
    first = _convolve_time(front, weights, 5, weights["offset"])
    second = _convolve_time(first, weights, 6) + first
    third = _convolve_time(second, weights, 7) + second
    return tf.concat([front, first, second, third], axis=2)


def _variable(kind: str, number: int) -> str:
    """Name of a layer as TensorFlow 1 counts them."""
    return f"{kind}_{number}" if number else kind


def _batch_norm(x: Tensor, weights: Mapping[str, Tensor], number: int) -> Tensor:
    """Normalise the last axis with the moving statistics."""
    import tensorflow as tf

    name = _variable("batch_normalization", number)
    mean, variance, beta, gamma = (weights[f"{name}/{part}"] for part in _NORM_PARTS)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, BATCH_NORM_EPSILON)


def _convolve(x: Tensor, weights: Mapping[str, Tensor], number: int, padding: str) -> Tensor:
    """[patches, frames, mels, channels] -> convolution, ReLU, batch norm."""
    import tensorflow as tf

    name = _variable("conv2d", number)
    x = tf.nn.conv2d(x, weights[f"{name}/kernel"], 1, padding) + weights[f"{name}/bias"]
    return _batch_norm(tf.nn.relu(x), weights, number + 1)


def _convolve_time(x: Tensor, weights: Mapping[str, Tensor], number: int, offset: Tensor = 0.0) -> Tensor:
    """[patches, frames, features] -> convolution over 7 frames and all features, ReLU, batch norm."""
    import tensorflow as tf

    name = _variable("conv2d", number)
    kernel = tf.squeeze(weights[f"{name}/kernel"], 2)  # [7, features, 1, filters] in the checkpoint
    x = tf.nn.conv1d(x, kernel, 1, "SAME") + offset + weights[f"{name}/bias"]
    return _batch_norm(tf.nn.relu(x), weights, number + 1)


def wheel_path() -> Path:
    """Where the wheel is looked for: at or in `MUSICNN_WHEEL`, or in the folder `musicnn` of `home()`."""
    named = os.environ.get(WHEEL_VARIABLE)
    path = user_path(named) if named else home() / "musicnn"
    return path / WHEEL_NAME if path.is_dir() or not named else path


def fetch_command() -> str:
    """The command that puts the wheel where it is looked for."""
    return f"python -m pip download --no-deps --dest {shlex.quote(str(wheel_path().parent))} musicnn==0.1.0"


def check_wheel(path: Path) -> None:
    """Refuse anything but the published wheel.

    Raises:
        DataError: Where it is missing or another file.
    """
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise DataError(
            f"musicnn: {path} cannot be read ({error.strerror}); fetch it with: {fetch_command()}"
        ) from error
    if digest != WHEEL_SHA256:
        raise DataError(
            f"musicnn: {path} is not the published wheel (sha256 {digest[:12]}...); delete it and fetch it "
            f"with: {fetch_command()}"
        )


def read_weights(wheel: Path) -> Weights:
    """Read the variables of the MSD checkpoint; nothing in the wheel is executed.

    Args:
        wheel: As `check_wheel` accepts it.

    Returns:
        Name of the variable, such as `conv2d_1/kernel`, -> float32.

    Raises:
        DataError: Where the checkpoint cannot be read.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="musicnn-") as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member, name in _MEMBERS.items():  # under our names, so that none leads elsewhere
                    (Path(folder) / name).write_bytes(archive.read(member))
            reader = tf.train.load_checkpoint(str(Path(folder) / "msd"))
            names = [name for name in reader.get_variable_to_shape_map() if "Adam" not in name]
            return {name: reader.get_tensor(name) for name in names}
        except (OSError, KeyError, zipfile.BadZipFile, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"musicnn: {wheel}: its checkpoint cannot be read ({reason})") from error
