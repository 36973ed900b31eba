"""Names and shapes of the weights of the network that the paper's authors published in PyTorch.

A block of theirs is `conv` [out, in, time, mel] and `bn`. `shared` and each of `branches_feature` list
blocks, pooling, the dense layer of the embedding [out, in] and its batch norm; `branches_infer` are the
heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.model.blocks import BLOCKS, SELF_HIDDEN_SIZE
from kerasrep.model.strategies import SHARED

#: Branch point -> strategy of several sources.
STRATEGY_OF = {None: "mss-cr", 2: "ms-cr@2", 4: "ms-cr@4", 6: "ms-cr@6", "fc": "ms-sr@fc"}
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
