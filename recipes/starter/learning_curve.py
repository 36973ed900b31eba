"""How many labelled pieces a trunk saves: learning curves from a trunk, from noise, and of the frozen trunk.

    python recipes/starter/learning_curve.py RUN data/starter/benchmark/soundtrack_a.tsv --out curve

RUN (a run directory or an export) must not have learnt from the pieces of the table (columns path,
label, group). Of each seed two fifths of the groups are the test. From the others, so many pieces are
drawn a size; a network learns their labels alone, once from RUN's trunk on and once from its initial
weights. The embeddings of both and those of RUN itself are then scored alike by `kerasrep-evaluate`
(linear SVM, trained on the same pieces). What is there is not trained again. Writes scores.tsv, curve.png
and the tables and recipes of each size.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from files import CollectError, kerasrep_command, read_table, write_table

TEST_SHARE = 0.4
LEAST_A_CLASS = 2  # pieces that a class has in every training set
BATCH, VALIDATION_SHARE = 16, 0.1
METRIC = "balanced_accuracy"
NAMES = {"noise": "from noise", "trunk": "from the trunk on", "frozen": "trunk as it is"}


def drawn(
    rows: Sequence[Mapping[str, str]], sizes: Sequence[int], seed: int
) -> dict[int, list[dict[str, str]]]:
    """Rows with a column `split`, for each size: one test, and training sets each within the next larger.

    Groups are dealt label by label, so that each label is in test and training; training sets begin with
    `LEAST_A_CLASS` pieces of each label.
    """
    rng = np.random.default_rng(seed)
    by_label: dict[str, dict[str, list[Mapping[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_label[row["label"]][row["group"]].append(row)
    test, first, rest = [], [], []
    for groups in by_label.values():
        pieces = [groups[name] for name in rng.permutation(sorted(groups))]
        n_test = max(1, round(TEST_SHARE * len(pieces)))
        test += [row for piece in pieces[:n_test] for row in piece]
        kept = [row for piece in pieces[n_test:] for row in piece]
        first += kept[:LEAST_A_CLASS]
        rest += kept[LEAST_A_CLASS:]
    order = first + [rest[place] for place in rng.permutation(len(rest))]
    if len(order) < max(sizes) or len(first) > min(sizes):
        raise CollectError(f"--sizes must be from {len(first)} to {len(order)}")
    tests = [{**row, "split": "test"} for row in test]
    return {size: [*({**row, "split": "train"} for row in order[:size]), *tests] for size in sizes}


def recipe_of(folder: Path, name: str, run: Path, n_steps: int, seed: int) -> dict[str, object]:
    """Learns the labels of the training pieces, whose audio is linked into `folder/audio`."""
    start = name == "trunk"
    n_pieces = len(list((folder / "audio").iterdir()))
    steps_an_epoch = max(1, int(n_pieces * (1 - VALIDATION_SHARE)) // BATCH)
    return {
        "name": name,
        "strategy": "ss-r",
        "sources": ["label"],
        "seed": seed,
        "corpus": {
            "name": "folder",
            "root": str(folder / "audio"),
            "tables": {
                "label": {
                    "path": str((folder / "labels.tsv").resolve()),
                    "track": "path",
                    "item": "label",
                    "target": "classes",
                    "min_tracks": 1,
                }
            },
            "validation_fraction": VALIDATION_SHARE,
        },
        "model": {"trunk": "residual", "dropout": 0.2, "l2": 0.0}
        | ({"start": str(run.resolve())} if start else {}),
        "export": {"directory": str(folder / "exported")},
        "batches": {"size": BATCH, "crops_per_visit": 1},
        "augment": {"gain_db": [-12, 6], "swap": 0.5},
        "training": {
            "epochs": max(1, n_steps // steps_an_epoch),
            "validate_every_epochs": max(1, n_steps // steps_an_epoch),
            "checkpoint_every_epochs": max(1, n_steps // steps_an_epoch),
            "optimizer": "adamw",
            "learning_rate": 1.0e-3,
            "weight_decay": 1.0e-4,
            "warmup_steps": 20,
            "decay": "cosine",
            "clip_norm": 5.0,
            "keep": "last",
            "tensorboard": "scalars",
        }
        | ({"trunk_rate": 0.1} if start else {}),
    }


def place(folder: Path, rows: Sequence[Mapping[str, str]], audio: Path) -> None:
    """Tables of one size and seed, and links to the audio of its training pieces."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    labels = []
    for row in rows:
        if row["split"] == "train":
            name = row["path"].replace("/", "-")
            labels.append((name, row["label"]))
            link = folder / "audio" / name
            if not link.exists():
                os.link(audio / row["path"], link)
    write_table(folder / "labels.tsv", ("path", "label"), labels)
    columns = ("path", "label", "group", "split")
    write_table(folder / "task.tsv", columns, [[row[column] for column in columns] for row in rows])
    task = {
        "name": "labels",
        "kind": "classification",
        "table": str(folder / "task.tsv"),
        "audio": str(audio),
    }
    (folder / "task.yaml").write_text(yaml.safe_dump({"tasks": [task], "probes": ["linear_svm"]}))


