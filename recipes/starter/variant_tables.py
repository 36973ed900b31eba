"""What variants.py found: scores of each training, and tables of the mean of the seeds beside others."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from files import CollectError, read_table, write_table, write_text

from kerasrep.evaluation.significance import blocks_of, mean_interval

PROBES = ("linear_svm", "ridge", "cosine")
#: Task without its part, and metric -> column of the tables.
COLUMNS = {
    ("soundtrack", "accuracy"): "soundtrack",
    ("composer", "accuracy"): "composer",
    ("note_family", "accuracy"): "note family",
    ("note_drum", "accuracy"): "drum hit",
    ("tempo", "r2"): "tempo, R²",
    ("neighbour_composer", "first_neighbour"): "nearest by composer",
    ("neighbour_composer", "first_five"): "of five",
    ("neighbour_soundtrack", "first_neighbour"): "nearest from soundtrack",
    ("neighbour_soundtrack", "first_five"): "of five",
}

Scores = Mapping[tuple[str, str], float]
#: Mean, lower and upper end of a difference, by task and metric.
Differences = Mapping[tuple[str, str], tuple[float, float, float]]


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed.

    Attributes:
        name: As in the file.
        settings: `KEY=VALUE` words for `kerasrep-train`.
        steps: Of the training.
    """

    name: str
    settings: tuple[str, ...]
    steps: int


@dataclass(frozen=True)
class Job:
    """One training and its scores.

    Attributes:
        variant: What is trained.
        trained: Letters of the parts that it learns from.
        scored: Letter of the part that it is scored on.
        seed: Of the training.
    """

    variant: Variant
    trained: str
    scored: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.variant.name}-{self.trained}-{self.scored}-{self.seed}"


@dataclass(frozen=True)
class Beside:
    """Another representation on the same tasks; it learns from none of the parts.

    Attributes:
        model: As `kerasrep-evaluate` takes it, such as `musicnn`.
        scored: Letter of the part.
    """

    model: str
    scored: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{re.sub('[^A-Za-z0-9.]+', '-', self.model)}-{self.scored}"


