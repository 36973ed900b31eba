"""What the commands do, for programs: whole jobs over all stages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.console import say
from kerasrep.runtime.run_log import event, run_log
from kerasrep.storage.run_directory import RUNS, PreparedDirectory, RunDirectory, home, latest_run, new_run

if TYPE_CHECKING:
    from kerasrep.embedding.embeddings import Embeddings
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

    Args:
        recipe: See `read_recipe`.
        run_dir: Run directory; by default a new `runs/NAME/TIME`, or the latest one to resume.
        resume: Go on with the run in `run_dir`.
        progress: Print what happens, with progress bars.

    Raises:
        KerasrepError: Where recipe, corpus, run or export cannot be used; one line says why.
    """
    from kerasrep.corpora.found_sources import with_found_sources
    from kerasrep.training.devices import choose_execution

    recipe = with_found_sources(recipe, say if progress else lambda line: None)
    workers = choose_execution(recipe).workers  # before the corpus is made: devices may refuse the batch
    if recipe.model.start and not resume:
        from kerasrep.model.start import check_start

        check_start(recipe)  # likewise: it may not fit
    # The training gives the log the run's folder; the chief writes for all.
    with run_log("train") if workers.chief else contextlib.nullcontext():
        return _train(recipe, run_dir, resume, progress and workers.chief, workers)


def _train(
    recipe: Recipe, run_dir: str | Path | None, resume: bool, progress: bool, workers: Workers
) -> Trained:
    with workers.faults():
        prepared = _prepared(recipe, progress, workers)
        run = _run_directory(recipe, run_dir, resume, workers)

    from kerasrep.training.train import train as train_prepared

    tell: Callable[[str], None] = say if progress else lambda line: None
    tell(f"run directory: {run.root}")
    with _removed_where_empty(run) if run_dir is None else contextlib.nullcontext():
        summary = train_prepared(recipe, prepared, run, resume, show_progress=progress, say=tell)
    tell("exporting the state that is kept ...")
    with workers.faults():
        version = _export(recipe, run, workers)
        event("exported", folder=version)
        workers.leave()
        return Trained(run, summary, version, workers.rank)


def _prepared(recipe: Recipe, progress: bool, workers: Workers) -> PreparedDirectory:
    """The corpus: the chief prepares it, where all workers can read it."""
    from kerasrep.corpora.prepare import prepare
    from kerasrep.training.inputs import steps_of_tracks

    name = ""
    if workers.chief:
        name = prepare(recipe, progress, accept=lambda tracks: steps_of_tracks(recipe, tracks)).root.name
    name = workers.from_chief("prepared", name, recipe.distribution.prepare_seconds)
    prepared = PreparedDirectory(home() / "prepared" / name)
    workers.check_shared(prepared.root, "KERASREP_HOME")
    return prepared


def _run_directory(
    recipe: Recipe, run_dir: str | Path | None, resume: bool, workers: Workers
) -> RunDirectory:
    """The run directory: the chief's choice, wherever the others were started."""
    chosen = ""
    if workers.chief:
        run = None if run_dir is None else RunDirectory(Path(run_dir))
        if run is None:
            run = latest_run(RUNS, recipe.name) if resume else new_run(RUNS, recipe.name)
        chosen = str(run.root if workers.size == 1 else run.root.absolute())
    return RunDirectory(Path(workers.from_chief("run directory", chosen)))


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


def _export(recipe: Recipe, run: RunDirectory, workers: Workers) -> Path:
    """Export the best state: the chief does, and the others wait for it."""
    from kerasrep.model.restore import restore_run
    from kerasrep.serving.export import export_run

    version = ""
    if workers.chief:
        version = str(export_run(restore_run(run.root), Path(recipe.export.directory), recipe.export_name))
    return Path(workers.from_chief("exported", version, recipe.distribution.prepare_seconds))


def embed(
    model: str | Path | None, audio: Sequence[str | Path], layers: str | Sequence[str] | None = None
) -> Embeddings:
    """Embed audio files, and folders at any depth.

    Args:
        model: An export, a run directory, or a `.keras` file; `starter` or `None` is the trunk that comes
            with kerasrep.
        audio: Files and folders.
        layers: What an embedding is made of; see `kerasrep.load`.

    Returns:
        A row for each file that could be used; the others are in `bad`, each with the reason.

    Raises:
        DataError: Where none of them could be used.
        ExportError: Where `model` is none, or cannot give a layer.
        RunError: Where the run has no trained weights yet.
    """
    from kerasrep.embedding.embedder import load

    return load(model, layers).embed_files(audio)
