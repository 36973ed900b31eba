"""Weights on disk, and the network of a finished run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError, RunError
from kerasrep.model.layers import layer_pieces, whitened
from kerasrep.model.strategies import Network, Scaler, network_of
from kerasrep.model.whitening import ADVICE, layer_of, piece_name
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.run_directory import RunDirectory, read_arrays, write_arrays
from kerasrep.storage.segment_vector import embedding_pieces


def weight_arrays(network: Network) -> dict[str, NDArray[np.float32]]:
    """Weights and statistics of a network by the path of their variable, such as `tag_conv1/kernel`."""
    return {variable.path: variable.numpy() for variable in _variables(network)}


def save_weights(path: Path, network: Network) -> None:
    """Write weights and statistics as NPZ, whole or not at all."""
    write_arrays(path, weight_arrays(network))


def load_weights(path: Path, network: Network) -> None:
    """Read weights and statistics into a network.

    Raises:
        DataError: Where the file lacks an array, has one too many, or one of another shape.
    """
    _assign(path, read_arrays(path), network)


def _assign(path: Path, arrays: dict[str, NDArray[Any]], network: Network) -> None:
    variables = {variable.path: variable for variable in _variables(network)}
    odd = sorted(set(arrays) ^ set(variables))
    if odd:
        raise DataError(f"{path}: array '{odd[0]}' is missing or unknown; the recipe is of another network")
    for name, variable in variables.items():
        if tuple(arrays[name].shape) != tuple(variable.shape):
            raise DataError(
                f"{path}: array '{name}' is {list(arrays[name].shape)}, not {list(variable.shape)}; "
                "the recipe is of another network"
            )
        variable.assign(arrays[name])


def _variables(network: Network) -> list[keras.Variable]:
    return [variable for group in network.groups for variable in network.variables(group)]


def save_scaler(path: Path, scaler: Scaler) -> None:
    """Write `mean` and `sd`, float32 [mels] in decibels."""
    write_arrays(path, {"mean": scaler.mean, "sd": scaler.sd})


def load_scaler(path: Path, n_mels: int) -> Scaler:
    """Read `mean` and `sd`.

    Raises:
        DataError: Where the file is missing or malformed, or a standard deviation is not positive.
    """
    arrays = read_arrays(path)
    for name in ("mean", "sd"):
        if name not in arrays or arrays[name].shape != (n_mels,) or not np.isfinite(arrays[name]).all():
            raise DataError(f"{path}: needs a finite array '{name}' of {n_mels} values, one a mel band")
    if (arrays["sd"] <= 0).any():
        raise DataError(f"{path}: 'sd' must be positive")
    return Scaler(arrays["mean"].astype(np.float32), arrays["sd"].astype(np.float32))


@dataclass(frozen=True)
class TrainedRun:
    """What a run left behind, ready for use.

    Attributes:
        run: The run directory.
        recipe: As it was run.
        network: Float32, with the best weights.
    """

    run: RunDirectory
    recipe: Recipe
    network: Network


def restore_run(root: Path, whiten: bool = True) -> TrainedRun:
    """Rebuild the best network of a run, in float32.

    Args:
        root: The run directory.
        whiten: Whether its embeddings are whitened, where its recipe says so.

    Raises:
        RunError: Where `root` is no run directory, or has no trained weights yet.
        DataError: Where one of its files is malformed.
    """
    run = RunDirectory(root)
    if not run.recipe.is_file():
        raise RunError(f"{root}: is not a run directory, it has no {run.recipe.name}")
    if not run.best.is_file():
        raise RunError(f"{root}: has no trained weights yet ({run.best.name}); resume its training first")
    recipe = read_recipe(run.recipe)
    arrays = read_arrays(run.best)
    sizes: dict[str, int] = {}
    for source in recipe.sources:
        name = f"{source}_logits/bias"
        if name not in arrays:
            raise DataError(f"{run.best}: array '{name}' is missing; the recipe is of another network")
        sizes[source] = int(arrays[name].size)
    network = network_of(recipe, sizes, load_scaler(run.scaler, recipe.audio.n_mels))
    _assign(run.best, arrays, network)
    if whiten and recipe.training.whitening:
        if not run.whitening.is_file():
            raise RunError(f"{root}: has no {run.whitening.name}, its training has not ended; resume it")
        network = with_whitening(network, run.whitening, read_arrays(run.whitening))
    return TrainedRun(run, recipe, network)


def with_whitening(network: Network, path: Path, arrays: dict[str, NDArray[Any]]) -> Network:
    """The network whose embeddings are whitened.

    Args:
        network: As it was trained.
        path: Of the arrays, for errors.
        arrays: See `model.whitening.arrays_of`.

    Raises:
        DataError: Where they do not fit the network.
    """
    layer = layer_of(path, arrays)
    pieces = (*embedding_pieces(network.branches), *layer_pieces(network.embedder, network.branches))
    widths = {piece_name(piece.layer, piece.branch): piece.width for piece in pieces}
    if layer.widths != widths:
        raise DataError(f"{path}: its whitening is of another network; {ADVICE}")
    return replace(network, embedder=whitened(network.embedder, network.branches, layer))
