"""Train a network on prepared data, and leave the run directory complete."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.data.schedule import Schedule
from kerasrep.errors import KerasrepError, RecipeError, RunError
from kerasrep.model.picture import describe_network, draw_strategy
from kerasrep.model.restore import load_scaler, load_weights, with_whitening
from kerasrep.model.start import read_start
from kerasrep.model.strategies import Network, network_of
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.run_log import event, how_it_ended
from kerasrep.storage.run_directory import (
    PreparedDirectory,
    RunDirectory,
    atomic_file,
    read_json,
    write_arrays,
    write_text,
)
from kerasrep.training.beginning import agree_on_step, begin_with_means, keep_identities, write_beginning
from kerasrep.training.card import RunCard
from kerasrep.training.checkpoint import Progress, choice_of, improved, keep, restore_state, save_state
from kerasrep.training.devices import Execution
from kerasrep.training.formulas import learning_rate
from kerasrep.training.inputs import TrainingData, rare_sources
from kerasrep.training.loop import Loop, mean_scores
from kerasrep.training.step import Step
from kerasrep.training.summary import Summary, SummaryRow
from kerasrep.training.tensorboard import Board
from kerasrep.training.validation import LEAST_TRACKS, Outcomes, Score, Validator, mean_target_scores
from kerasrep.training.vectors import GroupLayout, GroupState
from kerasrep.training.whitening import fit_whitening

#: From one writing of the history to the next, at least; states are saved with a whole one.
HISTORY_SECONDS = 5.0
#: What the chief says when the last state is written.
_TRAINED = "training has ended"


class Trainer:
    """One run: its vectors, its progress and its logs."""

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        run: RunDirectory,
        network: Network,
        execution: Execution,
        epoch_steps: int,
        show_progress: bool,
        say: Callable[[str], None],
    ) -> None:
        """Make the vectors from the network's initial weights."""
        self.recipe, self.data, self.run_directory = recipe, data, run
        self.network, self.execution = network, execution
        self.epoch_steps, self.n_steps = epoch_steps, recipe.training.epochs * epoch_steps
        self.progress = Progress(0, np.zeros((3, len(recipe.sources))))
        self.baselines = mean_target_scores(
            data.train,
            data.validation,
            data.index.samples,
            network.losses,
            recipe.training.validation_crops,
            recipe.contrast.views,
        )
        if recipe.model.heads == "mean":
            begin_with_means(network, self.baselines)
        average, rare = recipe.training.average > 0, rare_sources(recipe, data)
        self.states = {
            group: GroupState(
                group, GroupLayout.of(network, group), execution.distribution, average, group in rare
            )
            for group in network.groups
        }
        self.validator = Validator(recipe, network, self.states, data.validation, data.index)
        self._chief = execution.workers.chief
        self._show = show_progress and self._chief
        self._say = say if self._chief else lambda line: None
        self._full_board = recipe.training.tensorboard == "full"
        self._history_written = -HISTORY_SECONDS

    def run(self, prepared: PreparedDirectory, resume: bool) -> Summary:
        """Train to the end, whatever is left to do; the chief alone writes anything.

        Args:
            prepared: What is trained on, which the run names.
            resume: Go on from the last state, where there is one.

        Raises:
            RecipeError: Where the run is beyond the recipe's epochs already.
            DataError: Where the state cannot be read.
            KerasrepError: See `Loop.run`.
        """
        if resume:
            self._restore()
        workers, seconds = self.execution.workers, self.recipe.distribution.prepare_seconds
        agree_on_step(workers, self.progress.step)
        if self._chief:
            keep_identities(self.recipe, prepared, self.data.index.rows("train"), self.run_directory)
            write_beginning(self.recipe, prepared, self.run_directory, self.data.damaged)
            summary = self._run_as_chief(prepared)
            workers.from_chief(_TRAINED, lambda: None)
            return summary
        self._train()
        workers.from_chief(_TRAINED, lambda: None, seconds)  # it has written the last state, with the scores
        self.progress = restore_state(self.run_directory.last, self.states, len(self.recipe.sources))
        return self.summary()

    def _restore(self) -> None:
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
            self.run_directory.whitening.unlink(missing_ok=True)  # of what was trained before
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
        if few := self.data.few:
            named = ", ".join(f"{source} ({tracks})" for source, tracks in few.items())
            what = "the last state is kept" if self._keeps_last else "they do not decide which state is kept"
            self._say(f"fewer than {LEAST_TRACKS} validation tracks: {named}; {what}")
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
            self.board.crops(self.network, self.recipe, index, rows, prepared.tracks)
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
        better = improved(
            self.network,
            losses,
            self.progress.best,
            epoch,
            self.data.within_groups,
            self.recipe.training.keep == "last",
            self.data.few,
        )
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
            row |= {f"validation_loss/{source}": score.loss, f"validation_accuracy/{source}": score.accuracy}
        if scores:
            undecided = {*self.data.within_groups, *self.data.few}
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
        network = self.network
        if not self.execution.plain:  # others use it in float32, on one device, of ordinary layers
            scaler = load_scaler(self.run_directory.scaler, self.recipe.audio.n_mels)
            network = network_of(self.recipe, self.data.sizes, scaler)
        load_weights(self.run_directory.best, network)
        if self.recipe.training.whitening:
            path = self.run_directory.whitening
            arrays = fit_whitening(self.recipe, network, self.data, self._show)
            write_arrays(path, arrays)
            network = with_whitening(network, path, arrays)
        with atomic_file(self.run_directory.model) as temporary:
            network.embedder.save(temporary)
        summary = self.summary(self._outcomes())
        if self._full_board:
            board = Board(self.run_directory.tensorboard, suffix=".final")
            board.hparams(self.recipe, summary)
            board.projector(network, self.data.index, self.data.validation, prepared)
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
                loss=self.network.loss_of(source),
            )
            rows.append(row.with_intervals(outcomes[source]) if outcomes else row)
        kept = "last" if self._keeps_last else "best"
        return Summary(rows, self.recipe.training.epochs, self.progress.seconds, kept)

    @property
    def _keeps_last(self) -> bool:
        """Whether the last state is kept: the recipe says so, or no source can decide."""
        return self.recipe.training.keep == "last" or self.data.few.keys() >= {*self.recipe.sources}


def _csv(history: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
