"""The network that the paper's authors published in PyTorch, with their weights, in Keras.

`from_state_dict` takes the arrays of a PyTorch `state_dict` under the names of the published code
(github.com/eldrin/MTLMusicRepresentation-PyTorch) and fills the same network, built of this package's own
blocks: equal up to rounding, because padding, epsilon and the order of layers are theirs already.

What their network was fed, and when embeddings are comparable. Their front end is librosa's: stereo (mono
doubled) at 22,050 Hz, `melspectrogram` with `n_fft=1024`, `hop_length=256` (Hann, centred, 128 Slaney bands
of power), then `power_to_db` (ref 1, amin 1e-10, top_db 80), then (dB - mean) / sd of each band. The front
end of an export gives the same numbers for the same frames within 2e-3 dB. What differs is how a recording
is cut into frames:

- They take the spectrogram of a whole recording and cut it every 216 frames, that is every 55,296 samples;
  here every segment is 55,125 samples (2.5 s) with a spectrogram of its own. Segment n begins 171 n samples
  earlier here, and its first and last two frames see zeros where theirs see the neighbouring audio.
- Their 80 dB reach down from the loudest value of the whole recording, here from that of each segment.
- They pad the last segment with frames of 0 dB, which is loud; here it is padded with samples of zero.
- Librosa before 0.10 mirrors the audio at either end of a recording; since then it pads with zeros, as here.
- For branch point `fc` they repeat the one embedding for every source; here it is given once.

So a recording of one segment gives the same vector up to rounding (with librosa 0.10 or later), and longer
recordings of even loudness similar ones. Where vectors must equal those of a published study, give `trunk`
the spectrograms that the study used.

Names in PyTorch: a block of theirs is `conv` [out, in, time, mel] and `bn`. `shared` and each of
`branches_feature` list blocks, pooling, the dense layer of the embedding [out, in] and its batch norm;
`branches_infer` are the heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.model.blocks import BLOCKS, SELF_HIDDEN_SIZE, Tensor
from kerasrep.model.strategies import SHARED, Network, Scaler, build_network

#: Branch point -> strategy of several sources.
STRATEGY_OF = {None: "mss-cr", 2: "ms-cr@2", 4: "ms-cr@4", 6: "ms-cr@6", "fc": "ms-sr@fc"}
#: How branch points are written; the published code writes all of them as strings.
_SPELLINGS: dict[int | str | None, int | str | None] = {
    **{point: point for point in STRATEGY_OF},
    **{"null": None, "2": 2, "4": 4, "6": 6},
}
_PUBLISHED_SELF = "self_"
#: Longest head that is taken for one; as in recipes.
MAX_HEAD_SIZE = 1000
#: Kind of layer -> name in PyTorch, name in Keras, and the axes that turn the first into the second.
_WEIGHTS: dict[str, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    "conv": (("weight", "kernel", (2, 3, 1, 0)), ("bias", "bias", (0,))),
    "dense": (("weight", "kernel", (1, 0)), ("bias", "bias", (0,))),
    "batch_norm": (
        ("weight", "gamma", (0,)),
        ("bias", "beta", (0,)),
        ("running_mean", "moving_mean", (0,)),
        ("running_var", "moving_variance", (0,)),
    ),
}
_COUNTER = "num_batches_tracked"  # of batch norm: carries no weight, and PyTorch before 0.4.1 had none


class ReferenceHeads(Mapping[str, keras.Model]):
    """Source -> Keras model from standardised mel to logits; for `self` from a pair `[left, right]`.

    `self_` finds `self`. Calling the whole gives all logits at once.
    """

    def __init__(self, network: Network) -> None:
        mel = network.trunk.inputs[0]
        self._of_one = {
            source: network.heads[source](network.encoders[source].outputs[0])
            for source in network.sources
            if source != "self"
        }
        self._models = {}
        for source in network.sources:
            inputs, logits = (mel, self._of_one[source]) if source != "self" else _pair(network)
            self._models[source] = keras.Model(inputs, logits, name=f"{source}_logits_of_mel")
        self._together = keras.Model(mel, self._of_one, name="logits_of_mel") if self._of_one else None

    def __getitem__(self, source: str) -> keras.Model:
        return self._models[our_name(source)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        """Logits of all sources.

        Args:
            inputs: Standardised mel float32 [batch, 216, 128, 2], or a list of two, `[left, right]`.

        Returns:
            Source -> float32 [batch, size]. `self` has logits for a pair only; the other sources then take
            the left one.
        """
        pair = list(inputs) if isinstance(inputs, list | tuple) else None
        mel = pair[0] if pair else inputs
        logits = dict(self._together(mel, training=False)) if self._together else {}
        if pair and "self" in self._models:
            logits["self"] = self._models["self"](pair, training=False)
        return {source: logits[source] for source in self._models if source in logits}


@dataclass(frozen=True)
class ReferenceNetwork:
    """The published network with its weights.

    Attributes:
        trunk: Keras model: standardised mel float32 [batch, 216, 128, 2] -> dict: source -> embedding
            float32 [batch, 256]; with branch point `fc` the same one for all.
        heads: Source -> Keras model from the same input to logits; callable for all at once.
        network: With front end and standardisation, as the strategies build it; what is exported.
    """

    trunk: keras.Model
    heads: ReferenceHeads
    network: Network


def our_name(source: str) -> str:
    """The published code writes `self_` for `self`; all other names are the same."""
    return "self" if source == _PUBLISHED_SELF else source


def from_state_dict(
    state_dict: Mapping[str, NDArray[Any]],
    sources: Sequence[str],
    branch_at: int | str | None,
    *,
    n_outs: int | Sequence[int] | None = None,
    scaler: Scaler | None = None,
    where: str = "state_dict",
) -> ReferenceNetwork:
    """Build the published network out of its PyTorch weights.

    On a GPU TensorFlow rounds products to TF32, and differs by more than rounding, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` is called first.

    Args:
        state_dict: PyTorch's names -> arrays: convolutions [out, in, time, mel], dense [out, in].
        sources: Learning sources in the order of the branches, one to eight; `self_` is `self`.
        branch_at: `None`, 2, 4, 6 or `fc`, also as strings, `null` being `None`. A single source gives
            `ss-r` whatever it is.
        n_outs: Logits of every head but that of `self`, or a list with one number a source; by default as
            many as the heads have.
        scaler: Standardisation for `network`; `trunk` and `heads` take mel bands that have it already.
        where: Named in errors.

    Returns:
        The network, in inference mode wherever it is not told otherwise.

    Raises:
        DataError: Where sources or branch point are unknown, or an array is missing, unknown, misshapen or
            not finite; the line names its key and the shape expected.
    """
    names = _check_sources(sources, where)
    point = _check_branch_at(branch_at, where)
    given = {key: as_array(value, key, where) for key, value in state_dict.items()}
    sizes = head_sizes(given, names, n_outs, where)
    layers = list(layers_of(names, point, sizes))
    arrays = check_arrays(given, layers, where)
    strategy = STRATEGY_OF[point] if len(names) > 1 else "ss-r"
    network = build_network(strategy, names, dict(zip(names, sizes, strict=True)), scaler=scaler)
    _fill(network, layers, arrays)
    mel = network.trunk.inputs[0]
    embeddings = {source: network.encoders[source].outputs[0] for source in names}
    trunk = keras.Model(mel, embeddings, name="reference_trunk")
    return ReferenceNetwork(trunk, ReferenceHeads(network), network)


def _pair(network: Network) -> tuple[list[Tensor], Tensor]:
    """Inputs and logits of `self`, whose encoder sees either side alone."""
    shape = network.trunk.inputs[0].shape[1:]
    pair = [keras.Input(shape, name=side) for side in ("left", "right")]
    embeddings = [network.encoders["self"](side) for side in pair]
    return pair, network.heads["self"](keras.layers.Concatenate(name="pair")(embeddings))


def _check_sources(sources: Sequence[str], where: str) -> tuple[str, ...]:
    names = tuple(our_name(source) for source in sources)
    for name in names:
        if name not in constants.SOURCES:
            known = ", ".join(constants.SOURCES)
            raise DataError(f"{where}: unknown source '{name}'; known are {known} (or self_)")
    if not names or len(set(names)) != len(names):
        raise DataError(f"{where}: sources are {list(names)}; give one to eight, each once")
    return names


def _check_branch_at(branch_at: int | str | None, where: str) -> int | str | None:
    known = isinstance(branch_at, int | np.integer | str | None) and branch_at in _SPELLINGS
    if not known:
        raise DataError(f"{where}: branch_at is {branch_at!r}; expected null, 2, 4, 6 or fc")
    return _SPELLINGS[branch_at]


def _fill(network: Network, layers: list[Layer], arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Give every weight and statistic of the network its values."""
    variables = {v.path: v for group in network.groups for v in network.variables(group)}
    for layer in layers:
        for key, _, path, axes in layer.arrays():
            variables.pop(path).assign(arrays[key].transpose(axes))
    if variables:
        raise AssertionError(f"no weights for {sorted(variables)}")


@dataclass(frozen=True)
class Layer:
    """One layer with weights.

    Attributes:
        key: In PyTorch, such as `shared.0.conv`.
        name: In Keras, such as `shared_conv1`.
        kind: Of `_WEIGHTS`.
        shape: Of `weight` in PyTorch; its first axis is that of all other arrays.
    """

    key: str
    name: str
    kind: str
    shape: tuple[int, ...]

    def arrays(self) -> Iterator[tuple[str, tuple[int, ...], str, tuple[int, ...]]]:
        """Key and shape in PyTorch, path in Keras, and the axes that turn the one into the other."""
        for name, keras_name, axes in _WEIGHTS[self.kind]:
            shape = self.shape if name == "weight" else self.shape[:1]
            yield f"{self.key}.{name}", shape, f"{self.name}/{keras_name}", axes


def as_array(value: Any, key: str, where: str) -> NDArray[Any]:
    """Take what a state dict holds as an array, unchanged.

    Raises:
        DataError: Naming the key, where it is none.
    """
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors that want a gradient
        reason = " ".join(str(error).split())[:150]
        raise DataError(f"{where}: key '{key}' is not a plain array ({reason})") from None


def head_sizes(
    state_dict: Mapping[str, NDArray[Any]],
    sources: tuple[str, ...],
    n_outs: int | Sequence[int] | None,
    where: str,
) -> list[int]:
    """Logits of each source: as told, or else as many as its head has."""
    if isinstance(n_outs, Sequence):
        told: list[int | None] = list(n_outs)
        if len(told) != len(sources):
            raise DataError(f"{where}: n_outs has {len(told)} numbers for {len(sources)} sources")
    else:
        told = [n_outs] * len(sources)
    for size in told:
        if size is not None and not (isinstance(size, int) and 1 <= size <= MAX_HEAD_SIZE):
            raise DataError(f"{where}: n_outs is {size!r}; expected 1 to {MAX_HEAD_SIZE}")
    return [
        constants.SELF_CLASSES if source == "self" else size or _found_size(state_dict, number)
        for number, (source, size) in enumerate(zip(sources, told, strict=True))
    ]


def _found_size(state_dict: Mapping[str, NDArray[Any]], number: int) -> int:
    """Logits of a head; the usual 50 where one of its two arrays says so, or they make no sense."""
    keys = [f"branches_infer.{number}.0.{name}" for name in ("weight", "bias")]
    found = {state_dict[key].shape[:1] for key in keys if key in state_dict}
    size: int = next(iter(found))[0] if len(found) == 1 and () not in found else constants.TARGET_SIZE
    return size if 1 <= size <= MAX_HEAD_SIZE else constants.TARGET_SIZE


def layers_of(sources: tuple[str, ...], branch_at: int | str | None, sizes: Sequence[int]) -> Iterator[Layer]:
    """All layers with weights: shared blocks, then branch by branch, then head by head.

    Positions in PyTorch's lists count layers without weights as well: pooling, ReLU, dropout.
    """
    n_shared = constants.N_SHARED_BLOCKS[STRATEGY_OF[branch_at]]
    shared_name = SHARED if len(sources) > 1 else sources[0]
    yield from _part("shared", shared_name, range(n_shared), with_fc=branch_at == "fc")
    for number, source in enumerate(sources):
        if branch_at != "fc":
            rest = range(n_shared, len(BLOCKS))
            yield from _part(f"branches_feature.{number}", source, rest, with_fc=True)
    width = constants.EMBEDDING_SIZE
    for number, (source, size) in enumerate(zip(sources, sizes, strict=True)):
        key = f"branches_infer.{number}"
        if source == "self":
            hidden = SELF_HIDDEN_SIZE
            yield Layer(f"{key}.0", "self_hidden", "dense", (hidden, 2 * width))
            yield Layer(f"{key}.1", "self_hidden_bn", "batch_norm", (hidden,))
            yield Layer(f"{key}.4", "self_logits", "dense", (size, hidden))
        else:
            yield Layer(f"{key}.0", f"{source}_logits", "dense", (size, width))


def _part(key: str, prefix: str, blocks: range, with_fc: bool) -> Iterator[Layer]:
    """Consecutive blocks, counted from 0 in `key`, and the embedding layer behind them."""
    for position, block in enumerate(blocks):
        geometry = BLOCKS[block]
        inputs = BLOCKS[block - 1].filters if block else constants.N_CHANNELS
        shape = (geometry.filters, inputs, geometry.kernel, geometry.kernel)
        name = f"{prefix}_conv{block + 1}"
        yield Layer(f"{key}.{position}.conv", name, "conv", shape)
        yield Layer(f"{key}.{position}.bn", f"{name}_bn", "batch_norm", shape[:1])
    if with_fc:
        pooling, width = len(blocks), constants.EMBEDDING_SIZE
        yield Layer(f"{key}.{pooling + 1}", f"{prefix}_fc", "dense", (width, BLOCKS[-1].filters))
        yield Layer(f"{key}.{pooling + 2}", f"{prefix}_fc_bn", "batch_norm", (width,))


def check_arrays(
    state_dict: Mapping[str, NDArray[Any]], layers: list[Layer], where: str
) -> dict[str, NDArray[np.float32]]:
    """Hold names, shapes and values to those of the network.

    Returns:
        PyTorch's name -> float32, counters left out.
    """
    wanted = {key: shape for layer in layers for key, shape, *_ in layer.arrays()}
    counters: dict[str, tuple[int, ...]] = {
        f"{layer.key}.{_COUNTER}": () for layer in layers if layer.kind == "batch_norm"
    }
    if any(counter in state_dict for counter in counters):
        wanted |= counters
    unknown = next((key for key in state_dict if key not in wanted), None)
    missing = next((key for key in wanted if key not in state_dict), None)
    hint = "are sources and branch_at those of the checkpoint?"
    if missing is not None:
        other = "" if unknown is None else f", while '{unknown}' is unknown"
        raise DataError(f"{where}: key '{missing}', {list(wanted[missing])}, is missing{other}; {hint}")
    if unknown is not None:
        raise DataError(f"{where}: key '{unknown}' is unknown, no array of that name is expected; {hint}")
    for key, shape in wanted.items():
        found = state_dict[key].shape
        if found != shape:
            raise DataError(f"{where}: key '{key}' is {list(found)}, expected {list(shape)}; {hint}")
    return {
        key: _finite(state_dict[key], key, shape, where)
        for key, shape in wanted.items()
        if key not in counters
    }


def _finite(array: NDArray[Any], key: str, shape: tuple[int, ...], where: str) -> NDArray[np.float32]:
    """float32, where the values are numbers that it can hold."""
    expected = f"expected finite floats {list(shape)}"
    if array.dtype.kind != "f":
        raise DataError(f"{where}: key '{key}' holds {array.dtype}, {expected}")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: key '{key}' holds NaN or infinite values, {expected}")
    if key.endswith("running_var") and (numbers < 0).any():
        raise DataError(f"{where}: key '{key}' holds a negative variance, {expected}, none below 0")
    return numbers
