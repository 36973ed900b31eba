"""`kerasrep-evaluate`: what it prints and leaves, how it goes on, and one line for each thing wrong."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kerasrep.cli import command, evaluate
from kerasrep.data.recordings import write_identities
from kerasrep.embedding.identities import cached_identities
from kerasrep.evaluation import suite
from kerasrep.storage.export_directory import identities_path

RATE_HZ = 22_050


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Thirty short files: ten low tones, ten high tones, ten noises; and tables for three tasks."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    time_seconds = np.arange(RATE_HZ // 2) / RATE_HZ
    labels = ["label", "low", "high", "noise"]
    rows = ["path,label"]
    values, items, plays = ["path,label"], ["item,path"], ["user,item,plays"]
    for number in range(30):
        kind, pitch_hz = labels[1 + number % 3], 100 + 20 * number
        tone = np.sin(2 * np.pi * (pitch_hz if kind == "low" else 10 * pitch_hz) * time_seconds)
        noise = rng.normal(0, 0.1, len(time_seconds))
        soundfile.write(folder / f"{number}.wav", 0.3 * tone * (kind != "noise") + noise, RATE_HZ)
        rows.append(f"{number}.wav,{kind}")
        values.append(f"{number}.wav,{0.0 if kind == 'noise' else np.log2(pitch_hz):.4f}")
        items.append(f"i{number},{number}.wav")
        plays += [f"u{user},i{number},{1 + user % 3}" for user in range(9) if user % 3 == number % 3]
    for name, lines in (("kinds", rows), ("pitches", values), ("items", items), ("plays", plays)):
        (folder / f"{name}.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def recipe(audio):
    path = audio / "recipe.yaml"
    path.write_text(
        f"""
strategy: ss-r
sources: [tag]
tasks:
  - {{name: kinds, kind: classification, table: {audio / "kinds.csv"}}}
  - {{name: pitches, kind: regression, table: {audio / "pitches.csv"}, audio: {audio}}}
  - {{name: who, kind: recommendation, table: {audio / "plays.csv"}, items: {audio / "items.csv"}}}
