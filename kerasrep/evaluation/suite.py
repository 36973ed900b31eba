"""What `kerasrep-evaluate` does with each task: read, embed, probe, keep; and the report at the end."""

from __future__ import annotations

import functools
import logging
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import kerasrep
from kerasrep.data import notices
from kerasrep.data.recordings import Identities, read_identities
from kerasrep.embedding.cache import cached_embeddings
from kerasrep.embedding.identities import cached_identities, seen_and_copies
from kerasrep.errors import DataError, KerasrepError, machine_message, one_line
from kerasrep.evaluation.base import (
    Comparison,
    Evaluation,
    LabelledData,
    PlayData,
    ProbeResult,
    Task,
    TaskData,
)
from kerasrep.evaluation.copies import LEAST_UNSEEN, Seen, equal_rows, with_copies_together
from kerasrep.evaluation.neighbours import evaluate_neighbours
from kerasrep.evaluation.options import FITTED_BY, Options, probes_of_kind, result_key
from kerasrep.evaluation.probing.folds import folds
from kerasrep.evaluation.probing.labelled import evaluate_labelled
from kerasrep.evaluation.recommendation.evaluate import dense, evaluate_recommendation
from kerasrep.evaluation.registry import check_missing, counts, missing_audio, open_task
from kerasrep.evaluation.report import terminal_report, write_report
from kerasrep.evaluation.results import find_evaluation, save_evaluation
from kerasrep.evaluation.significance import compare
from kerasrep.report.wording import listing
from kerasrep.runtime.console import result, say
from kerasrep.runtime.run_log import event

if TYPE_CHECKING:
    from kerasrep.embedding.representations import Representation


DEMO_NOTE = (
    "The demo tasks are a first answer, not a benchmark: dance type, metre and composer group come from the "
    "scores, lead instrument and tempo were chosen at rendering, listeners are simulated, and all of it is "
    "audible by construction. No recipe trains on these tracks."
)


@dataclass(frozen=True)
class _Embedded:
    """What one representation made of a task's audio.

    Attributes:
        representation: Which.
        matrix: float32 [its good items, dimension].
        rows: Of the good items, ascending.
        left_out: Item -> reason, for the others.
        seconds: How long it took.
    """

    representation: Representation
    matrix: NDArray[np.float32]
    rows: NDArray[np.intp]
    left_out: Mapping[str, str]
    seconds: float


