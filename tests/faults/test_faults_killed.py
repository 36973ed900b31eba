"""Kill -9 at random moments, again and again: the same command goes on and ends as an unbroken run does."""

import time

import numpy as np
import pytest
import soundfile
from fault_tools import content_of, kill_again_and_again, run, start

from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.recipe.file import write_recipe
from kerasrep.storage.export_directory import default_model
from kerasrep.storage.run_directory import LOG_NAME, RunDirectory, read_arrays, read_json

pytestmark = pytest.mark.slow

#: Loaded before a command says `ready`, so that kills fall into its work.
TRAINING = "import kerasrep.api, kerasrep.training.train, kerasrep.serving.export, kerasrep.corpora.prepare"
PREPARING = "import kerasrep.corpora.prepare, kerasrep.data.shard_writer as w; w.SHARD_BYTES = 1_500_000"
EMBEDDING = (
    "import kerasrep.embedding.catalogue.job, tensorflow; tensorflow.zeros(1)\n"
    "import kerasrep.embedding.catalogue.parts as p; p.PART_SECONDS = 0.5"
)


def unbroken(command, arguments, log, before, **environment):
    """Seconds of a run that nothing disturbs, without the start of the process."""
    started = time.perf_counter()
    process = start(command, arguments, log, before, **environment)
    while b"ready" not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    ready = time.perf_counter()
    assert process.wait(timeout=900) == 0, log.read_text()
    print(f"{command}: {ready - started:.1f} s to start, {time.perf_counter() - ready:.1f} s of work")
    return time.perf_counter() - ready


def hidden(root):
    return sorted(str(path) for path in root.rglob(".*") if not path.name.endswith(".lock"))


def arrays_but_times(path):
    return {name: array for name, array in read_arrays(path).items() if name != "meta"}


def test_a_trainer_killed_at_random_moments_ends_with_the_same_weights(tmp_path, tiny_recipe, kills, tally):
    write_recipe(tmp_path / "recipe.yaml", tiny_recipe(training={"epochs": 12, "tensorboard": "scalars"}))
    log, numbers = tmp_path / "log", iter(range(1000))

    def arguments(place):
        resume = ["--resume"] if (place / "run" / "recipe.yaml").is_file() else []
        names = [f"export.directory={place}/exported", "--run-dir", place / "run"]
        return [tmp_path / "recipe.yaml", *names, *resume]

    def begin():
        place = tmp_path / f"place{next(numbers)}"
        place.mkdir()
        return place

    whole = begin()
    home = {"KERASREP_HOME": tmp_path / "home"}
    seconds = unbroken("train", arguments(whole), log, TRAINING, **home)
    expected = {
        name: arrays_but_times(getattr(RunDirectory(whole / "run"), name)) for name in ("last", "best")
    }

    def check(place):
        done = RunDirectory(place / "run")
        for name, arrays in expected.items():
            found = arrays_but_times(getattr(done, name))
            assert found.keys() == arrays.keys()
            for key, array in arrays.items():
                np.testing.assert_array_equal(found[key], array, err_msg=f"{name}: {key}")
        assert read_json(done.card)["ended"] == "done"
        assert hidden(place) == []
        (version, *_) = (place / "exported" / "tones").glob("[0-9]*")
        assert (version / "saved_model.pb").is_file()

    check(whole)
    recovery = kill_again_and_again(
        begin,
        lambda place: start("train", arguments(place), log, TRAINING, **home),
        check,
        seconds,
        kills,
        1,
        log,
    )
    tally("kill -9 of kerasrep-train (weights equal bit by bit)", kills, kills, recovery)


def test_preparation_killed_at_random_moments_ends_with_the_same_bytes(tmp_path, kills, tally):
    music, numbers = tmp_path / "music", iter(range(1000))
    music.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        soundfile.write(music / f"t{number:02d}.flac", 0.1 * rng.normal(size=(660_000, 2)), 44_100)
    (music / "tag.csv").write_text("track,item\n" + "".join(f"t{n:02d},x{n % 5}\n" for n in range(60)))
    (tmp_path / "recipe.yaml").write_text(
        "name: x\nstrategy: ss-r\nsources: [tag]\ntargets: {size: 4}\nbatches: {size: 4}\n"
        f"corpus: {{name: folder, root: {music}, tables: {{tag: tag.csv}}}}\n"
    )
    log = tmp_path / "log"

    def go_on(place):
        return start("prepare", [tmp_path / "recipe.yaml", "--quiet"], log, PREPARING, KERASREP_HOME=place)

    def contents(place):
        kept = [path for path in place.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
        return {str(path.relative_to(place)): content_of(path) for path in kept}

    whole = tmp_path / "whole"
    seconds = unbroken("prepare", [tmp_path / "recipe.yaml"], log, PREPARING, KERASREP_HOME=whole)
    expected = contents(whole)
    assert sum(name.endswith(".tfrecord") for name in expected) >= 2 * 20

    def check(place):
        found = contents(place)
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []

    recovery = kill_again_and_again(
        lambda: tmp_path / f"home{next(numbers)}", go_on, check, seconds, kills, 2, log
    )
    tally("kill -9 of kerasrep-prepare (all files equal)", kills, kills, recovery)


def test_embedding_killed_at_random_moments_ends_with_the_same_table(tmp_path, kills, tally):
    music, numbers, log = tmp_path / "music", iter(range(1000)), tmp_path / "log"
    music.mkdir()
    for number in range(150):
        samples = np.random.default_rng(number).normal(0, 0.1, (20 * 22_050, 2))
        soundfile.write(music / f"{number:03d}.wav", samples, 22_050)

    def arguments(place):
        return [music, "-o", place / "vectors.parquet", "--model", default_model(), "--workers", "2"]

    def begin():
        place = tmp_path / f"place{next(numbers)}"
        place.mkdir()
        return place

    whole = begin()
    seconds = unbroken("embed", arguments(whole), log, EMBEDDING)
    expected = read_embeddings(whole / "vectors.parquet")
    assert len(set(expected.paths)) == len(expected.paths) == 150

    def check(place):
        found = read_embeddings(place / "vectors.parquet")
        assert found.paths == expected.paths
        np.testing.assert_array_equal(found.embeddings, expected.embeddings)
        np.testing.assert_array_equal(found.seconds, expected.seconds)
        assert (place / "vectors.parquet").read_bytes() == (whole / "vectors.parquet").read_bytes()
        names = sorted(path.name for path in place.iterdir())
        assert names == ["vectors.parquet", f"vectors.parquet.{LOG_NAME}"]
        assert content_of(place / names[1]) == b"done"

    recovery = kill_again_and_again(
        begin, lambda place: start("embed", arguments(place), log, EMBEDDING), check, seconds, kills, 3, log
    )
    tally("kill -9 of kerasrep-embed (nothing twice, nothing lost)", kills, kills, recovery)


def test_two_exports_at_once_are_two_versions(tmp_path, make_run, tally):
    trained = make_run()
    logs = [tmp_path / "a", tmp_path / "b"]
    arguments = [trained.run.root, "--directory", tmp_path / "exported"]
    processes = [start("export", arguments, log) for log in logs]
    assert [process.wait(timeout=900) for process in processes] == [0, 0], [log.read_text() for log in logs]
    assert sorted(path.name for path in (tmp_path / "exported" / "small").glob("[0-9]*")) == ["1", "2"]
    code, said = run("export", arguments, tmp_path / "c")
    assert code == 0, said
    assert hidden(tmp_path / "exported") == []
    tally("two exports of one run at once (each a version of its own)", 1, 1)