"""
    )
    return path


@pytest.fixture
def run_evaluate(capsys):
    """A function that runs the command: exit code, standard output, lines of standard error."""

    def run(*arguments):
        code = command.run(evaluate.main, evaluate.PROG, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        # Progress bars write on standard error; they are no lines of the program.
        lines = [line for line in captured.err.replace("\r", "\n").splitlines() if evaluate.PROG in line]
        return code, captured.out, lines

    return run


def scores(folder):
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_names_tasks_and_what_is_compared_beside_what_the_command_line_names(
    audio, recipe, tmp_path, run_evaluate, monkeypatch, small_export
):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "bench.yaml"
    tasks = recipe.read_text().split("tasks:\n")[1]
    own.write_text(f"tasks:\n{tasks}models: [mfcc, random]\n")
    code, out, _ = run_evaluate(
        "./bench.yaml",
        "mfcc",
        small_export,
        "--recipe",
        "bench.yaml",
        "--tasks",
        "kinds",
        "--probes",
        "linear_svm",
    )
    assert code == 0 and (tmp_path / "evaluation" / "summary.csv").is_file()
    found = scores(tmp_path / "evaluation")
    assert {row["representation"] for row in found} == {"small/1", "mfcc", "random"}
    assert "linear_svm" in out
    for words, reason in (
        ((own, "--recipe", recipe), f"{recipe}: tasks come from one file, {own} is named as well; give one"),
        ((recipe,), f"{recipe}: has no section 'models'; name what is compared there, or here"),
    ):
        code, _, lines = run_evaluate(*words)
        assert code == 2 and lines == [f"kerasrep-evaluate: error: {reason}"]


def test_a_model_and_a_baseline_are_compared_on_tasks_of_ones_own(
    run_evaluate, small_export, recipe, tmp_path
):
    arguments = (small_export, "mfcc", "--recipe", recipe, "-o", tmp_path, "--folds", 3)
    code, out, err = run_evaluate(*arguments)
    assert (code, err) == (0, [])
    rows = scores(tmp_path)
    assert list(rows[0]) == ["representation", "task", "probe", "fold", "metric", "value"]
    assert {row["task"] for row in rows} == {"kinds", "pitches", "who"}
    assert {row["representation"] for row in rows} == {"small/1", "mfcc"}
    kinds = [
        float(row["value"])
        for row in rows
        if (row["task"], row["probe"], row["metric"]) == ("kinds", "linear_svm", "accuracy")
    ]
    assert len(kinds) == 2 * 3 and np.mean(kinds) > 0.7  # three classes: chance is 0.33
    page = (tmp_path / "report.html").read_text()
    assert "kinds" in page and "<script" not in page and 'src="http' not in page
    assert page.count("kinds.csv: names no groups") == out.count("kinds.csv: names no groups") == 1
    assert json.loads((tmp_path / "scores.json").read_text())
    assert list((tmp_path / "tensorboard").rglob("events.out.tfevents.*"))
    assert "accuracy" in out and str(tmp_path / "report.html") in out

    results = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.npz")}
    assert len(results) == 6
    code, _, _ = run_evaluate(*arguments)
    assert code == 0 and scores(tmp_path) == rows
    assert {path: path.stat().st_mtime_ns for path in results} == results  # found, not computed again
    code, _, _ = run_evaluate("mfcc", *arguments[2:], "--tasks", "kinds", "--seed", 1)
    before = [row for row in rows if (row["representation"], row["task"]) == ("mfcc", "kinds")]
    assert code == 0 and scores(tmp_path) != before


def test_shuffled_labels_score_at_chance(run_evaluate, recipe, tmp_path):
    code, _, _ = run_evaluate(
        "mfcc",
        "--tasks",
        "kinds",
        "--recipe",
        recipe,
        "-o",
        tmp_path,
        "--shuffle-labels",
        "--probes",
        "logistic",
    )
    assert code == 0
    values = [float(row["value"]) for row in scores(tmp_path) if row["probe"] == "logistic"]
    assert np.mean(values) < 0.67  # three classes of ten: chance is 0.33, with a deviation of 0.09


def test_one_failing_task_does_not_lose_the_others(run_evaluate, audio, recipe, tmp_path):
    broken = tmp_path / "recipe.yaml"
    broken.write_text(
        recipe.read_text() + f"  - {{name: gone, kind: classification, table: {audio / 'no.csv'}}}\n"
    )
    options = ("--tasks", "gone,kinds", "-o", tmp_path / "out", "--probes", "linear_svm")
    code, _, err = run_evaluate("mfcc", "--recipe", broken, *options)
    assert code == 1
    assert [line for line in err if "gone" in line and "no.csv" in line]
    assert {row["task"] for row in scores(tmp_path / "out")} == {"kinds"}


def test_items_without_usable_audio_are_left_out_up_to_a_limit(run_evaluate, audio, recipe, tmp_path):
    table = tmp_path / "kinds.csv"
    table.write_text((audio / "kinds.csv").read_text() + "\nmissing.wav,low")
    own = tmp_path / "recipe.yaml"
    own.write_text(recipe.read_text().replace(str(audio / "kinds.csv"), f"{table}, audio: {audio}"))
    options = ("mfcc", "--recipe", own, "--tasks", "kinds", "-o", tmp_path / "out", "--probes", "linear_svm")
    code, _, err = run_evaluate(*options, "--max-missing", "0.01")
    assert code == 1 and "missing.wav" in err[-1] and "1 of 31" in err[-1]
    code, out, err = run_evaluate(*options, "--max-missing", "0.05")
    assert code == 0 and not err
    assert "missing.wav" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("mfcc", "--tasks", "gtzn"), 2, "did you mean 'gtzan'"),
        (("mfcc", "--tasks", "gtzan"), 2, "--data"),
        (("mfcc", "--tasks", "gtzan", "--data", "/nowhere"), 1, "/nowhere/"),
        (("mfc", "--tasks", "demo"), 2, "mfcc"),
        (("mfcc", "--tasks", "demo", "--probes", "svm"), 2, "svm"),
        (("random:x", "--tasks", "demo"), 2, "random:x"),
        (("mfcc", "mfcc"), 2, "mfcc"),
        (("mfcc", "--recipe", "/nowhere.yaml"), 2, "/nowhere.yaml"),
        (("mfcc", "--tasks", ""), 2, "--tasks"),
        (("mfcc", "--probes", "chance"), 2, "chance"),
        (("mfcc", "--split-list", "gtzan=a.tsv"), 2, "gtzan=a.tsv"),
        (("mfcc", "--tasks", "demo_dance", "--probes", "ridge"), 2, "none of ridge is for classification"),
        (("mfcc", "--tasks", "demo_recommendation", "--split-list", "demo_recommendation=a"), 2, "plays"),
        (("hear:no_such_module_anywhere", "--tasks", "gtzan", "--data", "/nowhere"), 1, "no_such_module"),
    ],
)
def test_what_cannot_be_done_is_one_line(run_evaluate, tmp_path, arguments, code, words):
    found, _, err = run_evaluate(*arguments, "-o", tmp_path / "out")
    assert found == code
    assert len(err) == 1 and words in err[0]


def test_an_output_that_cannot_be_made_is_refused_first(run_evaluate, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run_evaluate("mfcc", "-o", tmp_path / "file" / "out")
    assert code == 1 and len(err) == 1 and "file/out" in err[0]


def test_a_task_from_a_table_takes_no_other_list(run_evaluate, recipe, tmp_path):
    arguments = ("mfcc", "--recipe", recipe, "--tasks", "kinds", "-o", tmp_path / "out")
    code, _, err = run_evaluate(*arguments, "--split-list", f"kinds={tmp_path / 'list.tsv'}")
    assert code == 2 and len(err) == 1 and "'kinds' is a table already" in err[0]


def test_a_fully_cached_run_imports_no_tensorflow(small_export, recipe, tmp_path, run_evaluate):
    import subprocess

    arguments = [str(small_export), "--recipe", str(recipe), "--tasks", "kinds", "-o", str(tmp_path)]
    arguments += ["--probes", "linear_svm"]
    assert run_evaluate(*arguments)[0] == 0
    script = (
        "import sys; from kerasrep.cli import evaluate; code = evaluate.main(sys.argv[1:]); "
        "print('tensorflow' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert Path(tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a.wav,low", "b.wav,nan"], "has 1 items (1 have no label)"),
        (["0.wav,low", "1.wav,low", "2.wav,low"], "all items have the class 'low'"),
        (["0.wav,low", "1.wav,high", "2.wav,low"], "too few for 5 folds"),
        ([f"{n}.wav,{'low' if n % 2 else 'high'},{'low' if n % 2 else 'high'}" for n in range(12)], "group"),
        (["0.wav,low", "../x.wav,high"], "line 3"),
    ],
)
def test_labels_that_make_no_task_are_one_line(run_evaluate, audio, recipe, tmp_path, lines, words):
    table = tmp_path / "bad.csv"
    header = "path,label,group" if lines[0].count(",") == 2 else "path,label"
    table.write_text("\n".join([header, *lines]))
    own = tmp_path / "recipe.yaml"
    own.write_text(recipe.read_text().replace(str(audio / "kinds.csv"), f"{table}, audio: {audio}"))
    code, _, err = run_evaluate("mfcc", "--recipe", own, "--tasks", "kinds", "-o", tmp_path / "out")
    assert code == 1
    assert len(err) == 1 and "kinds" in err[0] and words in err[0], err
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_results_of_other_labels_items_and_options_are_not_taken_for_these(
    run_evaluate, audio, recipe, tmp_path
):
    def stored():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").rglob("*.npz")}

    table = tmp_path / "kinds.csv"
    lines = (audio / "kinds.csv").read_text().splitlines()
    table.write_text("\n".join([*lines, "missing.wav,low"]))
    own = tmp_path / "recipe.yaml"
    own.write_text(recipe.read_text().replace(str(audio / "kinds.csv"), f"{table}, audio: {audio}"))
    arguments = ("mfcc", "--recipe", own, "--tasks", "kinds", "-o", tmp_path / "out", "--probes", "logistic")
    code, out, _ = run_evaluate(*arguments, "--max-missing", "0.1")
    assert code == 0 and "1 item left out" in out
    one = stored()
    assert len(one) == 1
    table.write_text("\n".join(lines))  # the same items are used, and nothing is left out any more
    code, out, _ = run_evaluate(*arguments)
    assert code == 0 and stored() == one and "left out" not in out
    run_evaluate(*arguments, "--dense")  # says nothing about classes
    assert stored() == one
    run_evaluate(*arguments, "--tune")
    assert len(stored()) == 2
    first, *others = lines[1:]
    table.write_text("\n".join([lines[0], first.replace("low", "noise"), *others]))
    run_evaluate(*arguments)
    assert len(stored()) == 3
    table.write_text("\n".join([lines[0], *others]))
    run_evaluate(*arguments)
    assert len(stored()) == 4
    assert one.items() <= stored().items()


HEAR = """
import numpy as np
import tensorflow as tf

