"""The network of a run, as its devices run it, with the standardisation and the trunk that it begins with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.crops import read_crops
from kerasrep.data.shards import FULL_SCALE, ShardIndex
from kerasrep.model.frontend import build_frontend
from kerasrep.model.restore import load_scaler, save_scaler
from kerasrep.model.start import fill_from_start, freeze, read_start
from kerasrep.model.strategies import Network, Scaler, network_of
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.run_directory import RunDirectory
from kerasrep.training.devices import Execution
from kerasrep.training.inputs import TrainingData

MAX_TRACKS = 1024
BATCH = 32
SMALLEST_DEVIATION_DB = 1e-2  # a band that is always silent must not be divided by nothing
_DRAW = 4


def fit_scaler(recipe: Recipe, index: ShardIndex, rows: NDArray[np.int64]) -> Scaler:
    """Measure mean and standard deviation of each mel band over one random crop of each training track.

    Args:
        recipe: Audio settings and seed.
        index: Where the tracks lie.
        rows: int64 [tracks], training rows; at most 1,024 of them are drawn.

    Returns:
        float32 [mels] each, both channels and all frames together.
    """
    rng = np.random.default_rng([recipe.seed, _DRAW])
    if len(rows) > MAX_TRACKS:
        rows = np.sort(rng.choice(rows, MAX_TRACKS, replace=False))
    segment = recipe.audio.segment_samples
    starts = rng.integers(index.samples[rows] - segment, endpoint=True, dtype=np.int64)
    frontend = build_frontend(recipe.audio, segment)
    count, total, squares = 0, np.zeros(recipe.audio.n_mels), np.zeros(recipe.audio.n_mels)
    for first in range(0, len(rows), BATCH):
        part = slice(first, first + BATCH)
        crops = read_crops(index, rows[part], starts[part], segment)
        mel = np.asarray(frontend(crops.astype(np.float32) / FULL_SCALE), np.float64)
        count += mel.size // recipe.audio.n_mels
        total += mel.sum(axis=(0, 1, 3))
        squares += np.square(mel).sum(axis=(0, 1, 3))
    mean = total / count
    sd = np.sqrt(np.maximum(squares / count - np.square(mean), SMALLEST_DEVIATION_DB**2))
    return Scaler(mean.astype(np.float32), sd.astype(np.float32))


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
