"""The network of a run, as its devices run it, with the standardisation and the trunk that it begins with."""

from __future__ import annotations

from kerasrep.model.restore import load_scaler, save_scaler
from kerasrep.model.start import fill_from_start, freeze, read_start
from kerasrep.model.strategies import Network, network_of
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.run_directory import RunDirectory
from kerasrep.training.devices import Execution
from kerasrep.training.inputs import TrainingData
from kerasrep.training.scaling import fit_scaler


def open_network(
    recipe: Recipe, data: TrainingData, run: RunDirectory, execution: Execution, resume: bool
) -> Network:
    """Build the network of a run with its initial weights.

    Args:
        recipe: What is trained.
        data: What the log-mels are standardised by, unless the run or its first trunk says so.
        run: Where the standardisation is kept.
        execution: Devices and precision.
        resume: Whether the run may have begun already.

    Raises:
        RecipeError: See `read_start`.
        DataError: Where shards or the standardisation cannot be read.
    """
    workers = execution.workers
    begun = resume and run.last.is_file()  # then the trunk is in the run's own state
    start = read_start(recipe) if recipe.model.start and not begun else None

    def standardise() -> None:
        if not (resume and run.scaler.is_file()):
            save_scaler(
                run.scaler, start.scaler if start else fit_scaler(recipe, data.index, data.train.rows)
            )

    workers.from_chief("scaler", standardise, recipe.distribution.prepare_seconds)
    network = network_of(
        recipe,
        data.sizes,
        load_scaler(run.scaler, recipe.audio.n_mels),
        execution.precision,
        execution.replicas,
        execution.xla,
        execution.together,
    )
    if start:
        fill_from_start(network, start)
    freeze(network, recipe.model.freeze)
    return network
