"""Faults that take no process of their own: full disks, clocks that go back, corpora that change."""

import hashlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fault_tools import ROOT

from kerasrep.api import prepare, train_prepared
from kerasrep.cli import evaluate as evaluate_command
from kerasrep.data import shard_check
from kerasrep.data.shards import load_index
from kerasrep.embedding import cache
from kerasrep.errors import DataError, RecipeError, RunError, StorageError, machine_message
from kerasrep.storage.atomic import remove_all_temporaries, remove_temporaries
from kerasrep.storage.folder_lock import exclusive
from kerasrep.storage.run_directory import (
    CHECKED_SHARDS,
    RunDirectory,
    atomic_directory,
    atomic_file,
    latest_run,
    new_run,
    read_arrays,
    write_arrays,
)
from kerasrep.training.beginning import check_run, write_beginning
from kerasrep.training.inputs import TrainingData


def test_a_full_disk_is_told_with_the_file_and_leaves_what_was_there(make_disk):
    disk = make_disk(256 << 10)
    path = disk.root / "state.npz"
    write_arrays(path, {"a": np.zeros(1000)})
    with pytest.raises(StorageError, match=r"state\.npz: cannot be written: the disk is full; make room"):
        write_arrays(path, {"a": np.zeros(100_000)})
    assert read_arrays(path)["a"].shape == (1000,)
    with (
        pytest.raises(StorageError, match="table: cannot be written: the disk is full"),
        atomic_directory(disk.root / "table") as temporary,
    ):
        (temporary / "part").write_bytes(bytes(1 << 20))
    assert [entry.name for entry in disk.root.iterdir()] == ["state.npz"]
    disk.resize(2 << 20)
    write_arrays(path, {"a": np.zeros(100_000)})
    assert read_arrays(path)["a"].shape == (100_000,)


def test_a_read_only_disk_is_told(make_disk):
    disk = make_disk(1 << 20)
    disk.protect()
    with pytest.raises(StorageError, match="the file system is read-only"), atomic_file(disk.root / "x"):
        pytest.fail("began to write")
    with (
        pytest.raises(RunError, match=r"cannot write there \(the file system is read-only\)"),
        exclusive(disk.root / "run", "", "--run-dir"),
    ):
        pytest.fail("held")


def test_a_limit_on_the_size_of_files_is_told_without_root(tmp_path):
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from kerasrep.cli.command import run; from kerasrep.storage.run_directory import write_arrays\n"
        "main = lambda a: write_arrays(Path(a[0]), {'a': np.zeros(100_000)})\n"
        "sys.exit(run(main, 'x', sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "state.npz"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"x: error: {tmp_path}/state.npz: cannot be written: the file is larger than it may be; "
        "write elsewhere, then go on\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_full_disk_under_tensorflow_is_not_called_a_full_memory(make_disk):
    import tensorflow as tf

    disk = make_disk(64 << 10)
    with pytest.raises(tf.errors.OpError) as raised:
        tf.io.write_file(str(disk.root / "x"), tf.constant(b"x" * (1 << 20)))
    assert "the disk is full" in (machine_message(raised.value) or "")
    memory = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    assert "out of memory" in (machine_message(memory) or "")


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    of_people = (".npm-packages", ".my-settings.json", ".vectors-abcdefgh.parquet")
    names = (".vectors.parquet.parts", ".hidden", "x~abcdefgh.npz", ".x~ABC.npz", *of_people)
    keep = [tmp_path / name for name in names]
    left = [tmp_path / ".vectors~ab_d3fgh.parquet", tmp_path / "checkpoints" / ".last~abcdefgh.npz"]
    (tmp_path / "checkpoints").mkdir()
    for path in [*keep, *left]:
        path.write_bytes(b"half")
    remove_temporaries(tmp_path / "other.parquet")
    assert all(path.exists() for path in left)
    remove_temporaries(tmp_path / "vectors.parquet")
    assert [path.exists() for path in left] == [False, True]
    remove_all_temporaries(tmp_path)
    assert [path.exists() for path in left] == [False, False]
    assert all(path.exists() for path in keep)


