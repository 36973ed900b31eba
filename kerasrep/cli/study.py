"""`kerasrep-study RECIPE`: design, runs, statistics, report."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.runtime import console
from kerasrep.runtime.run_log import event, run_log
from kerasrep.storage.run_directory import LOG_NAME

if TYPE_CHECKING:
    from kerasrep.experiments.job import StudyFolder
    from kerasrep.experiments.study.design import Design
    from kerasrep.experiments.study.plan import PlannedRun
    from kerasrep.experiments.study.recipe import Study

PROG = "kerasrep-study"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Compare sources and sharing strategies: choose runs by an experimental design, train, "
        "export, embed and evaluate each in a process of its own, analyse the scores, and write one HTML "
        "report. The same command again goes on where it stopped. Runs that fail are listed at the end, and "
        "the exit code is then 1; the report is written from the others.",
    )
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="YAML file of the study")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="change a setting, such as workers.count=4 or settings.training.epochs=2",
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="default: studies/NAME")
    parser.add_argument("--dry-run", action="store_true", help="show design and runs, and run nothing")
    parser.add_argument(
        "--report-only", action="store_true", help="run nothing; analyse what is done and write the report"
    )
    parser.add_argument("--worker", metavar="DIR", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", default="", help=argparse.SUPPRESS)
    command.add_ray_argument(parser)
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = build_parser()
    arguments = parser.parse_intermixed_args(argv)
    if arguments.worker is not None:
        from kerasrep.experiments import worker
        from kerasrep.experiments.job import RunFolder
        from kerasrep.runtime.child_process import end_with_parent

        end_with_parent()
        worker.work(RunFolder(arguments.worker), [int(core) for core in arguments.cores.split(",") if core])
        return 0
    if arguments.recipe is None:
        parser.error("RECIPE is missing; give the YAML file of a study")
    from kerasrep.experiments.job import STUDIES, StudyFolder
    from kerasrep.experiments.study.design import make_design
    from kerasrep.experiments.study.recipe import read_study
    from kerasrep.experiments.worker import tasks_of
    from kerasrep.runtime.extras import require

    require("study", ("statsmodels",), "the report of a study")  # which comes after hours of runs
    study = read_study(arguments.recipe, arguments.overrides)
    tasks_of(study.recipe.evaluation, study.own_tasks)
    design = make_design(study.recipe.design)
    folder = StudyFolder(arguments.output or STUDIES / study.recipe.name)
    if arguments.dry_run:
        _show(study, design)
        return 0
    command_line = [arguments.recipe, *arguments.overrides]
    return _run(study, design, folder, arguments.report_only, command_line, arguments.ray)


def _run(
    study: Study,
    design: Design,
    folder: StudyFolder,
    report_only: bool,
    command_line: list[str],
    ray: str | None,
) -> int:
    from kerasrep.errors import one_line
    from kerasrep.experiments.study.plan import plan_runs
    from kerasrep.experiments.study.processes import recorded_failures
    from kerasrep.experiments.study.schedule import begin, finished
    from kerasrep.storage.folder_lock import exclusive

    runs = plan_runs(study, design)
    log = run_log("study", folder.root / LOG_NAME, study=study.recipe.name, runs=len(runs))
    with exclusive(folder.root, "another process runs this study", "--output"), log:
        begin(folder, study, design, runs)
        if not report_only:
            for line in _notes(design, runs):
                console.say(line)
            _make(study, folder, runs, ray)
        from kerasrep.experiments.study.report import write_study_report

        failures = recorded_failures(folder, runs, finished(folder, runs))
        page = write_study_report(folder, study, design, runs, failures, [PROG, *command_line])
        event("report", page=page, failures=len(failures))
    console.result(page, f"report:  {one_line(str(page))} (figures and their data: plots/, tables: tables/)")
    for name, reason in failures.items():
        print(f"failed:  {one_line(f'{name}: {reason}')}", file=sys.stderr if console.is_quiet() else None)
    return command.EXIT_FAILURE if failures else 0


def _make(study: Study, folder: StudyFolder, runs: list[PlannedRun], ray: str | None) -> None:
    """Make the runs that are not done, here or on a cluster."""
    from kerasrep.experiments.study.processes import RunMaker, make_slots, pool_on
    from kerasrep.experiments.study.schedule import Display, finished, make_runs, summary
    from kerasrep.runtime.pool.base import LocalPool, Pool
    from kerasrep.runtime.pool.cluster import connect

    done = len(finished(folder, runs))
    with contextlib.ExitStack() as stack:
        pool: Pool[Path]
        if ray is None or done == len(runs):
            pool, address = LocalPool([RunMaker(slot) for slot in make_slots(study.recipe.workers)]), None
        else:
            cluster = stack.enter_context(connect(ray))
            pool = stack.enter_context(pool_on(cluster, folder, runs, study.recipe.workers))
            address = cluster.address
        console.say(f"{study.recipe.name}: {len(runs)} runs, {done} done already, {pool.size} at once")
        if done < len(runs):
            console.say("first all tasks are read, and what tells copies of their recordings is found")
        with Display() as display:
            progress = make_runs(folder, study, runs, pool, display, address)
    console.say(summary(progress))


def _show(study: Study, design: Design) -> None:
    """Print the design and what would be run."""
    from kerasrep.experiments.study.design import balance_of, efficiency_of
    from kerasrep.experiments.study.plan import plan_runs
    from kerasrep.report.table import Table

    runs = plan_runs(study, design)
    kinds = {kind: sum(run.facts.kind == kind for run in runs) for kind in ("multi", "single", "baseline")}
    trained = sum(run.recipe is not None for run in runs)
    print(f"design:  {design.how}\n         {efficiency_of(design).sentence}")
    print(
        f"runs:    {len(runs)}: {kinds['multi']} with several sources, {kinds['single']} with one, "
        f"{kinds['baseline']} baselines; {trained} are trained, the others use what those learnt"
    )
    for line in _notes(design, runs):
        print(line)
    factors = design.factors
    counts = balance_of(design.cells, factors)
    rows = [[name, *map(str, row)] for name, row in zip(factors.sources, counts.by_source, strict=True)]
    for line in Table(["", *factors.strategies], rows).as_text(width=91).splitlines():
        print(f"         {line}")


def _notes(design: Design, runs: list[PlannedRun]) -> list[str]:
    """What the analysis will not tell, as lines."""
    from kerasrep.experiments.study.analysis import shortcomings

    factors, facts = design.factors, [run.facts for run in runs]
    found = shortcomings(facts, factors.strategies, factors.sources, design.interactions)
    return [f"note:    {text}" for text in found]


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
