"""Disks that run full while a command writes, and such as are read-only: one line, and nothing is lost."""

import random
import shutil
import time

import numpy as np
import pytest
from fault_tools import content_of, run, start, told_in_one_line, wait_until_ready

from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.file import write_recipe
from kerasrep.storage.export_directory import default_model
from kerasrep.storage.folder_lock import exclusive
from kerasrep.storage.run_directory import LOG_NAME, RunDirectory, read_arrays, read_json

pytestmark = pytest.mark.slow

PLENTY = 1 << 30
N_DISKS = 4


def fill_again_and_again(make_disk, command, arguments_of, log, check, environment_of=lambda disk: {}):
    """Give the command too little room, then enough; returns how often, and seconds to the end with room.

    Sizes are drawn evenly up to what an unbroken run leaves on the disk.
    """
    whole = make_disk(PLENTY)
    code, said = run(command, arguments_of(whole), log, **environment_of(whole))
    assert code == 0, said
    most, rng, tried, seconds = whole.used(), random.Random(4), 0, []
    for _ in range(N_DISKS):
        disk = make_disk(max(1 << 16, int(most * rng.uniform(0.02, 0.95))))
        code, said = run(command, arguments_of(disk), log, **environment_of(disk))
        assert code == 1, said
        line = told_in_one_line(command, code, said, "full", str(disk.root))
        print(line)
        disk.resize(PLENTY)
        started = time.perf_counter()
        code, said = run(command, arguments_of(disk), log, **environment_of(disk))
        assert code == 0, said
        seconds.append(time.perf_counter() - started)
        check(whole.root, disk.root)
        tried += 1
    return tried, seconds


def hidden(root):
    return sorted(str(path) for path in root.rglob(".*") if not path.name.endswith(".lock"))


