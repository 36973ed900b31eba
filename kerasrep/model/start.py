"""Training goes on from a trunk that was trained before, and keeps some of its layers as they are.

The trunk's weights go wherever the strategy has such a layer: into the shared part and into every branch.
Heads begin anew. The front end must be the same, and its standardisation comes along.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError, ExportError, RecipeError, RunError
from kerasrep.model.export_trunk import read_export_scaler, read_export_weights, recipe_of_export
from kerasrep.model.keras_file import audio_settings, describe_model, read_keras_file, scaler_of
from kerasrep.model.layers import with_layers
from kerasrep.model.restore import restore_run, weight_arrays, with_whitening
from kerasrep.model.strategies import SHARED, Network, Scaler, network_of
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.export_directory import find_version, model_path, read_card
from kerasrep.storage.run_directory import KERAS_SUFFIX, RunDirectory, read_json, user_path

#: A layer of a trunk: the part that owns it, then its block.
_LAYER = re.compile(r"^(?P<owner>.+?)_(?P<rest>(?P<block>conv\d|fc)[a-z]*(_bn)?(/.*)?)$")


@dataclass(frozen=True)
class Start:
    """A trunk to begin with.

    Attributes:
        path: The run directory, version of an export or `.keras` file that it comes from.
        settings: What is known of the recipe that it was trained by, such as `audio.n_mels` -> 128.
        weights: Branch (`shared` for what branches have in common) and name within it, such as
            `conv3/kernel` -> values.
        scaler: What its log-mels were standardised by.
        origin: For the card: corpus or licence, and the trunk that it began with itself.
    """

    path: Path
    settings: dict[str, Any]
    weights: dict[str, dict[str, NDArray[np.float32]]]
    scaler: Scaler
    origin: dict[str, Any]

    @property
    def descent(self) -> dict[str, Any]:
        """For the card: where the trunk comes from, and where that one came from."""
        digest = hashlib.sha256()
        for owner, weights in sorted(self.weights.items()):
            for name, values in sorted(weights.items()):
                digest.update(f"{owner}/{name}".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
        return {"path": str(self.path), "weights_sha256": digest.hexdigest()[:16], **self.origin}


def check_start(recipe: Recipe) -> None:
    """Try whether the trunk that a recipe begins with fits its network; nothing else is needed for that.

    Raises:
        RecipeError: Where it does not.
    """
    start = read_start(recipe)
    # The size of heads makes no difference to the trunk.
    fill_from_start(network_of(recipe, dict.fromkeys(recipe.sources, 2), start.scaler), start)


def read_start(recipe: Recipe) -> Start:
    """Read the trunk that a recipe begins with.

    Raises:
        RecipeError: Where `model.start` is no model, or one of another front end or trunk.
    """
    try:
        path = model_path(user_path(str(recipe.model.start)))
        start = _read(path)
    except (RunError, ExportError, DataError) as error:
        raise RecipeError(f"model.start: {error}") from error
    ours = _settings(recipe)
    for key, there in start.settings.items():
        if there != ours[key]:
            raise RecipeError(
                f"model.start: {path} was trained with {key} {there}, this recipe has {ours[key]}; "
                f"set {key}={there}, or begin with another trunk"
            )
    return start


def _read(path: Path) -> Start:
    if path.suffix == KERAS_SUFFIX and path.is_file():
        return _of_keras_file(path)
    if (version := find_version(path)) is not None:
        return _of_export(version, read_export_weights(version))
    if not RunDirectory(path).recipe.is_file():
        raise RunError(f"{path}: is not a run directory, export or .keras file")
    trained = restore_run(path, whiten=False)  # which begins anew
    weights = _by_owner(weight_arrays(trained.network))
    origin = {"corpus": trained.recipe.corpus.name, "start": _earlier(trained.run.card)}
    return Start(path, _settings(trained.recipe), weights, trained.network.scaler, origin)


def _of_export(version: Path, weights: dict[str, NDArray[np.float32]]) -> Start:
    card, recipe = read_card(version), recipe_of_export(version)
    scaler = read_export_scaler(version, recipe.audio.n_mels)
    origin = {"export": card.name, "licence": list(card.licence), "start": (card.run or {}).get("start")}
    return Start(version, _settings(recipe), _by_owner(weights), scaler, origin)


def _of_keras_file(path: Path) -> Start:
    model = read_keras_file(path)
    describe_model(path, model)
    weights = {variable.path: variable.numpy() for variable in model.get_layer("trunk").variables}
    residual = any(name.endswith("_conv2a/kernel") for name in weights)
    settings: dict[str, Any] = {f"audio.{key}": value for key, value in audio_settings(model).items()}
    settings["model.trunk"] = "residual" if residual else "published"
    origin = {"start": _earlier(RunDirectory(path.parent).card)}
    return Start(path, settings, _by_owner(weights), scaler_of(model), origin)


def restore_export(version: Path) -> Network:
    """Rebuild the network of an export with its stored weights, in float32, and the layers that it gives.

    Raises:
        ExportError: Where the SavedModel is damaged, or has folded weights alone.
        RecipeError: Where its card is of another network.
    """
    arrays = read_export_weights(version)
    start, recipe = _of_export(version, arrays), recipe_of_export(version)
    # Heads are not in an export, and their size makes no difference to the trunk.
    network = network_of(recipe, dict.fromkeys(recipe.sources, 2), start.scaler)
    fill_from_start(network, start)
    if recipe.training.whitening:
        network = with_whitening(network, version, arrays)
    layers = frozenset(piece.layer for piece in read_card(version).layers)
    return replace(network, embedder=with_layers(network.embedder, network.branches, layers))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What must be the same in the recipe of a trunk and in one that begins with it."""
    keys = ("sample_rate_hz", "fft_samples", "hop_samples", "n_mels", "reference")
    audio = {key: getattr(recipe.audio, key) for key in keys}
    model = {key: getattr(recipe.model, key) for key in ("trunk", "width")}
    return {f"audio.{key}": value for key, value in audio.items()} | {
        f"model.{key}": value for key, value in model.items()
    }


