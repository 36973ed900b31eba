"""A tuning as a whole job: its folder, its corpus, its trials, the table at the end."""

from __future__ import annotations

from pathlib import Path

from kerasrep.experiments.tuning import tune as search
from kerasrep.experiments.tuning.directory import TuningDirectory
from kerasrep.experiments.tuning.reading import Tuning
from kerasrep.experiments.tuning.report import trials_table
from kerasrep.experiments.tuning.tune import Tuned
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.console import say
from kerasrep.storage.run_directory import RUNS, PreparedDirectory, latest_run, new_run


def run_tuning(
    tuning: Tuning, run_dir: str | Path | None = None, resume: bool = False, verbose: bool = False
) -> Tuned:
    """Search for good settings of a recipe; prints a line a trial and the table of all.

    Args:
        tuning: See `reading.read_tuning`.
        run_dir: Folder; by default a new `runs/NAME/TIME`, or the latest one to resume.
        resume: Go on with the tuning in `run_dir`.
        verbose: Show each training's own bar.

    Raises:
        KerasrepError: Where recipe, corpus or folder cannot be used, or no trial is done.
    """
    from kerasrep.corpora.prepare import prepare
    from kerasrep.training.devices import choose_execution

    name = tuning.settings.name
    root = None if run_dir is None else Path(run_dir)
    if root is None and resume:
        root = latest_run(RUNS, name, "tuning.yaml", "tuning").root
    if root is not None:
        search.check_tuning(tuning, TuningDirectory(root), resume)
    choose_execution(tuning.base)  # before the corpus is made: devices may refuse the batch
    directory = TuningDirectory(root or new_run(RUNS, name).root)

    def prepare_base_aloud(recipe: Recipe) -> PreparedDirectory:
        prepared = prepare(recipe, progress=recipe is tuning.base)
        if recipe is tuning.base:
            say(f"tuning:  {directory.root}")
        return prepared

    tuned = search.tune(tuning, directory, prepare_base_aloud, resume, verbose)
    say(f"\n{trials_table(tuning, tuned.results)}\n")
    return tuned
