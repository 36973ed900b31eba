"""What `kerasrep-evaluate` does with each task: read, embed, probe, keep; and the report at the end."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import kerasrep
from kerasrep.downstream.base import Comparison, Evaluation, Kind, LabelledData, ProbeResult, Task, TaskData
from kerasrep.downstream.labelled import evaluate_labelled
from kerasrep.downstream.probes import PROBES
from kerasrep.downstream.recommendation import dense, evaluate_recommendation
from kerasrep.downstream.registry import counts, open_task
from kerasrep.downstream.report import terminal_report, write_report
from kerasrep.downstream.results import find_evaluation, save_evaluation
from kerasrep.downstream.significance import compare
from kerasrep.embedding.cache import cached_embeddings
from kerasrep.errors import DataError, KerasrepError, RecipeError, RunError, one_line
from kerasrep.recipe import fingerprint

if TYPE_CHECKING:
    from kerasrep.embedding.representations import Representation

FORMAT_VERSION = 1  # raise it whenever the same embeddings and labels give other scores

DEMO_NOTE = (
    "The demo tasks are a first answer, not a benchmark: dance type, metre and composer group come from the "
    "scores, lead instrument and tempo were chosen at rendering, listeners are simulated, and all of it is "
    "audible by construction. No recipe trains on these tracks."
)


@dataclass(frozen=True)
class Options:
    """What scores depend on, beside data and representation.

    Attributes:
        probes: Names; `None` for all, as for a kind of task that has none of them.
        n_folds: Folds, or repeats.
        seed: Of folds, probes and resampling.
        tune: Choose C on the training part.
        dense: Recommendation among active users and often played items only.
        shuffle_labels: Permute labels first, as a control.
        max_missing: Part of a task's items that may lack usable audio.
    """

    probes: tuple[str, ...] | None = None
    n_folds: int = 5
    seed: int = 0
    tune: bool = False
    dense: bool = False
    shuffle_labels: bool = False
    max_missing: float = 0.02


def check_output(folder: Path) -> None:
    """Refuse a folder that nothing could be written to, before any work.

    Raises:
        RunError: Naming it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"-o {folder}: cannot be made ({error.strerror}); choose another folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"-o {folder}: cannot write there; choose another folder")


