"""Training goes on from a trunk that was trained before, and keeps some of its layers as they are.

The trunk's weights go wherever the strategy has such a layer: into the shared part and into every branch.
Heads begin anew. The front end must be the same, and its standardisation comes along.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import RecipeError, RunError
from kerasrep.model.restore import restore_run, weight_arrays
from kerasrep.model.strategies import SHARED, Network, Scaler
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.run_directory import read_json, user_path

#: A layer of a trunk: the part that owns it, then its block.
_LAYER = re.compile(r"^(?P<owner>.+?)_(?P<rest>(?P<block>conv\d|fc)[a-z]*(_bn)?(/.*)?)$")


@dataclass(frozen=True)
class Start:
    """A trunk to begin with.

    Attributes:
        path: The run directory that it comes from.
        weights: Branch (`shared` for what branches have in common) and name within it, such as
            `conv3/kernel` -> values.
        scaler: What its log-mels were standardised by.
    """

    path: Path
    weights: dict[str, dict[str, NDArray[np.float32]]]
    scaler: Scaler

    @property
    def descent(self) -> dict[str, Any]:
        """For the card: where the trunk comes from, and where that one came from."""
        digest = hashlib.sha256()
        for owner, weights in sorted(self.weights.items()):
            for name, values in sorted(weights.items()):
                digest.update(f"{owner}/{name}".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
        card = self.path / "card.json"
        earlier = read_json(card).get("start") if card.is_file() else None
        return {"path": str(self.path), "weights_sha256": digest.hexdigest()[:16], "start": earlier}


def read_start(recipe: Recipe) -> Start:
    """Read the trunk that a recipe begins with.

    Raises:
        RecipeError: Where `model.start` is no run, or one of another front end or trunk.
    """
    path = user_path(str(recipe.model.start))
    try:
        trained = restore_run(path)
    except RunError as error:
        raise RecipeError(f"model.start: {error}") from error
    theirs, ours = trained.recipe, recipe
    for section, keys in (
        ("audio", ("sample_rate_hz", "fft_samples", "hop_samples", "n_mels")),
        ("model", ("trunk", "width")),
    ):
        for key in keys:
            there, here = getattr(getattr(theirs, section), key), getattr(getattr(ours, section), key)
            if there != here:
                raise RecipeError(
                    f"model.start: {path} was trained with {section}.{key} {there}, this recipe has {here}; "
                    f"set {section}.{key}={there}, or begin with another trunk"
                )
    weights: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, values in weight_arrays(trained.network).items():
        if found := _LAYER.match(name):
            weights.setdefault(found["owner"], {})[found["rest"]] = values
    return Start(path, weights, trained.network.scaler)


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