def scores_of(folder: Path) -> dict[tuple[str, str], float]:
    """Scores of one job by task, without its part, and metric; and how many copies were found."""
    found = evaluated(folder)
    *_, names, _, counts = (folder / "robustness.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in (names, counts)]
    return found | {("robustness", name): float(count) for name, count in zip(*cells, strict=True)}


def evaluated(folder: Path) -> dict[tuple[str, str], float]:
    """Scores of what was evaluated in a folder by task, without its part, and metric."""
    found = {}
    with (folder / "evaluation" / "summary.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["probe"] in PROBES:
                found[row["task"].rpartition("_")[0], row["metric"]] = float(row["mean"])
    return found


def item_scores(folder: Path, task: str) -> tuple[dict[str, float], int]:
    """What each item contributes to a task's mean, of the one model of a folder; and how many were left out.

    Items that the model was trained on are, where enough remain.
    """
    (path,) = (folder / "evaluation" / "predictions").glob(f"*/{task}.csv")
    found: dict[str, list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["item"]].append(float(row["score"]))
    with (folder / "evaluation" / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == task]
    left_out = max(int(row["seen"]) - int(row["seen_scored"]) for row in rows)
    return {item: float(np.mean(scores)) for item, scores in found.items()}, left_out


def difference(
    folders: Sequence[Path], beside: Path, task: str, groups: Mapping[str, str]
) -> tuple[float, float, float]:
    """Mean of several evaluations minus another one on the same items, and its 95% interval over groups.

    Args:
        folders: Of the seeds.
        beside: Of the other one.
        task: With its part.
        groups: Of each item.

    Raises:
        CollectError: They are of other items, such as before more of the data was made.
    """
    of_folders = [item_scores(folder, task) for folder in (beside, *folders)]
    everything = set().union(*(scores for scores, _ in of_folders))
    for folder, (scores, left_out) in zip((beside, *folders), of_folders, strict=True):
        if len(scores) + left_out != len(everything):
            raise CollectError(f"{task}: {folder} and others have other items; delete the older evaluation")
    items = sorted(set.intersection(*(set(scores) for scores, _ in of_folders)))
    other, *seeds = [np.array([scores[item] for item in items]) for scores, _ in of_folders]
    values = np.mean(seeds, axis=0) - other
    blocks = blocks_of(np.array(items), np.array([groups[item] for item in items]))
    return float(values.mean()), *mean_interval(values, blocks)


def rounded(value: float, metric: str) -> str:
    """As the tables have it: .795, or 60."""
    if metric == "copies":
        return f"{value:.0f}"
    return f"{round(value, 3) + 0.0:.3f}".replace("0.", ".", 1)  # not -.000


def tables(
    scores: Mapping[Job, Scores],
    others: Mapping[Beside, Scores] | None = None,
    less: Mapping[tuple[str, str, str, Beside], Differences] | None = None,
) -> Iterator[str]:
    """Lines of Markdown: a table for each pair of parts, with the mean of the seeds and each of them.

    Args:
        scores: Of the jobs.
        others: Of what stands beside them.
        less: By variant, parts trained on, part scored and what is beside: the mean of the seeds minus that.
    """
    others, less = others or {}, less or {}
    there = dict.fromkeys(key for found in scores.values() for key in found)
    copies = [key for key in there if key[0] == "robustness"]
    columns = {key: COLUMNS[key] for key in COLUMNS if key in there} | {key: key[1] for key in copies}
    pairs = dict.fromkeys((job.trained, job.scored) for job in scores)
    for trained, scored in pairs:
        of_variant: dict[str, list[Scores]] = defaultdict(list)
        for job, found in sorted(scores.items(), key=lambda item: item[0].seed):
            if (job.trained, job.scored) == (trained, scored):
                of_variant[job.variant.name].append(found)
        beside = {other: found for other, found in others.items() if other.scored == scored}
        yield f"| trained on {trained}, scored on {scored} | seeds | {' | '.join(columns.values())} |"
        yield "|---" * (len(columns) + 2) + "|"
        for name, seeds in of_variant.items():
            cells = [name, str(len(seeds))]
            for key in columns:
                values = [found[key] for found in seeds]
                metric = "copies" if key in copies else key[1]
                each = ", ".join(rounded(value, metric) for value in values)
                cells.append(
                    rounded(sum(values) / len(values), metric) + (f" ({each})" if len(values) > 1 else "")
                )
            yield f"| {' | '.join(cells)} |"
            for other in beside:
                found = less.get((name, trained, scored, other), {})
                cells = [f"{name} - {other.model}", str(len(seeds))]
                cells += [interval(*found[key]) if key in found else "" for key in columns]
                yield f"| {' | '.join(cells)} |"
        for other, found in beside.items():
            cells = [rounded(found[key], key[1]) if key in found else "" for key in columns]
            yield f"| {other.model} | | {' | '.join(cells)} |"
        yield ""


def interval(mean: float, low: float, high: float) -> str:
    """As the tables have it: +.112 [.041, .186]."""
    sign = "+" if mean >= 0 else ""
    return f"{sign}{rounded(mean, '')} [{rounded(low, '')}, {rounded(high, '')}]"


def differences_of(
    folders: Sequence[Path], beside: Path
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Of each task: the mean of several evaluations minus another one; see `difference`."""
    tasks = yaml.safe_load((beside / "tasks.yaml").read_text(encoding="utf-8"))["tasks"]
    tables_of = {task["name"]: Path(task["table"]) for task in tasks}
    found = {}
    for task, metric in COLUMNS:
        if metric == "first_five":  # of five, items have no single score
            continue
        for name, table in tables_of.items():
            if name.rpartition("_")[0] == task:
                groups = {row["path"]: row["group"] for row in read_table(table)}
                found[task, metric] = difference(folders, beside, name, groups)
    return found


def write_scores(jobs: Sequence[Job], out: Path, beside: Sequence[Beside] = ()) -> None:
    """`scores.tsv` and `tables.md` of the jobs that are done."""
    scores = {job: scores_of(out / job.name) for job in jobs if (out / job.name / "robustness.md").is_file()}
    others = {
        other: evaluated(out / other.name)
        for other in beside
        if (out / other.name / "evaluation" / "summary.csv").is_file()
    }
    folders: dict[tuple[str, str, str], list[Path]] = defaultdict(list)
    for job in scores:
        folders[job.variant.name, job.trained, job.scored].append(out / job.name)
    less = {
        (*of, other): differences_of(found, out / other.name)
        for of, found in folders.items()
        for other in others
        if other.scored == of[2]
    }
    rows = [
        (job.variant.name, job.trained, job.scored, job.seed, *key, value)
        for job, found in scores.items()
        for key, value in found.items()
    ]
    columns = ("variant", "trained", "scored", "seed", "task", "metric", "value")
    write_table(out / "scores.tsv", columns, rows)
    write_text(out / "tables.md", "\n".join(tables(scores, others, less)) + "\n")
