"""The network of a trained model before its first step: what architecture and front end give alone.

Strategy, sources, width and audio settings are the reference's, and so is the standardisation of the mel
bands, so that nothing but the weights differs. They are drawn as training draws them (Glorot uniform, seeded
by weight), and batch norm has its initial statistics, mean 0 and variance 1, as at step 0. Embeddings are
then small numbers, since nothing rescales them on their way; probes standardise every feature, so that it
does them no harm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrep.embedding import models
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from kerasrep.model.blocks import BlockOptions
    from kerasrep.model.strategies import Scaler

#: Raised whenever the same seed and reference give another network.
VERSION = 1
_WEIGHTS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def load_untrained(reference: Path, seed: int) -> models.SegmentModel:
    """Build the network of a model with initial weights.

    With the seed of the reference's recipe these are the weights that its training began with.

    Args:
        reference: An export, a run (trained or not) or a `.keras` file.
        seed: Of the weights.

    Raises:
        ExportError: Where the reference is no model, or its recipe or standardisation cannot be read.
        DataError: Where a run's standardisation is malformed.
        RecipeError: Where a run's recipe is.
    """
    return replace(_untrained(reference, seed), default_layers=models.default_layers(reference))


def _untrained(reference: Path, seed: int) -> models.SegmentModel:
    from kerasrep.model.blocks import BlockOptions

    load, found = models.find_model(reference)
    if load is models.load_export:
        from kerasrep.model.export_trunk import read_export_scaler, recipe_of_export

        recipe = recipe_of_export(found)
        return _build(recipe, read_export_scaler(found, recipe.audio.n_mels), seed)
    if load is models.load_run:
        from kerasrep.model.restore import load_scaler

        run = RunDirectory(found)
        recipe = read_recipe(run.recipe)
        return _build(recipe, load_scaler(run.scaler, recipe.audio.n_mels), seed)
    from kerasrep.model.keras_file import describe_model, read_keras_file
    from kerasrep.model.layers import whitened
    from kerasrep.model.whitening import whitening_in

    model = read_keras_file(found)
    if whitening_in(model) is not None:
        model = whitened(model, describe_model(found, model)[2], None)
    describe_model(found, model)
    draw_initial_weights(model.get_layer("trunk"), BlockOptions(seed=seed))
    return models.segment_model_of(found, model)


def _build(recipe: Recipe, scaler: Scaler, seed: int) -> models.SegmentModel:
    from kerasrep.model.strategies import network_of

    # Heads are not used, and their size does not change what the trunk draws.
    network = network_of(recipe.model_copy(update={"seed": seed}), dict.fromkeys(recipe.sources, 2), scaler)
    audio = recipe.audio
    return models.model_of_keras(
        network.embedder, audio.sample_rate_hz, audio.segment_samples, network.branches
    )


def draw_initial_weights(trunk: Any, options: BlockOptions) -> None:
    """Draw every weight of a trunk anew, in place, and reset batch norm's statistics.

    Args:
        trunk: Keras model whose layers know how they were initialised.
        options: Their `layer_seed` gives each weight its seed, as when the network is built.
    """
    for layer in trunk.layers:
        for weight in _WEIGHTS:
            initializer = getattr(layer, f"{weight}_initializer", None)
            if initializer is None:
                continue
            config = initializer.get_config()
            if "seed" in config:
                config["seed"] = options.layer_seed(f"{layer.name}/{weight}")
            variable = getattr(layer, weight)
            variable.assign(type(initializer).from_config(config)(variable.shape, variable.dtype))