def check_probes(names: Sequence[str] | None) -> None:
    """Refuse a name that no kind of task knows.

    Raises:
        RecipeError: Naming it.
    """
    known = list(dict.fromkeys(probe.name for probes in PROBES.values() for probe in probes))
    for name in names or ():
        if name not in known:
            raise RecipeError(f"--probes: there is no probe '{name}'; there are {', '.join(known)}")


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
        self._tasks: list[Task] = []

    def run(self, task: Task, root: Path) -> None:
        """Evaluate all representations on a task; failures are noted, and what went well is kept."""
        self._tasks.append(task)
        try:
            data = open_task(task, root)
            if self._options.dense and not isinstance(data, LabelledData):
                data = dense(data)
        except Exception as error:
            self._note(task.name, error)
            return
        for notice in data.notices:
            print(f"note: {task.name}: {one_line(notice)}", flush=True)
        done = []
        for representation in self._representations:
            try:
                done.append(self._evaluate(task, data, representation))
            except Exception as error:
                self._note(f"{task.name}, {representation.name}", error)
        self._evaluations += done
        for other in done[1:]:
            try:
                self._comparisons += _compare(done[0], other, self._options.seed)
            except KerasrepError as error:
                self._note(f"{task.name}, {done[0].representation} and {other.representation}", error)

    def finish(self, prog: str) -> int:
        """Print the table, write the report, list failures.

        Returns:
            How many failures there were.
        """
        if self._evaluations:
            print(f"\n{terminal_report(self._evaluations, self._comparisons, verbose=self._verbose)}")
            notes = [DEMO_NOTE] if any(task.name.startswith("demo_") for task in self._tasks) else []
            if self._options.shuffle_labels:
                notes.append("A control: labels were permuted, so scores above chance would show a leak.")
            written = write_report(
                self._output, self._evaluations, self._comparisons, self._provenance(prog), notes
            )
            page = next(path for path in written if path.suffix == ".html")
            print(f"report:       {one_line(str(page))} (pictures and their data: plots/)")
            print(f"scores:       {one_line(str(self._output / 'scores.csv'))}, summary.csv, scores.json")
            print(f"TensorBoard:  tensorboard --logdir {one_line(str(self._output / 'tensorboard'))}")
        for failure in self._failures:
            print(f"{prog}: failed: {one_line(failure)}", file=sys.stderr, flush=True)
        return len(self._failures)

    def _note(self, where: str, error: Exception) -> None:
        if isinstance(error, KerasrepError):
            line = str(error)
        else:
            traceback.print_exception(error)
            line = f"this is a fault in kerasrep {kerasrep.__version__}: {type(error).__name__}: {error}"
        self._failures.append(line if line.startswith(where) else f"{where}: {line}")
        print(f"failed: {one_line(self._failures[-1])}", file=sys.stderr, flush=True)

    def _evaluate(self, task: Task, data: TaskData, representation: Representation) -> Evaluation:
        started = time.monotonic()
        matrix, rows, bad = cached_embeddings(representation, data.paths)
        reasons = {item.path: item.reason for item in bad}
        kept = set(rows.tolist())
        left_out = {
            item: reasons.get(path, "no embedding")
            for row, (item, path) in enumerate(zip(data.item_ids, data.paths, strict=True))
            if row not in kept
        }
        _check_missing(left_out, len(data.item_ids), self._options.max_missing)
        found_counts = counts(task, data)
        used = data.keep(rows) if left_out else data
        key = self._key(task, used, matrix)
        folder = self._output / "results"
        found = find_evaluation(folder, representation.name, task.name, key, notify=_notify)
        if found is None:
            probes = self._probe(task, used, matrix)
            found = Evaluation(
                representation.name,
                matrix.shape[1],
                task.name,
                task.kind,
                task.metric,
                len(used.item_ids),
                left_out,
                probes,
                found_counts,
            )
            save_evaluation(folder, found, key)
        print(_line(found, time.monotonic() - started), flush=True)
        return found

    def _probe(self, task: Task, data: TaskData, matrix: NDArray[np.float32]) -> tuple[ProbeResult, ...]:
        options = self._options
        if not isinstance(data, LabelledData):
            if options.shuffle_labels:  # which embedding belongs to which item is the label here
                matrix = matrix[np.random.default_rng(options.seed).permutation(len(matrix))]
            return evaluate_recommendation(data, matrix, n_repeats=options.n_folds, seed=options.seed)
        return evaluate_labelled(
            data,
            matrix,
            task.kind,
            probes=_of_kind(options.probes, task.kind),
            n_folds=options.n_folds,
            seed=options.seed,
            tune=options.tune,
            shuffle_labels=options.shuffle_labels,
        )

    def _key(self, task: Task, data: TaskData, matrix: NDArray[np.float32]) -> str:
        """Changes with everything that scores depend on."""
        digest = hashlib.sha256(np.ascontiguousarray(matrix).tobytes())
        parts: list[Any] = [data.item_ids, data.groups]
        if isinstance(data, LabelledData):
            parts += [data.labels, data.splits]
        else:
            parts += [
                data.user_ids,
                np.asarray([data.k, data.held_out_fraction]),
                data.plays.data,
                data.plays.indices,
                data.plays.indptr,
            ]
        for part in parts:
            array = np.asarray([] if part is None else part)
            digest.update(f"{array.dtype.kind}{array.shape}".encode())
            digest.update(array.tobytes() if array.dtype.kind in "fi" else "\0".join(array).encode())
        options = {k: v for k, v in asdict(self._options).items() if k != "max_missing"}
        return fingerprint([FORMAT_VERSION, kerasrep.__version__, task.name, options, digest.hexdigest()])

    def _provenance(self, prog: str) -> dict[str, Any]:
        libraries = ("numpy", "scipy", "scikit-learn", "tensorflow", "keras")
        return {
            "command": [prog, *sys.argv[1:]],
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "options": asdict(self._options),
            "representations": {one.name: one.fingerprint for one in self._representations},
            "tasks": {
                task.name: {"split": task.split, "citation": task.citation, "licence": task.licence}
                for task in self._tasks
            },
            "versions": {"kerasrep": kerasrep.__version__}
            | {library: metadata.version(library) for library in libraries},
        }


def _of_kind(names: Sequence[str] | None, kind: Kind) -> tuple[str, ...] | None:
    """The named probes that there are for a kind of task; all where none is."""
    known = [probe.name for probe in PROBES[kind]]
    return tuple(name for name in names or () if name in known) or None


def _check_missing(left_out: dict[str, str], n_items: int, max_missing: float) -> None:
    """Refuse a task that lacks too much of its audio."""
    if len(left_out) > max_missing * n_items or len(left_out) == n_items:
        item, reason = next(iter(left_out.items()))
        raise DataError(
            f"{len(left_out)} of {n_items} items have no usable audio, more than --max-missing "
            f"{max_missing:g} allows; the first, {item}: {reason}"
        )


def _compare(first: Evaluation, second: Evaluation, seed: int) -> list[Comparison]:
    """The headline probe of two representations on one task."""
    return [
        compare(
            first.task,
            first.metric,
            first.representation,
            first.probes[0],
            second.representation,
            second.probes[0],
            seed=seed,
        )
    ]


def _line(evaluation: Evaluation, seconds: float) -> str:
    headline, chance = evaluation.probes[0], evaluation.probes[-1]
    return (
        f"{evaluation.task:<22} {evaluation.representation:<24} {headline.probe} {evaluation.metric} "
        f"{headline.mean:.3f} [{headline.low:.3f}, {headline.high:.3f}], chance {chance.mean:.3f} "
        f"({seconds:.1f} s)"
    )


def _notify(message: str) -> None:
    print(f"note: {one_line(message)}", flush=True)
