"""Train a recipe: from prepared shards and targets to a run directory."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.data.schedule import Schedule
from kerasrep.errors import KerasrepError, RecipeError, RunError
from kerasrep.model.picture import describe_network, draw_strategy
from kerasrep.model.restore import load_scaler, load_weights, save_scaler
from kerasrep.model.start import fill_from_start, freeze, read_start
from kerasrep.model.strategies import Network, network_of
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.report.wording import counted
from kerasrep.runtime.run_log import event, how_it_ended, run_log
from kerasrep.storage.atomic import remove_all_temporaries
from kerasrep.storage.folder_lock import exclusive
from kerasrep.storage.run_directory import PreparedDirectory, RunDirectory, atomic_file, read_json, write_text
from kerasrep.training.beginning import agree, agree_on_step, check_run, write_beginning
from kerasrep.training.best import choice_of, improved, keep
from kerasrep.training.card import RunCard
from kerasrep.training.checkpoint import Progress, restore_state, save_state
from kerasrep.training.devices import Execution, choose_execution
from kerasrep.training.formulas import learning_rate
from kerasrep.training.inputs import TrainingData, rare_sources, steps_per_epoch
from kerasrep.training.loop import Loop, data_faults, mean_scores
from kerasrep.training.scaling import fit_scaler
from kerasrep.training.step import Step
from kerasrep.training.summary import Summary, SummaryRow
from kerasrep.training.tensorboard import Board
from kerasrep.training.validation import Outcomes, Score, Validator, mean_target_scores
from kerasrep.training.vectors import GroupLayout, GroupState
from kerasrep.training.workers import Workers

#: From one writing of the history to the next, at least; states are saved with a whole one.
HISTORY_SECONDS = 5.0
#: What the chief says when the last state is written.
_TRAINED = "training has ended"


def train(
    recipe: Recipe,
    prepared: PreparedDirectory,
    run: RunDirectory,
    resume: bool = False,
    show_progress: bool = True,
    say: Callable[[str], None] = print,
) -> Summary:
    """Train a recipe and leave the run directory complete.

    Args:
        recipe: What to train.
        prepared: Shards and targets.
        run: Where everything is written.
        resume: Continue the run from its last state.
        show_progress: Show a progress bar.
        say: Prints a line for people.

    Returns:
        Scores of all sources before and after training, beside those of the best constant prediction.

    Raises:
        KerasrepError: See `Loop.run`, `choose_execution`, `TrainingData.open` and `check_run`.
    """
    data = TrainingData.open(recipe, prepared)
    steps_per_epoch(recipe, data)
    execution = choose_execution(recipe)
    workers = execution.workers
    with workers.faults(), _own(run, workers), data_faults():
        agree(workers, recipe, prepared, run, data.damaged)
        check_run(recipe, prepared, run, resume, data.damaged)
        workers.exchange("run checked", None)  # before the chief changes anything that is checked
        for name, reason in data.damaged.items():
            say(f"note: {name} is left out: {reason}")
        with _log(recipe, prepared, run, workers):
            network = _network(recipe, data, run, execution, resume)
            trainer = Trainer(recipe, data, run, network, execution, show_progress, say)
            if resume:
                trainer.restore()
            agree_on_step(workers, trainer.progress.step)
            if workers.chief:
                write_beginning(recipe, prepared, run, data.damaged)
            return trainer.run(prepared)


def _log(
    recipe: Recipe, prepared: PreparedDirectory, run: RunDirectory, workers: Workers
) -> contextlib.AbstractContextManager[object]:
    """The log of the run, which the chief writes."""
    if not workers.chief:
        return contextlib.nullcontext()
    remove_all_temporaries(run.root)
    return run_log("train", run.log, recipe=recipe.name, prepared=prepared.root)


def _own(run: RunDirectory, workers: Workers) -> contextlib.AbstractContextManager[None]:
    """Hold the run directory: the chief, for all workers."""
    if not workers.chief:
        return contextlib.nullcontext()
    return exclusive(run.root, "is being trained by another process", "--run-dir")


def _network(
    recipe: Recipe, data: TrainingData, run: RunDirectory, execution: Execution, resume: bool
) -> Network:
    workers = execution.workers
    begun = resume and run.last.is_file()  # then the trunk is in the run's own state
    start = read_start(recipe) if recipe.model.start and not begun else None
    if workers.chief and not (resume and run.scaler.is_file()):
        save_scaler(run.scaler, start.scaler if start else fit_scaler(recipe, data.index, data.train.rows))
    workers.from_chief("scaler", None, recipe.distribution.prepare_seconds)
    scaler = load_scaler(run.scaler, recipe.audio.n_mels)
    network = network_of(
        recipe,
        data.sizes,
        scaler,
        execution.precision,
        execution.replicas,
        execution.xla,
        execution.together,
    )
    if start:
        fill_from_start(network, start)
    freeze(network, recipe.model.freeze)
    return network


class Trainer:
    """One run: its vectors, its progress and its logs."""

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        run: RunDirectory,
        network: Network,
        execution: Execution,
        show_progress: bool,
        say: Callable[[str], None],
    ) -> None:
        """Make the vectors from the network's initial weights."""
        self.recipe, self.data, self.run_directory = recipe, data, run
        self.network, self.execution = network, execution
        self.epoch_steps = steps_per_epoch(recipe, data)
        self.n_steps = recipe.training.epochs * self.epoch_steps
        self.progress = Progress(0, np.zeros((3, len(recipe.sources))))
        average, rare = recipe.training.average > 0, rare_sources(recipe, data)
        self.states = {
            group: GroupState(
                group, GroupLayout.of(network, group), execution.distribution, average, group in rare
            )
            for group in network.groups
        }
        self.validator = Validator(recipe, network, self.states, data.validation, data.index)
        self.baselines = mean_target_scores(
            data.train,
            data.validation,
            data.index.samples,
            network.losses,
            recipe.training.validation_crops,
            recipe.contrast.views,
        )
        self._chief = execution.workers.chief
        self._show = show_progress and self._chief
        self._say = say if self._chief else _say_nothing
        self._full_board = recipe.training.tensorboard == "full"
        self._history_written = -HISTORY_SECONDS

    def restore(self) -> None:
        """Go on from the last state, where there is one.

        Raises:
            RecipeError: Where the run is beyond the recipe's epochs already.
            DataError: Where the state cannot be read.
        """
        if not self.run_directory.last.exists():
            self._say("no state was saved yet: starting with step 0")
            return
        self.progress = restore_state(self.run_directory.last, self.states, len(self.recipe.sources))
        done, epochs = self.progress.step, self.recipe.training.epochs
        if done > self.n_steps:
            raise RecipeError(
                f"training.epochs: {epochs}, but {self.run_directory.root} has trained "
                f"{done // self.epoch_steps}; give that many or more"
            )
        self._say(f"resuming {self.run_directory.root} after step {done} of {self.n_steps}")
        event("resumed", step=done, steps=self.n_steps)
        before = read_recipe(self.run_directory.recipe).training.epochs
        if self.recipe.training.decay == "cosine" and before != epochs:
            self._say(f"note: the learning rate now falls over {epochs} epochs instead of {before}")

    def run(self, prepared: PreparedDirectory) -> Summary:
        """Train to the end, whatever is left to do; the chief alone writes anything."""
        if not self._chief:
            self._train()
            return self._summary_of_the_chief()
        summary = self._run_as_chief(prepared)
        self.execution.workers.from_chief(_TRAINED, None)
        return summary

    def _summary_of_the_chief(self) -> Summary:
        """Wait until it has written the last state, which has the scores."""
        self.execution.workers.from_chief(_TRAINED, None, self.recipe.distribution.prepare_seconds)
        self.progress = restore_state(self.run_directory.last, self.states, len(self.recipe.sources))
        return self.summary()

    def _run_as_chief(self, prepared: PreparedDirectory) -> Summary:
        path, data = self.run_directory.card, self.data.fingerprint
        start = None
        if self.recipe.model.start:  # which may lie elsewhere by now, or have trained on
            earlier = read_json(path).get("start") if path.is_file() else None
            start = earlier or read_start(self.recipe).descent
        card = RunCard(self.recipe, self.execution, data, self.network.parameters(), path, start)
        card.write(path, self.progress)
        draw_strategy(self.network, self.run_directory.picture)
        self.board = Board(self.run_directory.tensorboard)
        try:
            if not self.progress.history:
                self._before_training(prepared)
            self._train()
            summary = self._finish(prepared)
            card.write(path, self.progress, "done", summary)
            return summary
        except BaseException as error:
            with contextlib.suppress(OSError, KerasrepError):  # a full disk may be why
                self._write_history()
                card.write(path, self.progress, how_it_ended(error))
            raise
        finally:
            self.board.close()

    def _before_training(self, prepared: PreparedDirectory) -> None:
        self._say(
            f"{self.recipe.name}: {len(self.data.train.rows)} training and "
            f"{len(self.data.validation.rows)} validation tracks, {self.n_steps} steps "
            f"on {', '.join(self.execution.devices)}\n{describe_network(self.network)}"
        )
        if self.data.within_groups:
            self._say(
                f"validated on held-out tracks of the groups that are trained on: "
                f"{', '.join(self.data.within_groups)}; they do not decide which state is kept"
            )
        for source in self.data.undecided:
            if source not in self.data.within_groups:
                tracks = counted(len(self.data.validation.by_source[source].rows), "validation track")
                self._say(f"{source}: {tracks}, too few to decide which state is kept")
        event(
            "training",
            training_tracks=len(self.data.train.rows),
            validation_tracks=len(self.data.validation.rows),
            steps=self.n_steps,
            **self.execution.as_dict(),
        )
        scores = self.validator()
        self._record(0, {}, scores)
        self.save()  # a best state is never without a last one to resume from
        self.board.recipe(self.recipe)
        if self._full_board:
            self.board.graph(self.network)
            index, rows = self.data.index, self.data.validation.rows
            self.board.crops(self.network, self.recipe.audio, index, rows, prepared.tracks)
        self.board.flush()

    def _train(self) -> None:
        replicas, samples = self.execution.replicas, self.data.index.samples
        schedule = Schedule(
            self.recipe, self.data.train.by_source, samples, self.n_steps, replicas, self.data.pools
        )
        sizes = [self.data.sizes[source] for source in self.recipe.sources]
        step = Step(self.recipe, self.network, self.states, sizes, self.n_steps, self.execution.xla)
        loop = Loop(schedule, self.data.index, step, self.execution, self.epoch_steps)
        loop.run(self.progress, self, self._show)

    def save(self) -> None:
        """Write the whole state."""
        if self._chief:
            self._write_history()
            save_state(self.run_directory.last, self.states, self.progress)
            event("state_saved", step=self.progress.step)

    def epoch_done(self, epoch: int, sums: NDArray[np.float64], segments_per_second: float) -> None:
        """Record an epoch, validate, and keep what has to be kept: the chief, while the others wait."""
        if not self._chief:
            return
        training, last = self.recipe.training, epoch == self.recipe.training.epochs
        scores = {}
        if last or epoch % training.validate_every_epochs == 0:
            scores = self.validator()
        self._record(epoch, dict(mean_scores(self.recipe.sources, sums)), scores, segments_per_second)
        self._keep_best(epoch, scores)
        if self._full_board and (last or epoch % max(1, training.epochs // 10) == 0):
            self._fill_network()
            self.board.histograms(self.network, self.progress.step)
        self.board.flush()
        if last or epoch % training.checkpoint_every_epochs == 0:
            self.save()

    def _keep_best(self, epoch: int, scores: Mapping[str, Score]) -> None:
        for source, score in scores.items():
            if not np.isfinite(score.loss):
                raise RunError(
                    f"epoch {epoch}, step {self.progress.step}: the validation loss of '{source}' is not "
                    "finite; lower training.learning_rate"
                )
        if not scores:
            return
        losses = {source: score.loss for source, score in scores.items()}
        last, undecided = self.recipe.training.keep == "last", self.data.undecided
        better = improved(self.network, losses, self.progress.best, epoch, undecided, last)
        if better:
            keep(self.run_directory.best, self.network, self._fill_network, better)
            self.progress.best |= better
            event("best_so_far", epoch=epoch, sources=list(better))

    def _record(
        self,
        epoch: int,
        trained: Mapping[str, tuple[float, float]],
        scores: Mapping[str, Score],
        segments_per_second: float = 0.0,
    ) -> None:
        step = self.progress.step
        row: dict[str, float] = {"epoch": epoch, "step": step, "seconds": round(self.progress.seconds, 3)}
        row["learning_rate"] = float(learning_rate(self.recipe, step, self.n_steps))
        if segments_per_second:
            row["segments_per_second"] = round(segments_per_second, 2)
        for source, (loss, accuracy) in trained.items():
            row |= {f"train_loss/{source}": loss, f"train_accuracy/{source}": accuracy}
        for source, score in scores.items():
            row |= {
                f"validation_loss/{source}": score.loss,
                f"validation_accuracy/{source}": score.accuracy,
            }
        if scores:
            undecided = self.data.undecided
            losses = [score.loss for source, score in scores.items() if source not in undecided]
            row["validation_loss/mean"] = float(np.mean(losses or [s.loss for s in scores.values()]))
        self.progress.history.append(row)
        event("epoch", **row)
        self.board.scalars(row, step)
        if time.monotonic() - self._history_written > HISTORY_SECONDS:
            self._write_history()

    def _write_history(self) -> None:
        """All epochs so far; not after each, as thousands of short ones would write the file as often."""
        write_text(self.run_directory.history, _csv(self.progress.history))
        self._history_written = time.monotonic()

    def _fill_network(self) -> None:
        for state in self.states.values():
            state.fill_network()

    def _finish(self, prepared: PreparedDirectory) -> Summary:
        """Save the best network as a Keras file and describe it."""
        network = self.network if self.execution.plain else self._plain_network()
        load_weights(self.run_directory.best, network)
        _save_keras(self.run_directory.model, network)
        summary = self.summary(self._outcomes())
        if self._full_board:
            board = Board(self.run_directory.tensorboard, suffix=".final")
            board.hparams(self.recipe, summary)
            board.projector(network, self.data.index, self.data.validation.rows, prepared.tracks)
            board.close()
        return summary

    def _outcomes(self) -> Mapping[str, Outcomes]:
        """Validation of the state that is kept, example by example."""
        load_weights(self.run_directory.best, self.network)
        layouts = {group: state.layout for group, state in self.states.items()}
        vectors = {
            group: (tf.constant(layout.weights.get()), tf.constant(layout.statistics.get()))
            for group, layout in layouts.items()
        }
        return self.validator.outcomes(vectors, self.baselines)

    def _plain_network(self) -> Network:
        """The network as others use it: in float32, for one device, of ordinary layers."""
        scaler = load_scaler(self.run_directory.scaler, self.recipe.audio.n_mels)
        return network_of(self.recipe, self.data.sizes, scaler)

    def summary(self, outcomes: Mapping[str, Outcomes] | None = None) -> Summary:
        """Scores before training and of the state that is kept, beside the best constant prediction's.

        Args:
            outcomes: Of the state that is kept, for intervals; without them there are none.
        """
        history, rows = self.progress.history, []
        for source in self.recipe.sources:
            best = history[choice_of(source, self.progress.best).epoch]
            row = SummaryRow(
                source=source,
                before=history[0][f"validation_loss/{source}"],
                after=best[f"validation_loss/{source}"],
                mean_target=self.baselines[source].loss,
                accuracy=best[f"validation_accuracy/{source}"],
                mean_target_accuracy=self.baselines[source].accuracy,
                best_epoch=int(best["epoch"]),
            )
            rows.append(row.with_intervals(outcomes[source]) if outcomes else row)
        training = self.recipe.training
        return Summary(rows, training.epochs, self.progress.seconds, training.keep)


def _say_nothing(line: str) -> None:
    del line


def _csv(history: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def _save_keras(path: Path, network: Network) -> None:
    with atomic_file(path) as temporary:
        network.embedder.save(temporary)