class Model:
    sample_rate = 22050
    scene_embedding_size = 3

def load_model(path=""):
    return Model()

def get_scene_embeddings(audio, model):
    samples = np.asarray(audio)
    if abs(float(samples[0, 0])) > LIMIT:
        raise ValueError("too loud at its start")
    crossings = (np.diff(np.sign(samples)) != 0).mean(axis=1)
    return tf.constant(np.stack([samples.std(axis=1), crossings, crossings**2], 1), tf.float32)
"""


def test_all_representations_are_judged_on_the_items_that_each_could_embed(
    run_evaluate, audio, recipe, tmp_path, monkeypatch
):
    starts = {n: abs(soundfile.read(audio / f"{n}.wav", frames=1, dtype="float32")[0][0]) for n in range(30)}
    loudest = sorted(starts, key=starts.__getitem__)[-2:]
    limit = float(starts[loudest[0]] + starts[loudest[1]]) / 2
    (tmp_path / "hear_of_test.py").write_text(HEAR.replace("LIMIT", repr(limit)))
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run_evaluate(
        *("mfcc", "hear:hear_of_test", "--recipe", recipe, "--tasks", "kinds", "-o", tmp_path / "out"),
        *("--max-missing", "0.05", "--probes", "linear_svm"),
    )
    assert (code, err) == (0, [])
    words = " ".join(out.split())  # lines are as wide as the terminal
    assert "another representation has no embedding" in words and f"{loudest[1]}.wav" in words
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        assert {row["n_items"] for row in csv.DictReader(file)} == {"29"}
    with (tmp_path / "out" / "comparisons.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1


def test_copies_of_a_recording_are_said(run_evaluate, audio, recipe, tmp_path):
    table = tmp_path / "kinds.csv"
    for path in audio.glob("*.wav"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "copy.wav").write_bytes((audio / "1.wav").read_bytes())
    table.write_text((audio / "kinds.csv").read_text() + "\ncopy.wav,high")
    own = tmp_path / "recipe.yaml"
    own.write_text(recipe.read_text().replace(str(audio / "kinds.csv"), str(table)))
    options = ("--tasks", "kinds", "-o", tmp_path / "out", "--probes", "linear_svm")
    code, out, _ = run_evaluate("mfcc", "--recipe", own, *options)
    words = " ".join(out.split())
    assert code == 0 and "1 items are copies of another one" in words and "copies are one group" in words


def test_only_the_named_probes_are_fitted(run_evaluate, recipe, tmp_path):
    code, out, _ = run_evaluate("mfcc", "--recipe", recipe, "-o", tmp_path, "--probes", "ridge,wmf_features")
    assert code == 0
    assert {(row["task"], row["probe"]) for row in scores(tmp_path)} == {
        *(("pitches", probe) for probe in ("ridge", "chance")),
        *(("who", probe) for probe in ("wmf_features", "chance")),
    }
    assert "kinds: is left out" in out


def test_a_file_may_hold_tasks_alone_and_a_task_its_own_split_list(run_evaluate, audio, recipe, tmp_path):
    alone = tmp_path / "tasks.yaml"
    alone.write_text(recipe.read_text().partition("sources: [tag]\n")[2])
    parts = ["train"] * 20 + ["test"] * 10
    kinds = [line.split(",") for line in (audio / "kinds.csv").read_text().splitlines()[1:]]
    rows = [
        f"{n}\t{path}\t{part}\t{kind}"
        for n, ((path, kind), part) in enumerate(zip(kinds, parts, strict=True))
    ]
    (tmp_path / "list.tsv").write_text("\n".join(rows))
    gtzan = tmp_path / "data" / "gtzan"
    gtzan.mkdir(parents=True)
    for path in audio.glob("*.wav"):
        (gtzan / path.name).write_bytes(path.read_bytes())
    code, _, err = run_evaluate(
        *("mfcc", "--recipe", alone, "--tasks", "pitches", "gtzan", "--data", tmp_path / "data"),
        *(
            "-o",
            tmp_path / "out",
            "--split-list",
            f"gtzan={tmp_path / 'list.tsv'}",
            "--probes",
            "svr,logistic",
        ),
    )
    assert (code, err) == (0, [])
    folds = {(row["task"], row["fold"]) for row in scores(tmp_path / "out")}
    assert ("gtzan", "0") in folds and ("gtzan", "1") not in folds and ("pitches", "4") in folds


@pytest.fixture
def trained_on(small_export, audio, tmp_path):
    """A function that copies the export and says which of the files it was trained on."""

    def make(numbers):
        version = tmp_path / "exported" / "knowing" / "1"
        shutil.copytree(small_export, version)
        identities, _ = cached_identities([audio / f"{number}.wav" for number in numbers], progress=False)
        write_identities(identities_path(version), identities)
        return version

    return make


def summary_items(folder):
    with (folder / "summary.csv").open(newline="") as file:
        return {(row["n_items"], row["seen"], row["seen_scored"]) for row in csv.DictReader(file)}


def test_items_that_a_model_was_trained_on_are_left_out_for_all(
    run_evaluate, trained_on, small_export, recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(suite, "LEAST_UNSEEN", 20)
    out = tmp_path / "out"
    code, said, err = run_evaluate(
        *(trained_on(range(6)), "mfcc", small_export, "--recipe", recipe, "--tasks", "kinds", "-o", out),
        *("--probes", "linear_svm"),
    )
    words, page = " ".join(said.split()), (out / "report.html").read_text()
    assert (code, err) == (0, [])
    assert summary_items(out) == {("24", "6", "0")}
    for text in (words, page):
        assert (
            "of 30 items, models were trained on 6 (knowing/1 on 6); they are left out for all models" in text
        )
        assert "in training" in text and "6 left out" in text
        assert "trained on by knowing/1" in text
        assert "It is not known on which recordings small/1 was trained." in text
    for path in (out / "predictions").rglob("kinds.csv"):
        with path.open(newline="") as file:
            assert not {row["item"] for row in csv.DictReader(file)} & {
                f"{number}.wav" for number in range(6)
            }
    with (out / "comparisons.csv").open(newline="") as file:
        assert {row["n_units"] for row in csv.DictReader(file)} == {"24"}


def test_where_too_few_would_remain_all_are_scored_and_marked(run_evaluate, trained_on, recipe, tmp_path):
    out = tmp_path / "out"
    options = ("--recipe", recipe, "--tasks", "kinds", "-o", out, "--probes", "linear_svm")
    code, said, _ = run_evaluate(trained_on(range(10)), *options)
    words, page = " ".join(said.split()), (out / "report.html").read_text()
    assert code == 0 and summary_items(out) == {("30", "10", "10")}
    for text in (words, page):
        assert "too few others remain, so that all are scored: seen in training" in text
        assert "10 scored" in text and "kinds (seen in training):" in text
    assert json.loads((out / "scores.json").read_text())["evaluations"][0]["counts"]["seen"] == {
        "items": 10,
        "removed": False,
        "by_model": {"knowing/1": 10},
    }


def test_an_untrained_network_has_seen_nothing(run_evaluate, trained_on, recipe, tmp_path):
    model, out = trained_on(range(10)), tmp_path / "out"
    code, said, _ = run_evaluate(
        "random", "mfcc", model, "--recipe", recipe, "--tasks", "kinds", "-o", out, "--probes", "linear_svm"
    )
    assert code == 0 and "(knowing/1 on 10)" in " ".join(said.split()) and "not known" not in said