def all_bytes(root):
    """Name -> content of all files; a log, which has times and earlier sessions, by its last word."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path.relative_to(root)): content_of(path) for path in files}


def test_full_disks_in_preparation(make_disk, tmp_path, tiny_recipe, tally):
    write_recipe(tmp_path / "recipe.yaml", tiny_recipe())

    def check(whole, disk):
        assert all_bytes(disk) == all_bytes(whole)

    tried, seconds = fill_again_and_again(
        make_disk,
        "prepare",
        lambda _: [tmp_path / "recipe.yaml", "--quiet"],
        tmp_path / "log",
        check,
        lambda disk: {"KERASREP_HOME": disk.root},
    )
    tally("full disk in kerasrep-prepare", tried, tried, seconds)


def test_full_disks_in_training_checkpoints_and_export(
    make_disk, tmp_path, tiny_recipe, prepared_tones, tally
):
    write_recipe(tmp_path / "recipe.yaml", tiny_recipe(training={"epochs": 3}))

    def arguments(disk):
        resume = ["--resume"] if (disk.root / "run" / "recipe.yaml").is_file() else []
        names = [f"export.directory={disk.root}/exported", "--run-dir", disk.root / "run"]
        return [tmp_path / "recipe.yaml", *names, *resume]

    def check(whole, disk):
        for name in ("last", "best"):
            expected, found = (read_arrays(getattr(RunDirectory(r / "run"), name)) for r in (whole, disk))
            assert found.keys() == expected.keys()
            for key in expected.keys() - {"meta"}:
                np.testing.assert_array_equal(found[key], expected[key], err_msg=f"{name}: {key}")
        assert read_json(RunDirectory(disk / "run").card)["ended"] == "done"
        assert (disk / "exported" / "tones" / "1" / "saved_model.pb").is_file()
        assert hidden(disk) == []

    tried, seconds = fill_again_and_again(make_disk, "train", arguments, tmp_path / "log", check)
    tally("full disk in kerasrep-train (checkpoints, board, export)", tried, tried, seconds)


def test_full_disks_in_export(make_disk, tmp_path, small_run, tally):
    def check(whole, disk):
        assert [path.name for path in (disk / "small").glob("[0-9]*")] == ["1"]
        assert all_bytes(disk / "small").keys() == all_bytes(whole / "small").keys()
        assert hidden(disk) == []

    tried, seconds = fill_again_and_again(
        make_disk,
        "export",
        lambda disk: [small_run.run.root, "--directory", disk.root],
        tmp_path / "log",
        check,
    )
    tally("full disk in kerasrep-export", tried, tried, seconds)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_full_disks_in_embedding(make_disk, tmp_path, tones, suffix, tally):
    def check(whole, disk):
        expected, found = (read_embeddings(root / f"vectors{suffix}") for root in (whole, disk))
        assert found.paths == expected.paths
        np.testing.assert_array_equal(found.embeddings, expected.embeddings)
        assert sorted(path.name for path in disk.iterdir()) == [
            f"vectors{suffix}",
            f"vectors{suffix}.{LOG_NAME}",
        ]
        assert content_of(disk / f"vectors{suffix}.{LOG_NAME}") == b"done"

    tried, seconds = fill_again_and_again(
        make_disk,
        "embed",
        lambda disk: [tones, "--model", default_model(), "-o", disk.root / f"vectors{suffix}"],
        tmp_path / "log",
        check,
    )
    tally(f"full disk in kerasrep-embed to {suffix}", tried, tried, seconds)


@pytest.fixture
def tasks(tmp_path, tones):
    names = sorted(path.name for path in tones.glob("*.wav"))
    rows = [f"{name}\t{('low', 'mid', 'high', 'top')[int(name[1:3]) % 4]}" for name in names]
    (tmp_path / "octaves.tsv").write_text("\n".join(["path\tlabel", *rows]))
    path = tmp_path / "tasks.yaml"
    path.write_text(
        f"tasks:\n  - {{name: octaves, kind: classification, table: {tmp_path}/octaves.tsv, "
        f"audio: {tones}}}\n"
    )
    return path


def evaluation(tasks, output):
    return ["mfcc", "--recipe", tasks, "--tasks", "octaves", "-o", output, "--folds", "2"]


def test_full_disks_in_evaluation(make_disk, tmp_path, tasks, tally):
    whole, log, rng, seconds = make_disk(PLENTY), tmp_path / "log", random.Random(5), []
    code, said = run("evaluate", evaluation(tasks, whole.root / "e"), log, KERASREP_HOME=whole.root)
    assert code == 0, said
    for _ in range(N_DISKS):
        disk = make_disk(max(1 << 14, int(whole.used() * rng.uniform(0.02, 0.9))))
        arguments = evaluation(tasks, disk.root / "e"), log
        code, said = run("evaluate", *arguments, KERASREP_HOME=disk.root)
        assert code == 1 and "Traceback" not in said and "full" in said and str(disk.root) in said, said
        disk.resize(PLENTY)
        started = time.perf_counter()
        code, said = run("evaluate", *arguments, KERASREP_HOME=disk.root)
        assert code == 0, said
        seconds.append(time.perf_counter() - started)
        scores = [(root / "e" / "scores.csv").read_bytes() for root in (whole.root, disk.root)]
        assert scores[0] == scores[1]
        assert hidden(disk.root) == []
    tally("full disk in kerasrep-evaluate", N_DISKS, N_DISKS, seconds)


def test_full_disks_in_a_study(make_disk, tmp_path, tone_values, tasks, tally):
    """Two sources alone and together, a baseline; what fails is told, and the same command makes it."""
    settings = {"epochs": 1, "tensorboard": "scalars"}
    base = tone_values("ms-sr@fc", sources=["self", "tag"], model={"width": 0.0625}, training=settings)
    base = {key: value for key, value in base.items() if key not in {"name", "strategy", "sources", "seed"}}
    study = {
        "recipe": base | {"tasks": strict_yaml.load(tasks.read_text())[0]["tasks"]},
        "design": {"kind": "full", "sources": ["self", "tag"], "strategies": ["ms-sr@fc"]},
        "evaluation": {"tasks": ["octaves"], "probes": ["linear_svm"], "folds": 2},
        "baselines": ["mfcc"],
        "retries": 0,
    }
    (tmp_path / "study.yaml").write_text(strict_yaml.dump(study))
    log, rng, seconds = tmp_path / "log", random.Random(10), []

    def make(disk):
        home = {"KERASREP_HOME": disk.root / "home", "CUDA_VISIBLE_DEVICES": ""}
        return run("study", [tmp_path / "study.yaml", "-o", disk.root / "study"], log, **home)

    def scores(disk):
        found = {
            path.parent.name: read_json(path) for path in (disk.root / "study/runs").glob("*/scores.json")
        }
        return {name: {task: one["score"] for task, one in of["tasks"].items()} for name, of in found.items()}

    whole = make_disk(PLENTY)
    code, said = make(whole)
    assert code == 0, said
    expected, most = scores(whole), whole.used()
    assert len(expected) == 4
    for _ in range(N_DISKS):
        disk = make_disk(max(1 << 16, int(most * rng.uniform(0.02, 0.95))))
        code, said = make(disk)
        print(said.splitlines()[-1])
        assert code == 1 and "Traceback" not in said, said
        assert "the disk is full" in said and str(disk.root) in said, said
        disk.resize(PLENTY)
        started = time.perf_counter()
        code, said = make(disk)
        assert code == 0, said
        seconds.append(time.perf_counter() - started)
        assert scores(disk) == expected
        assert (disk.root / "study" / "report.html").is_file()
        assert hidden(disk.root / "study") == [str(disk.root / "study/runs/.check")]  # the look at the tasks
    tally("full disk in kerasrep-study", N_DISKS, N_DISKS, seconds)


def test_read_only_disks(make_disk, tmp_path, tiny_recipe, small_run, tones, tasks, tally):
    write_recipe(tmp_path / "recipe.yaml", tiny_recipe())
    disk, log = make_disk(1 << 20), tmp_path / "log"
    disk.protect()
    root = disk.root
    commands = [
        ("prepare", [tmp_path / "recipe.yaml"], {"KERASREP_HOME": root / "home"}),
        ("train", [tmp_path / "recipe.yaml", "--run-dir", root / "run"], {}),
        ("export", [small_run.run.root, "--directory", root], {}),
        ("embed", [tones, "--model", default_model(), "-o", root / "v.parquet"], {}),
        ("evaluate", evaluation(tasks, root / "e"), {}),
    ]
    for command, arguments, environment in commands:
        code, said = run(command, arguments, log, **environment)
        print(told_in_one_line(command, code, said, str(root)))
    tally("read-only output, five commands", len(commands), len(commands))


def test_a_second_process_in_the_same_place_is_refused(tmp_path, tiny_recipe, tones, tasks, tally):
    write_recipe(tmp_path / "recipe.yaml", tiny_recipe(training={"epochs": 2}))
    (tmp_path / "tuning.yaml").write_text(
        "name: t\nrecipe: recipe.yaml\ntuner: random\nmax_trials: 1\nepochs: 1\n"
        "space: {training.learning_rate: {min: 1e-4, max: 1e-3}}\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: s\nrecipe: recipe.yaml\ndesign: {kind: full, sources: [self, tag]}\n"
        "evaluation: {tasks: [demo_lead]}\n"
    )
    log = tmp_path / "log"
    commands = [
        ("train", [tmp_path / "recipe.yaml", "--run-dir", tmp_path / "held"]),
        ("evaluate", evaluation(tasks, tmp_path / "held")),
        ("tune", [tmp_path / "tuning.yaml", "--run-dir", tmp_path / "held"]),
        ("study", [tmp_path / "study.yaml", "--output", tmp_path / "held"]),
    ]
    for command, arguments in commands:
        with exclusive(tmp_path / "held", "", ""):
            code, said = run(command, arguments, log)
        print(told_in_one_line(command, code, said, "another process", str(tmp_path / "held")))
        shutil.rmtree(tmp_path / "held")
    embed = [tones, "--model", default_model(), "-o", tmp_path / "v.parquet"]
    slowly = "import time, kerasrep.embedding.stream as s; time.sleep(0)"
    first = start("embed", embed, tmp_path / "first", slowly)
    wait_until_ready(first, tmp_path / "first")
    while first.poll() is None and not (tmp_path / ".v.parquet.parts").exists():
        time.sleep(0.005)
    code, said = run("embed", [*embed], log)
    assert first.wait(timeout=900) == 0
    if code:
        told_in_one_line("embed", code, said, "another process works on this output")
    tally("two processes in one folder: train, evaluate, tune, study", len(commands), len(commands))
