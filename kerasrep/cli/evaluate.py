"""`kerasrep-evaluate MODEL...`: how good frozen representations are on tasks that nothing was trained for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.errors import RecipeError
from kerasrep.runtime import console
from kerasrep.runtime.run_log import run_log
from kerasrep.storage.run_directory import LOG_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        help="an export, a run directory, a .keras file, or starter, with pooled layers behind a colon "
        "where they are wanted (exported/mss:all); or a baseline: random (the first model's network, "
        "untrained; random:SEED for another draw), mfcc, musicnn, hear:MODULE[:WEIGHTS], vectors:TABLE; or "
        "a YAML file with tasks, as --recipe takes it, and in its section 'models' what is compared beside "
        "the others",
    )
    command.add_layers_argument(
        parser, "the model's own, usually last; for a MODEL without layers behind a colon"
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
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        default=Path("evaluation"),
        help="folder of the results (default: %(default)s)",
    )
    parser.add_argument(
        "--recipe", metavar="RECIPE", type=Path, help="YAML file whose section 'tasks' adds tasks of your own"
    )
    parser.add_argument(
        "--split-list",
        metavar="TASK=FILE",
        action="append",
        default=[],
        help="items and split of a task from your own list: index, path, split, label",
    )
    _add_probe_arguments(parser)
    command.add_common_arguments(parser, "show every probe, and TensorFlow's own messages as well")
    return parser


def _add_probe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how probes are fitted and scored."""
    parser.add_argument(
        "--probes",
        metavar="PROBE",
        nargs="+",
        action="extend",
        help="only these, such as linear_svm; 'chance' is always added",
    )
    parser.add_argument(
        "--folds", metavar="N", type=command.integer(2, 1000), default=5, help="folds or repeats (default: 5)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=command.integer(0), default=0, help="of folds and probes (default: 0)"
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
        type=fraction,
        default=0.02,
        help="fail a task where more of its items have no usable audio (default: 0.02)",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_intermixed_args(argv)
    from kerasrep.evaluation.chosen_tasks import data_roots, named_tasks, tasks_of_tables, with_split_lists

    own, models = None, arguments.models
    files = [model for model in models if _is_file_of_tasks(model)]
    given = [Path(file) for file in files] + ([] if arguments.recipe is None else [arguments.recipe])
    recipes = list(dict.fromkeys(given))
    if len(recipes) > 1:
        raise RecipeError(f"{recipes[1]}: tasks come from one file, {recipes[0]} is named as well; give one")
    if recipes:
        from kerasrep.recipe.file import read_tasks

        read = read_tasks(recipes[0])
        own = tasks_of_tables(read.tasks)
        models = [model for model in models if model not in files]
        models += [model for model in read.models if model not in models]
        if not models:
            raise RecipeError(f"{recipes[0]}: has no section 'models'; name what is compared there, or here")
    tasks = with_split_lists(named_tasks(_words("--tasks", arguments.tasks), own), arguments.split_list)

    from kerasrep.embedding.representations import open_representations, with_layers
    from kerasrep.evaluation.options import Options, check_probes, has_probe
    from kerasrep.evaluation.results import check_output
    from kerasrep.evaluation.suite import Suite
    from kerasrep.storage.atomic import remove_all_temporaries
    from kerasrep.storage.folder_lock import exclusive

    probes = _words("--probes", arguments.probes)
    check_probes(probes)
    chosen = [task for task in tasks if has_probe(probes, task.kind)]
    if not chosen:
        kinds = ", ".join(dict.fromkeys(task.kind for task in tasks))
        raise RecipeError(f"--probes: none of {', '.join(probes or ())} is for {kinds}; name another probe")
    options = Options(
        probes=probes,
        n_folds=arguments.folds,
        seed=arguments.seed,
        tune=arguments.tune,
        dense=arguments.dense,
        shuffle_labels=arguments.shuffle_labels,
        max_missing=arguments.max_missing,
    )
    layers = command.layers_of(arguments)
    representations = open_representations(
        models if layers is None else [with_layers(spec, layers) for spec in models]
    )
    check_output(arguments.output)
    roots = data_roots(chosen, arguments.data)
    for task in tasks:
        if task not in chosen:
            console.say(f"note: {task.name}: is left out, --probes names none for {task.kind}")
    log = run_log("evaluate", arguments.output / LOG_NAME, models=models)
    with exclusive(arguments.output, "another process evaluates there", "-o"), log:
        remove_all_temporaries(arguments.output)
        suite = Suite(arguments.output, options, representations, arguments.verbose)
        for task in chosen:
            suite.run(task, roots[task.name])
        return command.EXIT_FAILURE if suite.finish(PROG) else 0


def _is_file_of_tasks(model: str) -> bool:
    return model.endswith((".yaml", ".yml")) and not model.startswith(("hear:", "vectors:"))


def _words(option: str, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Words separated by blanks or commas, each once; `None` where the option is not given."""
    if given is None:
        return None
    words = [word for text in given for word in text.replace(",", " ").split()]
    if not words:
        raise RecipeError(f"{option}: names nothing; give a name, or leave the option out")
    return tuple(dict.fromkeys(words))


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
