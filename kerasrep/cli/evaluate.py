"""`kerasrep-evaluate MODEL...`: how good frozen representations are on tasks that nothing was trained for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kerasrep.downstream.base import Task
    from kerasrep.recipe import DemoCorpus, Recipe

PROG = "kerasrep-evaluate"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Compare frozen representations on downstream tasks: embed each task's audio once, fit "
        "scikit-learn probes on the training part, score them on the test part. Results are kept in OUT as "
        "they come, so the same command again goes on where it stopped. Tasks that fail are listed at the "
        "end; the others are kept, and the exit code is then 1.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="an export, a run directory or a .keras file; or a baseline: random (the first model's network, "
        "untrained; random:SEED for another draw), mfcc, musicnn, hear:MODULE[:WEIGHTS]",
    )
    parser.add_argument(
        "--tasks",
        metavar="TASK",
        nargs="+",
        action="extend",
        help="names of tasks, or demo, paper, all; separated by blanks or commas (default: demo, or the "
        "recipe's tasks)",
    )
    parser.add_argument(
        "--data", metavar="ROOT", type=Path, help="folder of the data sets; not needed for demo tasks"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="folder of the results"
    )
    parser.add_argument(
        "--recipe", metavar="RECIPE", type=Path, help="YAML whose section 'tasks' adds tasks of your own"
    )
    parser.add_argument(
        "--probes", metavar="PROBE", nargs="+", action="extend", help="only these; 'chance' is always added"
    )
    parser.add_argument(
        "--folds", metavar="N", type=_at_least(2), default=5, help="folds or repeats (default: 5)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=_at_least(0), default=0, help="of folds and probes (default: 0)"
    )
    parser.add_argument("--tune", action="store_true", help="choose C on the training part of each fold")
    parser.add_argument(
        "--dense",
        action="store_true",
        help="recommendation: only users with 20 items and more, items with 50 users and more",
    )
    parser.add_argument(
        "--shuffle-labels", action="store_true", help="a control: with permuted labels scores are at chance"
    )
    parser.add_argument(
        "--max-missing",
        metavar="FRACTION",
        type=_fraction,
        default=0.02,
        help="fail a task where more of its items have no usable audio (default: 0.02)",
    )
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_intermixed_args(argv)
    recipe = _recipe(arguments.recipe)
    tasks = _tasks(arguments.tasks, recipe)

    from kerasrep.embedding.representations import is_path, open_representations
    from kerasrep.suite import Options, Suite, check_output, check_probes

    representations = open_representations(arguments.models)
    check_output(arguments.output)
    reference = next((Path(model) for model in arguments.models if is_path(model)), None)
    probes = _words(arguments.probes)
    check_probes(probes)
    options = Options(
        probes=probes,
        n_folds=arguments.folds,
        seed=arguments.seed,
        tune=arguments.tune,
        dense=arguments.dense,
        shuffle_labels=arguments.shuffle_labels,
        max_missing=arguments.max_missing,
    )
    roots = _roots(tasks, arguments.data, reference)
    suite = Suite(arguments.output, options, representations, arguments.verbose)
    for task in tasks:
        suite.run(task, roots[task.name])
    return command.EXIT_FAILURE if suite.finish(PROG) else 0


def _recipe(path: Path | None) -> Recipe | None:
    if path is None:
        return None
    from kerasrep.recipe_file import read_recipe

    return read_recipe(path)


def _tasks(named: Sequence[str] | None, recipe: Recipe | None) -> tuple[Task, ...]:
    """Tasks by name, those of the recipe included."""
    from kerasrep.downstream.registry import find_tasks, table_task

    own = {}
    for task in recipe.tasks if recipe else ():
        table = Path(task.table)
        audio = Path(task.audio) if task.audio else table.parent
        items = Path(task.items) if task.items else None
        own[task.name] = table_task(task.name, task.kind, table, audio, items)
    names = _words(named) or tuple(own) or ("demo",)
    built_in = [name for name in names if name not in own]
    return (find_tasks(built_in) if built_in else ()) + tuple(own[name] for name in names if name in own)


def _words(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Words separated by blanks or commas, each once; `None` where none is given."""
    words = [word for text in given or () for word in text.replace(",", " ").split()]
    return tuple(dict.fromkeys(words)) or None


def _roots(tasks: Sequence[Task], data: Path | None, reference: Path | None) -> dict[str, Path]:
    """Task -> data root; the demo tasks' tables are written first.

    Raises:
        RecipeError: Where a task needs `--data` and there is none.
    """
    from kerasrep.corpora.demo.tasks import FOLDER, write_task_tables
    from kerasrep.errors import RecipeError

    roots = {}
    for task in tasks:
        if task.folder != FOLDER:
            if data is None and task.folder:
                raise RecipeError(
                    f"task '{task.name}' needs --data ROOT, the folder that holds '{task.folder}'"
                )
            roots[task.name] = data or Path()
    demo = [task.name for task in tasks if task.folder == FOLDER]
    if demo:
        roots |= dict.fromkeys(demo, write_task_tables(_demo_settings(reference)))
    return roots


def _demo_settings(reference: Path | None) -> DemoCorpus:
    """The demo corpus that a model was trained on, so that none is rendered anew; else the default one.

    Which tunes are reserved does not depend on the settings.
    """
    from kerasrep.export_directory import find_version, read_card
    from kerasrep.recipe import DemoCorpus, Recipe
    from kerasrep.recipe_file import read_recipe
    from kerasrep.run_directory import RunDirectory

    if reference is not None and reference.is_dir():
        version, run = find_version(reference), RunDirectory(reference)
        corpus = None
        if version is not None:
            corpus = Recipe.model_validate(read_card(version).recipe).corpus
        elif run.recipe.is_file():
            corpus = read_recipe(run.recipe).corpus
        if isinstance(corpus, DemoCorpus):
            return corpus
    return DemoCorpus()


def _at_least(least: int) -> type[int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return integer  # type: ignore[return-value]


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