class Suite:
    """Several representations on one task after the other."""

    def __init__(
        self, output: Path, options: Options, representations: Sequence[Representation], verbose: bool = False
    ) -> None:
        """Keep what is asked for; nothing is read yet.

        Args:
            output: Folder of the results.
            options: What scores depend on.
            representations: The first is compared with each of the others.
            verbose: Show every probe in the table.
        """
        self._output, self._options, self._verbose = output, options, verbose
        self._representations = representations
        self._evaluations: list[Evaluation] = []
        self._comparisons: list[Comparison] = []
        self._failures: list[str] = []
        self._tasks: dict[str, tuple[Task, Path]] = {}
        self._audio: dict[str, dict[str, Path]] = {}
        self._notes: list[str] = []

    @cached_property
    def _trained_on(self) -> dict[str, Identities]:
        """Model -> identities of the recordings that it was trained on, where they were kept.

        Raises:
            DataError: Where such a file is damaged.
        """
        paths = {one.name: getattr(one, "trained_on", None) for one in self._representations}
        models = {name: path for name, path in paths.items() if path is not None}
        unknown = [name for name, path in models.items() if not path.is_file()]
        if unknown:
            were = "was" if len(unknown) == 1 else "were"
            self._notes.append(f"It is not known on which recordings {listing(unknown)} {were} trained.")
            _notify(self._notes[-1])
        return {name: read_identities(path) for name, path in models.items() if path.is_file()}

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """What was evaluated so far."""
        return tuple(self._evaluations)

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed so far, one line each."""
        return tuple(self._failures)

    def run(self, task: Task, root: Path) -> None:
        """Evaluate all representations on a task; failures are noted, and what went well is kept.

        All of them are judged on the same items: those that every representation could embed.
        """
        self._tasks[task.name] = task, root
        try:
            data = open_task(task, root)
            found_counts = counts(task, data)
            for notice in data.notices:
                self._tell(task, notice)
            missing = {item: f"{path}: is missing" for item, path in missing_audio(data)}
            check_missing(missing, len(data.item_ids), self._options.max_missing)  # before hours of work
        except Exception as error:
            self._note(task.name, error)
            return
        self._audio[task.name] = dict(zip(data.item_ids, data.paths, strict=True))
        embedded = self._embed_all(task, data)
        common = _common_rows(embedded)
        seen = None
        try:
            if embedded:
                data, seen = self._recordings(task, data, embedded[0], common)
        except Exception as error:
            self._note(task.name, error)
            return
        reasons = {}
        if seen is not None:
            found_counts = {**found_counts, "seen": seen.counts()}
            if seen.removed:
                reasons = seen.reasons
                kept = [data.item_ids[row] not in reasons for row in common]
                common = common[np.array(kept, bool)]
        done = []
        for one in embedded:
            try:
                done.append(self._evaluate(task, data, one, common, found_counts, reasons))
            except Exception as error:
                self._note(f"{task.name}, {one.representation.name}", error)
        self._evaluations += done
        first = [one for one in done if one.representation == self._representations[0].name]
        for other in done[1:] if first else ():
            try:
                pair = first[0].representation, first[0].probes[0], other.representation, other.probes[0]
                self._comparisons.append(compare(task.name, task.metric, *pair, seed=self._options.seed))
            except Exception as error:
                self._note(f"{task.name}, {first[0].representation} and {other.representation}", error)

    def finish(self, prog: str) -> int:
        """Print the table, write the report, list failures.

        Returns:
            How many failures there were.
        """
        if self._evaluations:
            width = max(80, shutil.get_terminal_size((100, 24)).columns)
            table = terminal_report(self._evaluations, self._comparisons, self._verbose, width)
            say(f"\n{table}")
            notes = [DEMO_NOTE] if any(name.startswith("demo_") for name in self._tasks) else []
            notes += self._notes
            if self._options.shuffle_labels:
                notes.append("A control: labels were permuted, so scores above chance would show a leak.")
            provenance = self._provenance(prog)
            written = write_report(
                self._output, self._evaluations, self._comparisons, provenance, notes, self._audio
            )
            page = next(path for path in written if path.suffix == ".html")
            event("report", page=page, evaluations=len(self._evaluations), failures=len(self._failures))
            result(page, f"report:       {one_line(str(page))} (pictures and their data: plots/)")
            say(f"scores:       {one_line(str(self._output / 'scores.csv'))}, summary.csv, scores.json")
            say(f"TensorBoard:  tensorboard --logdir {one_line(str(self._output / 'tensorboard'))}")
        for failure in self._failures:
            print(f"{prog}: failed: {one_line(failure)}", file=sys.stderr, flush=True)
        return len(self._failures)

    def _note(self, where: str, error: Exception) -> None:
        line = str(error) if isinstance(error, KerasrepError) else machine_message(error)
        if line is None:
            traceback.print_exception(error)
            line = f"this is a fault in kerasrep {kerasrep.__version__}: {type(error).__name__}: {error}"
        self._failures.append(line if line.startswith(where) else f"{where}: {line}")
        print(f"failed: {one_line(self._failures[-1])}", file=sys.stderr, flush=True)
        event("failed", logging.ERROR, reason=self._failures[-1])

    def _embed_all(self, task: Task, data: TaskData) -> list[_Embedded]:
        found = []
        for representation in self._representations:
            try:
                found.append(self._embed(data, representation))
            except Exception as error:
                self._note(f"{task.name}, {representation.name}", error)
        return found

    def _recordings(
        self, task: Task, data: TaskData, embedded: _Embedded, common: NDArray[np.intp]
    ) -> tuple[TaskData, Seen | None]:
        """Put copies of a recording into one group, and find the items that a model was trained on."""
        identities, known = cached_identities([data.paths[row] for row in embedded.rows])
        notices.take()  # which embedding has given
        rows = embedded.rows[known]
        seen, first = seen_and_copies(identities, self._trained_on)
        pairs = [(int(rows[n]), int(rows[of])) for n, of in enumerate(first.tolist()) if n != of]
        same = equal_rows(embedded.matrix)
        pairs += [(int(embedded.rows[n]), int(embedded.rows[of])) for n, of in enumerate(same) if n != of]
        data, said = with_copies_together(data, pairs)
        self._tell(task, said)
        if not seen:
            return data, None
        by_model = {name: tuple(data.item_ids[row] for row in rows[some]) for name, some in seen.items()}
        left = np.setdiff1d(common, rows[np.concatenate(list(seen.values()))])
        found = Seen(by_model, len(data.item_ids), self._is_enough(task, data.keep(left)))
        self._tell(task, found.sentence())
        return data, found

    def _is_enough(self, task: Task, data: TaskData) -> bool:
        """Whether a task of these items can be scored."""
        if len(data.item_ids) < LEAST_UNSEEN:
            return False
        if isinstance(data, LabelledData) and task.kind in {"classification", "regression"}:
            try:
                folds(data, task.kind, self._options.n_folds, self._options.seed)
            except DataError:
                return False
        return True

    def _tell(self, task: Task, line: str) -> None:
        """Say a line now, and on the page."""
        if line:
            self._notes.append(f"{task.name}: {line}.")
            _notify(f"{task.name}: {line}")

    def _embed(self, data: TaskData, representation: Representation) -> _Embedded:
        started = time.monotonic()
        notices.take()  # those of earlier work in this process
        matrix, rows, bad = cached_embeddings(representation, data.paths)
        for line in notices.take():
            say(f"note: {line}")
        reasons = {item.path: item.reason for item in bad}
        good = np.zeros(len(data.item_ids), bool)
        good[rows] = True
        left_out = {
            data.item_ids[row]: reasons.get(data.paths[row], "no embedding") for row in np.flatnonzero(~good)
        }
        check_missing(left_out, len(data.item_ids), self._options.max_missing)
        return _Embedded(representation, matrix, rows, left_out, time.monotonic() - started)

    def _evaluate(
        self,
        task: Task,
        data: TaskData,
        embedded: _Embedded,
        common: NDArray[np.intp],
        found_counts: Mapping[str, Any],
        reasons: Mapping[str, str],
    ) -> Evaluation:
        started, name = time.monotonic(), embedded.representation.name
        matrix, used = embedded.matrix, data
        if len(common) < len(data.item_ids):
            used = data.keep(common)
            matrix = matrix[np.isin(embedded.rows, common)]
        if self._options.dense and isinstance(used, PlayData):
            rows = {item: row for row, item in enumerate(used.item_ids)}
            used = dense(used)
            matrix = matrix[[rows[item] for item in used.item_ids]]
        left_out = _left_out(data, embedded, common, reasons)
        key = result_key(task, used, matrix, self._options)
        folder = self._output / "results" / key
        found = find_evaluation(folder, name, task.name, key, notify=_notify)
        if found is None:
            probes = self._probe(task, used, matrix)
            n_items, dimension = matrix.shape
            found = Evaluation(
                name, dimension, task.name, task.kind, task.metric, n_items, left_out, probes, found_counts
            )
            save_evaluation(folder, found, key)
        found = replace(found, left_out=left_out, counts=found_counts)  # which scores do not depend on
        seconds = embedded.seconds + time.monotonic() - started
        say(_line(found, seconds))
        event("evaluated", **_facts(found), seconds=round(seconds, 3))
        return found

    def _probe(self, task: Task, data: TaskData, matrix: NDArray[np.float32]) -> tuple[ProbeResult, ...]:
        options = self._options
        if not isinstance(data, LabelledData):
            if options.shuffle_labels:  # which embedding belongs to which item is the label here
                matrix = matrix[np.random.default_rng(options.seed).permutation(len(matrix))]
            return evaluate_recommendation(data, matrix, n_repeats=options.n_folds, seed=options.seed)
        if task.kind == "neighbours":
            return evaluate_neighbours(data, matrix, options.seed, options.shuffle_labels)
        return evaluate_labelled(
            data,
            matrix,
            task.kind,
            probes=options.probes and probes_of_kind(options.probes, task.kind),
            n_folds=options.n_folds,
            seed=options.seed,
            tune=options.tune,
            shuffle_labels=options.shuffle_labels,
        )

    def _provenance(self, prog: str) -> dict[str, Any]:
        return {
            "command": [prog, *sys.argv[1:]],
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "options": asdict(self._options),
            "representations": {one.name: one.fingerprint for one in self._representations},
            "tasks": {
                name: {
                    "data": str(root),
                    "split": task.split,
                    "citation": task.citation,
                    "licence": task.licence,
                }
                for name, (task, root) in self._tasks.items()
            },
            "versions": {"kerasrep": kerasrep.__version__}
            | {library: metadata.version(library) for library in (*FITTED_BY, "tensorflow", "keras")},
        }


def _common_rows(embedded: Sequence[_Embedded]) -> NDArray[np.intp]:
    """Rows of the items that every representation could embed, ascending."""
    rows = [one.rows for one in embedded]
    return functools.reduce(np.intersect1d, rows) if rows else np.zeros(0, np.intp)


def _left_out(
    data: TaskData, embedded: _Embedded, common: NDArray[np.intp], reasons: Mapping[str, str]
) -> dict[str, str]:
    """Items that are not used: what this or another representation cannot embed, and those of `reasons`."""
    others = [data.item_ids[row] for row in np.setdiff1d(embedded.rows, common)]
    no_embedding = "another representation has no embedding of it"
    return {**embedded.left_out, **{item: reasons.get(item, no_embedding) for item in others}}


def _line(evaluation: Evaluation, seconds: float) -> str:
    headline, chance = evaluation.probes[0], evaluation.probes[-1]
    return (
        f"{evaluation.task:<22} {evaluation.representation:<24} {headline.probe} {evaluation.metric} "
        f"{headline.mean:.3f} [{headline.low:.3f}, {headline.high:.3f}], chance {chance.mean:.3f} "
        f"({seconds:.1f} s)"
    )


def _facts(evaluation: Evaluation) -> dict[str, Any]:
    headline, chance = evaluation.probes[0], evaluation.probes[-1]
    return {
        "task": evaluation.task,
        "representation": evaluation.representation,
        "probe": headline.probe,
        "metric": evaluation.metric,
        "mean": headline.mean,
        "low": headline.low,
        "high": headline.high,
        "chance": chance.mean,
        "items": evaluation.n_items,
    }


def _notify(message: str) -> None:
    say(f"note: {one_line(message)}")
    event("note", message=message)