def run_command(name: str, *arguments: str) -> None:
    """Run `kerasrep-NAME` in a process of its own."""
    subprocess.run([sys.executable, *kerasrep_command(name), *arguments], check=True)


def scores_of(folder: Path) -> list[float]:
    """What `kerasrep-evaluate` found of each representation, in the order that it was given them."""
    with (folder / "evaluation" / "summary.csv").open(newline="") as file:
        return [
            float(row["mean"])
            for row in csv.DictReader(file)
            if row["metric"] == METRIC and row["probe"] == "linear_svm"
        ]


def measured(folder: Path, run: Path, n_steps: int, seed: int) -> dict[str, float]:
    """Train both networks that are not there yet, and score them and the frozen trunk."""
    models = {"frozen": run}
    for name in ("noise", "trunk"):
        models[name] = folder / name
        if not (folder / name / "model.keras").is_file():  # written last
            recipe = folder / f"{name}.yaml"
            recipe.write_text(yaml.safe_dump(recipe_of(folder, name, run, n_steps, seed)))
            run_command("train", str(recipe), "--run-dir", str(folder / name))
    tried = [f"{path}:all" for path in models.values()]
    options = ["--recipe", str(folder / "task.yaml"), "-o", str(folder / "evaluation")]
    run_command("evaluate", *tried, *options)
    return dict(zip(models, scores_of(folder), strict=True))


def draw(path: Path, scores: Mapping[tuple[str, int], Sequence[float]], sizes: Sequence[int]) -> None:
    """One line a representation: mean over seeds, and from the lowest to the highest."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, label in NAMES.items():
        found = np.array([scores[name, size] for size in sizes])
        (line,) = axes.plot(sizes, found.mean(axis=1), marker="o", label=label)
        axes.fill_between(sizes, found.min(axis=1), found.max(axis=1), alpha=0.2, color=line.get_color())
    axes.set(xscale="log", xlabel="labelled pieces", ylabel=METRIC.replace("_", " "), xticks=sizes)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> int:
    """Train, score, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--audio", type=Path, help="default: the folder above that of the table")
    parser.add_argument("--out", type=Path, default=Path("curve"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 110])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="about, of each training")
    arguments = parser.parse_args()
    audio = arguments.audio or arguments.table.parent.parent
    sizes = sorted(arguments.sizes)
    scores: dict[tuple[str, int], list[float]] = defaultdict(list)
    try:
        rows = read_table(arguments.table)
        for seed in range(arguments.seeds):
            for size, chosen in drawn(rows, sizes, seed).items():
                folder = arguments.out / f"{seed}-{size}"
                place(folder, chosen, audio)
                for name, score in measured(folder, arguments.run, arguments.steps, seed).items():
                    scores[name, size].append(score)
    except CollectError as error:
        print(f"learning_curve.py: error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    lines = [(name, size, *found) for (name, size), found in scores.items()]
    columns = ("representation", "pieces", *(f"seed_{seed}" for seed in range(arguments.seeds)))
    write_table(arguments.out / "scores.tsv", columns, lines)
    draw(arguments.out / "curve.png", scores, sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