def test_the_latest_run_is_the_one_begun_last_though_the_clock_went_back_a_day(tmp_path, monkeypatch):
    real = time.strftime
    roots = [new_run(tmp_path, "x").root]
    monkeypatch.setattr(time, "strftime", lambda form: real(form, time.localtime(time.time() - 86_400)))
    roots += [new_run(tmp_path, "x").root for _ in range(11)]
    for root in roots:
        (root / "recipe.yaml").touch()
        assert latest_run(tmp_path, "x").root == root or root != roots[-1]
    assert latest_run(tmp_path, "x").root == roots[-1]
    monkeypatch.undo()
    monkeypatch.setattr(time, "strftime", lambda form: real(form, time.localtime(time.time() + 86_400)))
    later = new_run(tmp_path, "x").root
    (later / "recipe.yaml").touch()
    assert latest_run(tmp_path, "x").root == later


def test_a_file_replaced_at_equal_size_and_time_is_hashed_again(tmp_path):
    path, past_ns = tmp_path / "a.wav", time.time_ns() - 10**10
    hashes = cache.HashStore(tmp_path / "files.sqlite")
    path.write_bytes(b"first")
    os.utime(path, ns=(past_ns, past_ns))
    first = cache.known_files([path], hashes)[0].content
    path.write_bytes(b"other")
    os.utime(path, ns=(past_ns, past_ns))
    assert cache.known_files([path], hashes)[0].content != first
    hashes.close()


@pytest.fixture
def folder_recipe(tone_recipe, tmp_path, monkeypatch):
    """A function that makes a recipe on six tracks, which may be changed."""
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    root = tmp_path / "music"
    root.mkdir()
    for number in range(6):
        write_track(root / f"t{number}.wav", number)
    corpus = {"name": "folder", "root": str(root), "tables": {}, "validation_fraction": 0.4}
    return root, tone_recipe("ss-r", sources=["self"], corpus=corpus, batches={"size": 4})


def write_track(path, seed, n_samples=60_000):
    soundfile.write(path, 0.1 * np.random.default_rng(seed).normal(size=(n_samples, 1)), 22_050)


def test_a_cut_recipe_of_a_run_is_called_damaged_and_not_a_changed_setting(folder_recipe, tmp_path):
    _, recipe = folder_recipe
    prepared, run = prepare(recipe, progress=False), RunDirectory(tmp_path / "run")
    recipe = recipe.model_copy(update={"seed": 7})
    write_beginning(recipe, prepared, run)
    check_run(recipe, prepared, run, resume=True)
    with pytest.raises(RecipeError, match=r"^seed: 8, but the run in .* has 7; only epochs and paths may"):
        check_run(recipe.model_copy(update={"seed": 8}), prepared, run, resume=True)
    text = run.recipe.read_text()
    run.recipe.write_text(
        text[: text.index("seed: 7")] if text.index("seed: 7") else text.replace("7", "6", 1)
    )
    with pytest.raises(RunError, match=r"recipe\.yaml: is not what the run wrote .*damaged or was edited"):
        check_run(recipe, prepared, run, resume=True)


def test_files_that_are_of_no_run_are_not_replaced_by_one(folder_recipe, tmp_path):
    _, recipe = folder_recipe
    run = RunDirectory(tmp_path / "mine")
    run.root.mkdir()
    (run.root / "notes.txt").touch()
    prepared = prepare(recipe, progress=False)
    check_run(recipe, prepared, run, resume=False)
    run.card.write_text("{}")
    with pytest.raises(
        RunError, match=r"card\.json: would be replaced, and recipe\.yaml beside it.*is missing"
    ):
        check_run(recipe, prepared, run, resume=False)


@pytest.mark.parametrize("change", ["replaced", "replaced by an older one", "added", "removed"])
def test_a_corpus_that_changed_is_prepared_anew_and_a_run_on_the_old_one_refused(
    folder_recipe, tmp_path, change
):
    root, recipe = folder_recipe
    before = prepare(recipe, progress=False)
    assert prepare(recipe, progress=False) == before
    run = RunDirectory(tmp_path / "run")
    write_beginning(recipe, before, run)
    check_run(recipe, before, run, resume=True)
    if change == "added":
        write_track(root / "t9.wav", 9)
    elif change == "removed":
        (root / "t3.wav").unlink()
    else:
        write_track(root / "t3.wav", 33)  # of the same length
        if change == "replaced by an older one":
            past = time.time() - 86_400
            os.utime(root / "t3.wav", (past, past))
    after = prepare(recipe, progress=False)
    assert after != before
    with pytest.raises(RunError, match="the corpus or its targets changed since"):
        check_run(recipe, after, run, resume=True)


