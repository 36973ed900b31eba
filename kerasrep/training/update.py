"""The vectors of a group after one update."""

from __future__ import annotations

import tensorflow as tf

from kerasrep.model.strategies import Network
from kerasrep.recipe.schema import Recipe
from kerasrep.training.formulas import adam, averaged
from kerasrep.training.vectors import AVERAGES, PARTS, UPDATES, Layout


def updated(
    recipe: Recipe,
    network: Network,
    layout: Layout,
    old: dict[str, tf.Tensor],
    gradient: tf.Tensor,
    statistics: tf.Tensor,
    rate: tf.Tensor,
    update: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Change the vectors of a group.

    Args:
        recipe: Optimizer, L2, averages.
        network: Says which weights are those of heads.
        layout: Of the group's weights.
        old: Before the update.
        gradient: float32 [weights].
        statistics: float32 [statistics], the new ones.
        rate: float32 [].
        update: int64 [], counted from 1.
    """
    training, weights = recipe.training, old["weights"]
    regularised = gradient + recipe.model.l2 * weights
    moved, first, second = adam(weights, regularised, old["first_moment"], old["second_moment"], rate, update)
    if training.optimizer == "adamw":
        moved -= rate * training.weight_decay * weights
    if training.trunk_rate != 1.0:  # every part of the change is in proportion to the rate
        moved = weights + _rate_factors(network, layout, training.trunk_rate) * (moved - weights)
    new = dict(zip(PARTS, (moved, first, second, statistics), strict=True))
    if UPDATES in old:
        new[UPDATES] = old[UPDATES] + 1.0
    for part, name in AVERAGES.items():
        if name in old:
            new[name] = averaged(old[name], new[part], training.average, update)
    return new


def _rate_factors(network: Network, layout: Layout, trunk_rate: float) -> tf.Tensor:
    """What the rate is multiplied with for each weight of a group, float32 [weights]."""
    heads = {v.path for head in network.heads.values() for v in head.variables}
    factors = [1.0 if variable.path in heads else trunk_rate for variable in layout.variables]
    parts = [tf.fill((n,), f) for n, f in zip(layout.sizes, factors, strict=True)]
    return tf.concat([*parts, tf.zeros((0,))], 0)  # a group whose blocks are all frozen has none
