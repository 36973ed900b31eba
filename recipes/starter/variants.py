"""The shipped recipe with something changed, trained on one part of the folder and scored on another.

    python recipes/starter/variants.py recipes/starter/variants.yaml --names recipe mono-alike --gpus 0 1

VARIANTS names the recipe, its steps, and of each variant the settings that differ. Every variant is trained
with every seed on the first part of each pair of --folds, and its export is scored on the second
(`kerasrep-evaluate`, all layers, and robustness.py), beside others (--beside). What is there is not made
again and a training that was stopped goes on, so that the work can be done in pieces, also on several
machines: scoring needs OUT/exported alone. Writes scores.tsv and tables.md: the mean of the seeds and each of
them, and that mean minus what is beside, item by item, with a 95% interval over groups.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml
from files import CollectError, kerasrep_command, read_table, write_text, written_whole
from folds import make_fold
from tqdm import tqdm
from variant_tables import PROBES, Beside, Job, Variant, write_scores

from kerasrep.errors import KerasrepError
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import differences
from kerasrep.runtime.threads import available_cores, keep_to
from kerasrep.storage.export_directory import find_version, read_card

HERE = Path(__file__).parent
LAYERS = "all"
#: Commands at work, which are stopped with this one; and whether it is.
RUNNING: set[subprocess.Popen[bytes]] = set()
STOPPING = threading.Event()
#: What the paths of the benchmark begin with.
FOLDER = Path("data/starter")


def read_variants(path: Path) -> tuple[Path, dict[str, Variant]]:
    """The recipe and its variants, by name.

    Raises:
        CollectError: The file cannot be read, or a key is missing.
    """
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        variants = {}
        for name, changed in read["variants"].items():
            steps = int(changed.pop("steps", read["steps"]))
            words = [f"{key}={json.dumps(value)}" for key, value in changed.items()]  # JSON is YAML
            variants[name] = Variant(name, tuple(words), steps)
        return (path.parent / read["recipe"]).resolve(), variants
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CollectError(f"{path}: recipe, steps and variants are needed ({error!r})") from error


def own_recipe(job: Job, recipe: Path, out: Path) -> list[str]:
    """Words for `kerasrep-train`: the recipe, what the variant changes, its part's folder, epochs, seed."""
    data = (out / "parts" / job.trained).resolve()
    words = [
        *job.variant.settings,
        f"corpus.root={data}",
        f"export.directory={out / 'exported'}",
        f"export.name={job.name}",
        f"seed={job.seed}",
    ]
    read = read_recipe(recipe, words)
    n_tracks = len(read_table(data / "tracks.tsv")) * (1 - read.corpus.validation_fraction)
    steps_an_epoch = max(1, n_tracks // read.batches.size)
    epochs = max(1, round(job.variant.steps / steps_an_epoch))
    every = [f"training.{kind}_every_epochs={max(1, epochs // 10)}" for kind in ("validate", "checkpoint")]
    return [str(recipe), *words, f"training.epochs={epochs}", *every]


def run_command(log: Path, environment: Mapping[str, str], *words: str, output: Path | None = None) -> None:
    """Run this interpreter with these words; what it says goes to the end of a log, or its output to a file.

    Raises:
        CollectError: It failed; the log's last line is repeated.
    """
    with log.open("a", encoding="utf-8") as said, contextlib.ExitStack() as stack:
        printed = said
        if output is not None:
            printed = stack.enter_context(stack.enter_context(written_whole(output)).open("w"))
        command = [sys.executable, *words]
        with subprocess.Popen(command, env=dict(environment), stdout=printed, stderr=said) as process:
            RUNNING.add(process)
            if STOPPING.is_set():  # between its start and the line above
                process.send_signal(signal.SIGINT)
            failed = process.wait() != 0
        RUNNING.remove(process)
        if failed:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            raise CollectError(f"{log}: {next((line for line in reversed(lines) if line.strip()), 'empty')}")


def check_settings(run: Path, export: Path, words: Sequence[str]) -> None:
    """Refuse a run or an export of the same name that other settings have made, such as of an earlier recipe.

    Where its data lie may differ: it may have been trained on another machine.

    Raises:
        CollectError: One is there.
        ExportError: The export's card is damaged.
    """
    path, *changed = words
    wanted, found = read_recipe(path, changed).as_dict(), {}
    if (run / "recipe.yaml").is_file():
        found[run] = read_recipe(run / "recipe.yaml").as_dict()
    if (version := find_version(export)) is not None:
        found[version] = read_card(version).recipe
    for place, made in found.items():
        for setting, before, now in differences(made, wanted, (("corpus", "root"), ("export", "directory"))):
            raise CollectError(
                f"{place}: was trained with {setting} {before}, now {now}; delete it, or give another --out"
            )


def at_least_one(text: str) -> int:
    """A whole number of the command line.

    Raises:
        argparse.ArgumentTypeError: It is below 1.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def write_tasks(part: str, data: Path, path: Path) -> None:
    """The tasks of one part, out of the benchmark's recipes, with the tables of `data`."""
    tasks = []
    for name in ("benchmark.yaml", "benchmark-c.yaml"):
        for task in yaml.safe_load((HERE / name).read_text(encoding="utf-8"))["tasks"]:
            if task["name"].endswith(f"_{part.lower()}"):
                moved = {key: str(data / Path(task[key]).relative_to(FOLDER)) for key in ("table", "audio")}
                tasks.append(task | moved)
    write_text(path, yaml.safe_dump({"tasks": tasks}))


def evaluate(model: str, part: str, data: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Score a model on a part, where that has not been done."""
    if not (folder / "evaluation" / "summary.csv").is_file():
        write_tasks(part, data, folder / "tasks.yaml")
        words = [model, "--recipe", str(folder / "tasks.yaml"), "-o", str(folder / "evaluation")]
        command = kerasrep_command("evaluate")
        run_command(folder / "log.txt", environment, *command, *words, "--probes", *PROBES)


def do_job(
    job: Job, recipe: Path, data: Path, out: Path, environment: Mapping[str, str], train_only: bool = False
) -> None:
    """Train, score, and count what finds itself; each only where it has not been done."""
    folder = out / job.name
    folder.mkdir(parents=True, exist_ok=True)
    run, export, log = folder / "run", out / "exported" / job.name, folder / "log.txt"
    if find_version(export) is None:
        words = own_recipe(job, recipe, out)
        resume = ["--resume"] if (run / "recipe.yaml").is_file() else []
        run_command(log, environment, *kerasrep_command("train"), *words, "--run-dir", str(run), *resume)
    if train_only:
        return
    model = f"{export}:{LAYERS}"
    evaluate(model, job.scored, data, folder, environment)
    if not (folder / "robustness.md").is_file():
        words = [str(HERE / "robustness.py"), model, "--folder", str(data), "--part", job.scored]
        run_command(log, environment, *words, output=folder / "robustness.md")


def do_all(
    jobs: Sequence[Job | Beside],
    slots: Sequence[str | None],
    do: Callable[[Job | Beside, Mapping[str, str]], None],
) -> list[str]:
    """Does each job in a slot that is free, GPU by GPU.

    Args:
        jobs: In their order.
        slots: Of each its GPU; None is whatever there is.
        do: Called with a job and the environment of its commands.

    Returns:
        One line for each job that failed.
    """
    waiting: queue.SimpleQueue[Job | Beside] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    failed: list[str] = []
    cores = available_cores()
    share = max(1, len(cores) // len(slots))
    with tqdm(total=len(jobs), desc="variants", unit="training") as bar:

        def work(number: int, gpu: str | None) -> None:
            # The thread's cores are those of its commands: each has as many threads as it sees cores.
            keep_to(cores[number * share : (number + 1) * share] or cores)
            environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})
            while True:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    do(job, environment)
                except (CollectError, KerasrepError, OSError) as error:
                    failed.append(f"{job.name}: {error}")
                bar.update()

        threads = [threading.Thread(target=work, args=slot, daemon=True) for slot in enumerate(slots)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            STOPPING.set()
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            for process in tuple(RUNNING):
                process.send_signal(signal.SIGINT)  # a training keeps where it is
            for thread in threads:
                thread.join()
            raise
    return failed


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", type=Path, help="YAML file with recipe, steps and variants")
    parser.add_argument("--data", type=Path, default=FOLDER, help="that collect.py made (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("variants"), help="results (%(default)s)")
    parser.add_argument("--names", nargs="+", help="of variants (default: all)")
    parser.add_argument("--folds", nargs="+", default=["B:A", "A:B"], help="trained:scored (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--gpus", nargs="+", help="numbers (default: whatever there is)")
    parser.add_argument("--at-once", type=at_least_one, default=1, help="trainings a GPU (%(default)s)")
    parser.add_argument(
        "--beside", nargs="*", default=[], help="scored as well, such as mfcc musicnn vectors:PATH (none)"
    )
    parser.add_argument(
        "--train-only",
        action="store_true",
        help="leave scoring to the same command without it, such as where no GPU is paid for",
    )
    return parser.parse_args(arguments)


def chosen_jobs(options: argparse.Namespace, variants: Mapping[str, Variant]) -> list[Job]:
    """Seed by seed, so that something of everything is there early.

    Raises:
        CollectError: A name or a pair of parts that there is not.
    """
    names = options.names or list(variants)
    if unknown := [name for name in names if name not in variants]:
        raise CollectError(f"--names: {', '.join(unknown)}: not in {options.variants}: {', '.join(variants)}")
    pairs = [pair.partition(":")[::2] for pair in options.folds]
    for trained, scored in pairs:
        if scored not in tuple("ABC") or scored in trained or not set(trained) <= set("ABC") or not trained:
            raise CollectError(f"--folds: {trained}:{scored}: parts trained on, then one other part, as AB:C")
    return [
        Job(variants[name], trained, scored, seed)
        for seed in options.seeds
        for name in names
        for trained, scored in pairs
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the parts' folders, do the jobs, write the tables; returns the exit code."""
    options = parse_arguments(arguments)
    out, data = options.out.resolve(), options.data.resolve()
    recipe, variants = read_variants(options.variants)
    jobs = chosen_jobs(options, variants)
    for parts in dict.fromkeys(job.trained for job in jobs):
        make_fold(data, parts, out / "parts" / parts)
    for job in jobs:
        check_settings(out / job.name / "run", out / "exported" / job.name, own_recipe(job, recipe, out))
    scored = [] if options.train_only else dict.fromkeys(job.scored for job in jobs)
    beside = [Beside(name, part) for name in options.beside for part in scored]
    writing = threading.Lock()

    def do(job: Job | Beside, environment: Mapping[str, str]) -> None:
        if isinstance(job, Beside):
            (out / job.name).mkdir(parents=True, exist_ok=True)
            evaluate(job.model, job.scored, data, out / job.name, environment)
        else:
            do_job(job, recipe, data, out, environment, options.train_only)
        with writing:
            write_scores(jobs, out)  # intervals are for the end: they take some seconds

    slots = [gpu for _ in range(options.at_once) for gpu in options.gpus or [None]]
    failed = do_all([*jobs, *beside], slots, do)
    write_scores(jobs, out, beside)
    print((out / "tables.md").read_text(encoding="utf-8"))
    for line in failed:
        print(f"variants.py: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CollectError, KerasrepError) as error:
        sys.exit(f"variants.py: {error}")
    except KeyboardInterrupt:
        sys.exit("variants.py: stopped; the same command goes on")