def test_a_flipped_bit_ends_a_run_before_its_first_step_or_leaves_the_shard_out(
    folder_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr("kerasrep.data.shard_writer.SHARD_BYTES", 300_000)  # a track a shard
    _, recipe = folder_recipe
    prepared, run = prepare(recipe, progress=False), RunDirectory(tmp_path / "run")
    index = load_index(prepared)
    shard = index.shard_paths[index.shard[index.rows("train")[0]]]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=f"{shard.name}: its bytes are not those that were written"):
        train_prepared(recipe, prepared, run, show_progress=False)
    assert not run.root.exists()

    def opened(policy):
        training = recipe.training.model_copy(update={"damaged_shards": policy})
        return TrainingData.open(recipe.model_copy(update={"training": training}), prepared)

    assert opened("unchecked").train.rows.tolist() == index.rows("train").tolist()
    left = opened("skip")
    assert list(left.damaged) == [shard.name]
    assert left.train.rows.tolist() == index.rows("train")[1:].tolist()
    write_beginning(recipe, prepared, run)
    with pytest.raises(RunError, match=f"was begun with all shards, and would go on without {shard.name}"):
        check_run(recipe, prepared, run, True, left.damaged)
    write_beginning(recipe, prepared, run, left.damaged)
    check_run(recipe, prepared, run, True, left.damaged)
    prepare(recipe, progress=False, check=True)
    assert opened("refuse").train.rows.tolist() == index.rows("train").tolist()


def test_processes_of_a_group_read_shards_once_and_again_where_one_changed(
    folder_recipe, tmp_path, monkeypatch
):
    _, recipe = folder_recipe
    prepared = prepare(recipe, progress=False)
    (shard,) = prepared.root.glob("*.tfrecord")
    read = []
    monkeypatch.setattr(shard_check, "_sha256", lambda path, stamp: read.append(path) or sha256(path))

    def sha256(path):
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def check():  # as the next process would
        read.clear()
        return shard_check.sound_index(prepared, "skip")[1], read.copy()

    assert [check(), check()] == [({}, [str(shard)])] * 2
    monkeypatch.setenv(CHECKED_SHARDS, str(tmp_path / "missing"))
    assert [check(), check()] == [({}, [str(shard)])] * 2
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv(CHECKED_SHARDS, str(tmp_path / "notes"))
    assert [check(), check(), check()] == [({}, [str(shard)]), ({}, []), ({}, [])]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    for _ in range(2):  # damage is never noted
        with pytest.raises(DataError, match="its bytes are not those that were written"):
            shard_check.sound_index(prepared, "refuse")
    os.truncate(shard, 100)
    with pytest.raises(DataError, match="has 100 bytes instead of"):
        shard_check.sound_index(prepared, "refuse")


def test_an_evaluation_of_another_process_keeps_its_folder(tmp_path, capsys):
    from kerasrep.cli.command import run

    (tmp_path / "a.wav").touch()
    (tmp_path / "t.tsv").write_text("path\tlabel\na.wav\tx\n")
    (tmp_path / "tasks.yaml").write_text(
        f"tasks:\n  - {{name: t, kind: classification, table: {tmp_path}/t.tsv, audio: {tmp_path}}}\n"
    )
    output = tmp_path / "evaluation"
    arguments = ["mfcc", "--recipe", tmp_path / "tasks.yaml", "--tasks", "t", "-o", output]
    with exclusive(output, "", ""):
        code = run(evaluate_command.main, "kerasrep-evaluate", list(map(str, arguments)))
    assert code == 1
    assert capsys.readouterr().err.endswith(
        f"kerasrep-evaluate: error: {output}: another process evaluates there; wait for it or stop it\n"
    )
