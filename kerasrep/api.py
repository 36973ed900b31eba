"""The way of the data, from a recipe to an export, top to bottom: each stage gives a value to those below."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.corpora import open_corpus
from kerasrep.corpora import prepare as stages
from kerasrep.corpora.found_sources import with_found_sources
from kerasrep.corpora.report import describe
from kerasrep.data.audio import require_decoder
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.console import say
from kerasrep.runtime.run_log import event, run_log
from kerasrep.storage.run_directory import RUNS, PreparedDirectory, RunDirectory, home, latest_run, new_run

if TYPE_CHECKING:
    from kerasrep.training.devices import Execution
    from kerasrep.training.summary import Summary
    from kerasrep.training.workers import Workers


@dataclass(frozen=True)
class Trained:
    """What `train` leaves behind.

    Attributes:
        run: The run directory.
        summary: Scores of all sources before and after, beside those of the mean-prediction baseline.
        export: The version that was exported, `EXPORT.DIRECTORY/NAME/VERSION`.
        worker: Number of this process among those that trained together; 0, the chief, wrote it all.
    """

    run: RunDirectory
    summary: Summary
    export: Path
    worker: int = 0


def train(
    recipe: Recipe, run_dir: str | Path | None = None, resume: bool = False, progress: bool = True
) -> Trained:
    """Prepare the corpus where that has not been done, train, and export the best state.

    Where several workers train, the chief prepares and exports, and the others wait for it.

    Args:
        recipe: See `read_recipe`.
        run_dir: Run directory; by default a new `runs/NAME/TIME`, or the latest one to resume.
        resume: Go on with the run in `run_dir`.
        progress: Print what happens, with progress bars.

    Raises:
        KerasrepError: Where recipe, corpus, run or export cannot be used; one line says why.
    """
    from kerasrep.model.start import check_start
    from kerasrep.training.devices import choose_execution
    from kerasrep.training.inputs import steps_of_tracks

    recipe = with_found_sources(recipe, _teller(progress))
    execution = choose_execution(recipe)  # before the corpus is made: devices may refuse the batch
    workers, seconds = execution.workers, recipe.distribution.prepare_seconds
    if recipe.model.start and not resume:
        check_start(recipe)  # likewise: it may not fit
    progress = progress and workers.chief
    tell = _teller(progress)
    enough = functools.partial(steps_of_tracks, recipe)
    # The training gives the log the run's folder; the chief writes for all.
    with run_log("train") if workers.chief else contextlib.nullcontext(), workers.faults():
        name = workers.from_chief(
            "prepared", lambda: prepare(recipe, progress, accept=enough).root.name, seconds
        )
        prepared = PreparedDirectory(home() / "prepared" / name)
        workers.check_shared(prepared.root, "KERASREP_HOME")
        chosen = workers.from_chief("run directory", lambda: _run_folder(recipe, run_dir, resume, workers))
        run = RunDirectory(Path(chosen))
        tell(f"run directory: {run.root}")
        with _removed_where_empty(run) if run_dir is None else contextlib.nullcontext():
            summary = train_prepared(recipe, prepared, run, resume, progress, tell, execution)
        tell("exporting the state that is kept ...")
        version = workers.from_chief("exported", lambda: _export(recipe, run), seconds)
        event("exported", folder=version)
        workers.leave()
    return Trained(run, summary, Path(version), workers.rank)


def prepare(
    recipe: Recipe,
    progress: bool = True,
    check: bool = False,
    ray: str | None = None,
    accept: Callable[[int], object] | None = None,
) -> PreparedDirectory:
    """Make the folder that `recipe` trains from, or return it at once where it is complete.

    Args:
        recipe: Its `corpus`, `audio`, `targets` and `seed` decide what is made.
        progress: Show bars, notices and a summary.
        check: Compare all files with their checksums, and make damaged ones again.
        ray: Address of a Ray cluster that decodes the audio (see `pool.cluster.connect`); nothing is
            asked of it where that is done.
        accept: Called with the number of training tracks before any audio is decoded; raises where they are
            too few for what shall be done with them.

    Raises:
        DataError: Where the corpus cannot be used, no track is left in training or validation, or a
            source of the recipe has no training track.
        RunError: Where the folder cannot be written, the decoder is not installed, or the cluster fails.
    """
    require_decoder(recipe.audio.decoder)
    told: set[str] = set()
    with stages.joining(ray) as join:
        whole = False
        while not whole:  # twice where decoding finds copies of recordings, which must share a split
            corpus = open_corpus(recipe.corpus, progress)
            stages.check_labels(corpus, recipe.sources)
            if accept is not None:
                accept(corpus.n_training)
            folders = stages.folders_of(corpus, recipe.audio, recipe.targets, recipe.seed)
            directory = folders.directory
            for notice in corpus.notices if progress else ():
                if notice not in told:
                    print(f"note: {notice}", flush=True)
            told.update(corpus.notices)
            with stages.making(corpus, directory, check, progress) as wanted:
                whole = not wanted
                if wanted:
                    if not folders.store.manifest.exists():
                        join()  # an address that does not answer is told before minutes of reading labels
                    notes = stages.read_labels(corpus, progress)
                    shards = stages.decode(corpus, folders, recipe.audio, progress, join)
                    if shards is not None:
                        stages.make_targets(
                            corpus, folders, notes, shards, recipe.targets, recipe.seed, progress
                        )
                        whole = True
        if check:
            stages.check_shards(corpus, folders, recipe.audio, progress, join)
    event("prepared", folder=directory.root)
    if progress:
        print(describe(directory), flush=True)
    stages.check_trained(directory, recipe.sources)
    return directory


def train_prepared(
    recipe: Recipe,
    prepared: PreparedDirectory,
    run: RunDirectory,
    resume: bool = False,
    show_progress: bool = True,
    say: Callable[[str], None] = print,
    execution: Execution | None = None,
) -> Summary:
    """Train a recipe and leave the run directory complete.

    Args:
        recipe: What to train.
        prepared: Shards and targets.
        run: Where everything is written.
        resume: Continue the run from its last state.
        show_progress: Show a progress bar.
        say: Prints a line for people.
        execution: Devices; by default those that `choose_execution` chooses.

    Returns:
        Scores of all sources before and after training, beside those of the best constant prediction.

    Raises:
        KerasrepError: See `Loop.run`, `choose_execution`, `TrainingData.open` and `check_run`.
    """
    from kerasrep.training.beginning import hold
    from kerasrep.training.devices import choose_execution
    from kerasrep.training.inputs import TrainingData, steps_per_epoch
    from kerasrep.training.loop import data_faults
    from kerasrep.training.network import open_network
    from kerasrep.training.train import Trainer
    from kerasrep.training.whitening import with_possible_whitening

    execution = execution or choose_execution(recipe)
    data = TrainingData.open(recipe, prepared)
    recipe = with_possible_whitening(recipe, data, say if execution.workers.chief else lambda line: None)
    epoch_steps = steps_per_epoch(recipe, data)  # or the batch is too large, before anything is written
    with hold(recipe, prepared, run, resume, data.damaged, execution.workers, say), data_faults():
        network = open_network(recipe, data, run, execution, resume)
        trainer = Trainer(recipe, data, run, network, execution, epoch_steps, show_progress, say)
        return trainer.run(prepared, resume)


def _run_folder(recipe: Recipe, run_dir: str | Path | None, resume: bool, workers: Workers) -> str:
    """The run directory: the chief's choice, wherever the others were started."""
    root = None if run_dir is None else Path(run_dir)
    if root is None:
        root = (latest_run(RUNS, recipe.name) if resume else new_run(RUNS, recipe.name)).root
    return str(root if workers.size == 1 else root.absolute())


@contextlib.contextmanager
def _removed_where_empty(run: RunDirectory) -> Iterator[None]:
    """Leave no new run directory behind where the training is refused before anything is in it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # it, or one above it, has something in it
            for folder in (run.root, *run.root.parents[:2]):
                folder.rmdir()
        raise


def _export(recipe: Recipe, run: RunDirectory) -> str:
    from kerasrep.model.restore import restore_run
    from kerasrep.serving.export import export_run

    return str(export_run(restore_run(run.root), Path(recipe.export.directory), recipe.export_name))


def _teller(progress: bool) -> Callable[[str], None]:
    return say if progress else lambda line: None
