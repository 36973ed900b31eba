"""Tuning as a whole, on the tones: what it writes, what it survives, and that its best recipe is the best."""

import contextlib
import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from kerasrep.cli import command, tune
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.file import read_recipe
from kerasrep.storage.run_directory import RunDirectory, read_json

#: Drawn with this seed, of five trials two are possible.
SEARCH = {
    "name": "search",
    "tuner": "random",
    "max_trials": 5,
    "epochs": 1,
    "seed": 93,
    "space": {
        "training.learning_rate": {"min": 1e-4, "max": 1e-2, "log": True},
        "audio.n_mels": {"choice": [64, 128]},
        "audio.hop_samples": {"choice": [512, 1024]},  # the second leaves too few frames
        "audio.segment_seconds": {"choice": [2.5, 50.0]},  # no tone is so long
        "model.dropout": {"choice": [0, 0.1]},
        "training.steps_per_call": {"choice": ["auto", 4]},
    },
}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def run_tune(where, *arguments):
    """Run the command in the folder `where`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(where), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.run(tune.main, tune.PROG, [str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def the_tuning(folder):
    (root,) = (folder / "runs" / "search").iterdir()
    return root


def trials(root):
    with (root / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def write_search(tone_values, tmp_path_factory):
    """A function that writes a tuning recipe on the tones with the narrowest network."""

    def write(**settings):
        base = tone_values(
            "ms-sr@fc", sources=["tag", "bpm"], model={"width": 0.0625}, training={"epochs": 3}
        )
        path = tmp_path_factory.mktemp("search") / "search.yaml"
        path.write_text(strict_yaml.dump({"recipe": base} | SEARCH | settings))
        return path

    return write


@pytest.fixture(scope="module")
def search_path(write_search):
    return write_search()


@pytest.fixture(scope="module")
def first(search_path, prepared_tones, tmp_path_factory):
    """A folder in which a search ran to its end, and what it said; tests that go on take a copy."""
    folder = tmp_path_factory.mktemp("first")
    return folder, run_tune(folder, search_path)


def test_impossible_and_failed_trials_are_recorded_with_the_reason_and_stop_nothing(first):
    folder, outcome = first
    assert outcome.code == 0, outcome.err
    rows = trials(the_tuning(folder))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4"]
    for row in rows:
        if row["audio.hop_samples"] == "1024" and row["audio.segment_seconds"] == "2.5":
            assert (row["status"], row["score"]) == ("invalid", "")
            assert "a segment has 54 frames, the network needs 64" in row["reason"]
        elif row["audio.segment_seconds"] == "50.0":
            assert (row["status"], row["score"]) == ("failed", "")
            assert "tracks can be used" in row["reason"]
        else:
            assert (row["status"], row["reason"]) == ("done", "")
    assert {row["status"] for row in rows} == {"done", "invalid", "failed"}


def test_a_score_is_the_mean_of_losses_relative_to_those_of_the_mean_target(first):
    root = the_tuning(first[0])
    done = [row for row in trials(root) if row["status"] == "done"]
    for row in done:
        scores = read_json(root / row["run"] / "card.json")["scores"]["sources"]
        expected = [source["after"] / source["mean_target"] for source in scores.values()]
        assert float(row["score"]) == pytest.approx(sum(expected) / 2, rel=1e-9)
        assert float(row["score/tag"]) == pytest.approx(expected[list(scores).index("tag")], rel=1e-9)
    assert len({row["score"] for row in done}) == len(done) > 1


def test_trials_with_other_mels_share_the_shards(first):
    root = the_tuning(first[0])
    done = [row for row in trials(root) if row["status"] == "done"]
    assert {row["audio.n_mels"] for row in done} == {"64", "128"}
    assert len({read_json(root / row["run"] / "prepared.json")["fingerprint"] for row in done}) == 1


def test_it_prints_a_line_a_trial_and_a_table_with_the_best_first(first):
    folder, outcome = first
    root = the_tuning(folder)
    lines = re.findall(r"^trial (\d) \((\d) of 5\): learning_rate=\S+ n_mels=.*$", outcome.out, re.MULTILINE)
    assert lines == [(str(n), str(n + 1)) for n in range(5)]
    assert re.search(
        r"^trial \d \(\d of 5\): .* score \d\.\d{4}, the best, [\d min]+ s, about [\d min]+ s left$",
        outcome.out,
        re.M,
    )
    best = min((row for row in trials(root) if row["score"]), key=lambda row: float(row["score"]))
    (marked,) = re.findall(r"^(\d) +\* +(\d\.\d{4}) ", outcome.out, re.MULTILINE)
    assert marked == (best["trial"], f"{float(best['score']):.4f}")
    assert f"next:         kerasrep-train {root.relative_to(folder)}/best.yaml" in outcome.out


def test_the_best_recipe_is_the_base_with_the_best_values_and_the_bases_epochs(first):
    root = the_tuning(first[0])
    best = min((row for row in trials(root) if row["score"]), key=lambda row: float(row["score"]))
    recipe = read_recipe(root / "best.yaml")
    assert recipe.name == "search-best"
    assert recipe.training.learning_rate == float(best["training.learning_rate"])
    assert (recipe.audio.n_mels, recipe.audio.hop_samples) == (int(best["audio.n_mels"]), 512)
    assert recipe.model.dropout == float(best["model.dropout"])
    assert str(recipe.training.steps_per_call) == best["training.steps_per_call"]
    assert (recipe.training.epochs, recipe.model.width, recipe.sources) == (3, 0.0625, ("tag", "bpm"))
    header = (root / "best.yaml").read_text().partition("\n\n")[0]
    assert "Best of 2 trials of 'search', 1 invalid, 2 failed: trial " in header
    assert f"trial {best['trial']}." in header and all(line.startswith("#") for line in header.splitlines())


@pytest.mark.slow
def test_training_the_best_recipe_for_the_trials_epochs_gives_the_trials_losses(
    first, prepared_tones, tmp_path
):
    from kerasrep.api import train_prepared

    root = the_tuning(first[0])
    best = min((row for row in trials(root) if row["score"]), key=lambda row: float(row["score"]))
    recipe = read_recipe(root / "best.yaml", ["training.epochs=1"])
    run = RunDirectory(tmp_path / "run")
    summary = train_prepared(recipe, prepared_tones, run, show_progress=False, say=lambda line: None)
    again = [row.after / row.mean_target for row in summary.rows]
    assert sum(again) / 2 == pytest.approx(float(best["score"]), rel=1e-6)


def test_hparams_shows_every_trial_with_its_settings_score_and_status(first):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    root = the_tuning(first[0])
    events = EventMultiplexer().AddRunsFromDirectory(str(root / "tensorboard"))
    events.Reload()
    sessions = {}
    for run in events.Runs():
        contents = events.GetAccumulator(run).PluginTagToContent("hparams")
        parsed = {tag: plugin_data_pb2.HParamsPluginData.FromString(data) for tag, data in contents.items()}
        assert metadata.EXPERIMENT_TAG not in parsed  # or rows of other runs would be blank
        sessions[run] = parsed
    rows = trials(root)
    assert set(sessions) == {f"trial-{row['trial']}" for row in rows}
    for row in rows:
        run = f"trial-{row['trial']}"
        start = sessions[run][metadata.SESSION_START_INFO_TAG].session_start_info
        end = sessions[run][metadata.SESSION_END_INFO_TAG].session_end_info
        assert start.hparams["training.learning_rate"].number_value == float(row["training.learning_rate"])
        assert start.hparams["audio.n_mels"].number_value == float(row["audio.n_mels"])
        assert start.group_name == f"search {root.name} trial {row['trial']}"
        assert start.hparams["strategy"].string_value == "ms-sr@fc"
        assert start.hparams["model.dropout"].number_value == float(row["model.dropout"])
        assert start.hparams["training.steps_per_call"].string_value == row["training.steps_per_call"]
        assert end.status == (1 if row["status"] == "done" else 2)  # STATUS_SUCCESS, STATUS_FAILURE
        if row["status"] == "done":
            scalars = EventAccumulator(str(root / "tensorboard" / run)).Reload()
            assert not {"epoch", "epochs"} & set(scalars.Tags()["scalars"])
            (found,) = scalars.Scalars("score")
            assert found.value == pytest.approx(float(row["score"]), rel=1e-6)
            assert [event.step for event in scalars.Scalars("loss/mean")] == [0, 1]


def test_a_picture_a_page_and_no_half_written_file_are_left(first):
    root = the_tuning(first[0])
    page = (root / "report.html").read_text()
    done = [row for row in trials(root) if row["score"]]
    best = min(done, key=lambda row: float(row["score"]))
    assert f'<p class="answer">Trial {best["trial"]} is the best of {len(done)}: ' in page
    assert page.count('<tr><th scope="row">') >= 5 + 5 - len(done)  # trials, and those without a score again
    assert f"kerasrep-train {root.relative_to(first[0])}/best.yaml" in page
    assert (root / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert [path for path in root.rglob(".*") if path.is_file()] == []


def test_resuming_redoes_nothing_but_failures_and_goes_on_with_more_trials(first, search_path, tmp_path):
    shutil.copytree(first[0], tmp_path, dirs_exist_ok=True)
    root = the_tuning(tmp_path)
    failed = [row["trial"] for row in trials(root) if row["status"] == "failed"]
    before = {
        path: path.read_bytes()
        for path in root.rglob("result.json")
        if path.parent.name not in {f"trial_{name}" for name in failed}
    }
    assert (len(before), len(failed)) == (3, 2)
    again = run_tune(tmp_path, search_path, "--resume")
    assert again.code == 0, again.err
    assert re.findall(r"^trial (\d) \((\d) of 5\)", again.out, re.MULTILINE) == [
        (name, str(number)) for number, name in enumerate(failed, start=4)
    ]
    outcome = run_tune(tmp_path, search_path, "--resume", "max_trials=6")
    assert outcome.code == 0, outcome.err
    begun = re.findall(r"^trial (\d) \(\d of 6\)", outcome.out, re.MULTILINE)
    assert begun == [*failed, "5"]
    assert re.findall(r"^trial (\d) \(6 of 6\)", outcome.out, re.MULTILINE) == ["5"]
    assert {path: path.read_bytes() for path in before} == before
    assert [row["trial"] for row in trials(root)] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.slow
def test_a_trial_that_failed_is_done_on_resume_once_the_cause_is_gone(write_search, prepared_tones, tmp_path):
    space = {"model.dropout": {"choice": [0, 0.1]}}
    path, root = write_search(space=space, max_trials=1), tmp_path / "tuning"
    in_the_way = root / "trials" / "trial_0" / "run"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    outcome = run_tune(tmp_path, path, "--run-dir", root)
    assert outcome.code == 1
    assert "none of 1 trials has a score; the first: " in outcome.err
    (row,) = trials(root)
    assert (row["status"], (root / "trials" / "trial_0" / "error.txt").exists()) == ("failed", True)
    in_the_way.unlink()
    outcome = run_tune(tmp_path, path, "--run-dir", root, "--resume")
    assert outcome.code == 0, outcome.err
    (row,) = trials(root)
    assert (row["trial"], row["status"], row["reason"]) == ("0", "done", "")
    assert read_json(root / "trials" / "trial_0" / "trial.json")["status"] == "COMPLETED"
    assert not (root / "trials" / "trial_0" / "error.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("--run-dir", "ROOT"),
            1,
            r"ROOT: holds a tuning already; add --resume, or choose another --run-dir",
        ),
        (("--resume", "seed=2"), 2, r"seed: 2, but the tuning in .* has 93; only max_trials may change"),
        (("--resume", "--run-dir", "none"), 1, "none: holds no tuning to resume; start one without --resume"),
        (("--resume", "name=other"), 1, "runs/other: holds no tuning to resume"),
        (("max_trial=2",), 2, r"override 'max_trial=2': max_trial: unknown key; did you mean 'max_trials'\?"),
    ],
)
def test_refusals_are_one_line_and_change_nothing(first, search_path, arguments, code, message):
    folder, _ = first
    root = the_tuning(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    outcome = run_tune(folder, search_path, *(str(root) if word == "ROOT" else word for word in arguments))
    assert outcome.code == code
    assert re.fullmatch(
        rf"kerasrep-tune: error: [^\n]*{message.replace('ROOT', re.escape(str(root)))}[^\n]*\n", outcome.err
    ), outcome.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty; a recipe needs at least 'recipe', 'max_trials' and 'space'"),
        (b"space: [", r"\d+: "),
        (b"- 1\n", r"is not a mapping"),
        (b"name: \xff\n", r"1: is not UTF-8 text"),
    ],
    ids=["empty", "cut short", "no mapping", "not UTF-8"],
)
def test_a_damaged_tuning_is_named_in_one_line(search_path, tmp_path, content, message):
    (tmp_path / "tuning.yaml").write_bytes(content)
    outcome = run_tune(tmp_path, search_path, "--run-dir", tmp_path, "--resume")
    assert outcome.code == 2
    where = re.escape(str(tmp_path / "tuning.yaml"))
    assert re.fullmatch(rf"kerasrep-tune: error: {where}: ?{message}[^\n]*\n", outcome.err), outcome.err


def test_a_folder_that_cannot_be_used_is_refused_before_the_corpus_is_made(
    write_search, tone_values, tmp_path, monkeypatch
):
    home, file = tmp_path / "home", tmp_path / "file"
    monkeypatch.setenv("KERASREP_HOME", str(home))
    file.touch()
    for run_dir in (file, file / "below"):
        outcome = run_tune(tmp_path, write_search(), "--run-dir", run_dir)
        assert outcome.code == 1
        assert re.fullmatch(
            rf"kerasrep-tune: error: {re.escape(str(run_dir))}: cannot write there \(.*\); "
            r"choose another --run-dir\n",
            outcome.err,
        ), outcome.err
    assert not home.exists()


@pytest.mark.slow
def test_trials_that_all_fail_stop_after_three_with_the_reason(write_search, tmp_path):
    space = {
        "audio.segment_seconds": {"choice": [50.0]},
        "training.learning_rate": SEARCH["space"]["training.learning_rate"],
    }
    outcome = run_tune(tmp_path, write_search(space=space))
    assert outcome.code == 1
    assert re.search(
        r"^kerasrep-tune: error: 3 trials failed one after the other, the last one: corpus 'folder': none of "
        r"its 32 train tracks can be used; .*; find the cause, then go on with --resume$",
        outcome.err,
        re.MULTILINE,
    ), outcome.err
    assert len(list(the_tuning(tmp_path).rglob("result.json"))) == 3
    again = run_tune(tmp_path, write_search(space=space), "--resume")  # the cause is still there
    assert again.code == 1
    assert again.err == outcome.err
    assert re.findall(r"^trial (\d) \(", again.out, re.MULTILINE) == ["0", "1", "2"]


def test_a_search_without_any_score_says_so(write_search, tmp_path):
    space = {"audio.hop_samples": {"choice": [1024, 2048]}}
    outcome = run_tune(tmp_path, write_search(space=space, max_trials=2))
    assert outcome.code == 1
    assert re.search(
        r"error: .*: none of 2 trials has a score; the first: audio\.segment_seconds: ", outcome.err
    )


RUN = "import sys; from kerasrep.cli.tune import entry; sys.exit(entry())"


def start(folder, path, *arguments):
    words = [sys.executable, "-c", RUN, str(path), *arguments]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(pattern, folder, process, seconds=180):
    end = time.monotonic() + seconds
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_search_that_is_stopped_in_a_trial_goes_on_to_the_same_end(
    write_search, prepared_tones, tmp_path, number
):
    space = {
        "training.learning_rate": {"min": 1e-4, "max": 1e-2, "log": True},
        "model.dropout": {"choice": [0.1, 0.5]},
    }
    path = write_search(space=space, max_trials=3, epochs=15)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    process = start(whole, path)
    assert process.wait() == 0, process.stderr.read()
    process = start(stopped, path)
    wait_for("runs/search/*/trials/trial_1/run/checkpoints/best.npz", stopped, process)
    os.kill(process.pid, number)
    assert process.wait() == (-9 if number == signal.SIGKILL else 128 + number)
    root = the_tuning(stopped)
    assert read_json(root / "trials" / "trial_1" / "trial.json")["status"] == "RUNNING"
    assert not (root / "trials" / "trial_1" / "result.json").exists()
    result = (root / "trials" / "trial_0" / "result.json").read_bytes()
    process = start(stopped, path, "--resume")
    assert process.wait() == 0, process.stderr.read()
    assert (root / "trials" / "trial_0" / "result.json").read_bytes() == result
    without_time = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in trials(the_tuning(folder))]
        for folder in (whole, stopped)
    ]
    assert without_time[0] == without_time[1]
    same = [
        (the_tuning(folder) / "best.yaml").read_text().partition("\n\n")[2] for folder in (whole, stopped)
    ]
    assert same[0] == same[1]


@pytest.mark.slow
@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_hyperband_goes_on_with_the_best_where_the_rate_is_constant(
    write_search, prepared_tones, tmp_path, decay
):
    space = {"training.learning_rate": {"min": 1e-4, "max": 1e-2, "log": True}}
    tuner = {"name": "hyperband", "factor": 2}
    path = write_search(
        space=space, epochs=2, tuner=tuner, max_trials=3, settings={"training": {"decay": decay}}
    )
    outcome = run_tune(tmp_path, path)
    assert outcome.code == 0, outcome.err
    root = the_tuning(tmp_path)
    rows = trials(root)
    assert [row["epochs"] for row in rows] == ["1", "1", "2"]
    best = min(rows[:2], key=lambda row: float(row["score"]))
    assert rows[2]["training.learning_rate"] == best["training.learning_rate"]
    history = [(root / row["run"] / "history.csv").read_text().splitlines()[2] for row in (best, rows[2])]
    assert (history[0] == history[1]) == (
        decay == "constant"
    )  # times included: it was copied, not trained again


@pytest.mark.slow
def test_a_downstream_score_can_be_what_counts(write_search, prepared_tones, tones, tmp_path):
    lines = [f"t{n:02d}.wav\t{('low', 'mid', 'high', 'top')[n % 4]}" for n in range(40)]
    (tmp_path / "octaves.tsv").write_text("path\tlabel\n" + "\n".join(lines) + "\n")
    own = {
        "name": "octaves",
        "kind": "classification",
        "table": str(tmp_path / "octaves.tsv"),
        "audio": str(tones),
    }
    path = write_search(
        space={"training.learning_rate": {"choice": [1e-5, 3e-3]}},
        max_trials=2,
        epochs=12,
        settings={
            "tasks": [own],
            "strategy": "ms-cr@4",
            "model": {"width": 0.125},
            "training": {"schedule": "joint"},
        },
        objective={"name": "downstream", "tasks": ["octaves"]},
    )
    outcome = run_tune(tmp_path, path)
    assert outcome.code == 0, outcome.err
    root = the_tuning(tmp_path)
    rows = trials(root)
    for row in rows:
        with (root / "trials" / f"trial_{row['trial']}" / "evaluation" / "summary.csv").open() as file:
            found = [r for r in csv.DictReader(file) if r["probe"] == "linear_svm"]
        assert float(row["score"]) == pytest.approx(float(found[0]["mean"]))
    best = max(rows, key=lambda row: float(row["score"]))
    assert float(best["score"]) > 0.4  # chance is 0.25
    assert f"best.yaml (trial {best['trial']}, score {float(best['score']):.4f})" in outcome.out