def _by_owner(arrays: dict[str, NDArray[np.float32]]) -> dict[str, dict[str, NDArray[np.float32]]]:
    weights: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, values in arrays.items():
        if found := _LAYER.match(name):
            weights.setdefault(found["owner"], {})[found["rest"]] = values
    return weights


def _earlier(card: Path) -> Any:
    """The trunk that a run began with, as its card says."""
    return read_json(card).get("start") if card.is_file() else None


def fill_from_start(network: Network, start: Start) -> None:
    """Put the trunk's weights into the shared part and into every branch of a network.

    A branch takes what the branch of its name had, else what was shared, else the only branch that there is.

    Raises:
        RecipeError: Where a layer has no counterpart, or one of another shape.
    """
    branches = [owner for owner in start.weights if owner != SHARED]
    for variable in trunk_variables(network):
        found = _LAYER.match(variable.path)
        assert found is not None
        owners = [found["owner"], SHARED, *(branches if len(branches) == 1 else ())]
        candidates = [start.weights.get(owner, {}).get(found["rest"]) for owner in owners]
        values = next((candidate for candidate in candidates if candidate is not None), None)
        if values is None:
            raise RecipeError(
                f"model.start: {start.path} has nothing for '{variable.path}'; its branches are "
                f"{', '.join(branches)}: begin with a trunk that shares as much, or has the same sources"
            )
        if values.shape != tuple(variable.shape):
            raise RecipeError(
                f"model.start: '{variable.path}' is {list(variable.shape)} here and {list(values.shape)} in "
                f"{start.path}; begin with a trunk of the same width"
            )
        variable.assign(values)


def trunk_variables(network: Network) -> list[keras.Variable]:
    """Weights and statistics of the trunk: everything but the heads."""
    heads = {v.path for head in network.heads.values() for v in head.variables}
    return [v for group in network.groups for v in network.variables(group) if v.path not in heads]


def freeze(network: Network, blocks: tuple[str, ...]) -> None:
    """Keep blocks of the trunk as they are, batch norm's statistics included; before anything is trained."""
    models = [network.trunk] + ([] if network.together is None else [network.together.model])
    for model in models:
        for layer in model.layers:
            found = _LAYER.match(layer.name)
            if found and found["block"] in blocks and layer.variables:
                layer.trainable = False
