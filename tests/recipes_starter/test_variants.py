"""Which trainings variants.py makes of its file, and how it counts what they gave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import variant_tables
import variants
from files import CollectError, write_table
from variant_tables import Beside, Job, Variant

from kerasrep.recipe.file import read_recipe, write_recipe

STARTER = Path(__file__).parents[2] / "recipes" / "starter"
SUMMARY = """representation,task,probe,metric,mean,low,high,n_items,seen,seen_scored
run:all,soundtrack_a,linear_svm,accuracy,{soundtrack},.7,.9,197,0,0
run:all,soundtrack_a,chance,accuracy,0.2,.1,.3,197,0,0
run:all,tempo_a,ridge,r2,{tempo},.1,.3,300,0,0
run:all,neighbour_composer_a,cosine,first_five,0.5,,,61,0,0
"""
ROBUSTNESS = """60 queries among 143 pieces of part A

| | mono | 12 dB quieter |
|---|---|---|
| run:all | {} | 60 |
"""


def job(name: str = "recipe", seed: int = 0) -> Job:
    return Job(Variant(name, (), 5000), "B", "A", seed)


def scored(out: Path, one: Job, soundtrack: float, tempo: float, mono: int) -> None:
    """What `kerasrep-evaluate` and robustness.py leave behind."""
    (out / one.name / "evaluation").mkdir(parents=True)
    summary = SUMMARY.format(soundtrack=soundtrack, tempo=tempo)
    (out / one.name / "evaluation" / "summary.csv").write_text(summary)
    (out / one.name / "robustness.md").write_text(ROBUSTNESS.format(mono))


def test_every_variant_of_the_file_is_a_recipe_that_can_be_trained(tmp_path: Path) -> None:
    recipe, found = variants.read_variants(STARTER / "variants.yaml")
    write_table(tmp_path / "parts" / "A" / "tracks.tsv", ("path", "kind"), [("a.opus", "real")])
    read = {}
    for name, variant in found.items():
        path, *words = variants.own_recipe(Job(variant, "A", "B", 0), recipe, tmp_path)
        read[name] = read_recipe(path, words)
    assert read["recipe"].augment == read_recipe(STARTER.parent / "starter.yaml").augment
    assert len({(*variant.settings, variant.steps) for variant in found.values()}) == len(found)
    assert read["mono-alike"].augment.alike == ("mono",)


@pytest.mark.parametrize(("batch", "epochs"), [(256, 455), (512, 1000)])
def test_epochs_are_those_that_give_the_steps_of_the_variant(tmp_path: Path, batch: int, epochs: int) -> None:
    rows = [(f"{number}.opus", "note") for number in range(3000)]
    write_table(tmp_path / "parts" / "A" / "tracks.tsv", ("path", "kind"), rows)
    one = Job(Variant("x", (f"batches.size={batch}",), 5000), "A", "B", 3)
    path, *words = variants.own_recipe(one, STARTER.parent / "starter.yaml", tmp_path)
    recipe = read_recipe(path, words)
    assert recipe.training.epochs == epochs  # 2,850 training tracks are 11 batches of 256, 5 of 512
    assert (recipe.seed, str(recipe.corpus.root)) == (3, str(tmp_path / "parts" / "A"))


@pytest.mark.parametrize("left", ["run", "export"])
def test_what_other_settings_made_is_not_taken_for_the_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    write_table(tmp_path / "parts" / "B" / "tracks.tsv", ("path", "kind"), [("a.opus", "real")])
    words = variants.own_recipe(job(), STARTER.parent / "starter.yaml", tmp_path)
    places = tmp_path / "run", tmp_path / "exported" / job().name
    variants.check_settings(*places, words)  # none is there
    made = read_recipe(words[0], words[1:])
    if left == "run":
        write_recipe(places[0] / "recipe.yaml", made)
    else:  # all that another machine sent
        (places[1] / "3").mkdir(parents=True)
        (places[1] / "3" / "saved_model.pb").touch()
        card = types.SimpleNamespace(recipe=made.as_dict())
        monkeypatch.setattr(variants, "read_card", lambda version: card if version.name == "3" else None)
    variants.check_settings(*places, words)
    variants.check_settings(*places, [*words, "corpus.root=elsewhere"])  # it was trained on another machine
    with pytest.raises(CollectError, match=r"with training\.weight_decay 0\.03, now 0\.5; delete it"):
        variants.check_settings(*places, [*words, "training.weight_decay=0.5"])


def test_scoring_can_be_left_to_a_later_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "parts" / "B" / "tracks.tsv", ("path", "kind"), [("a.opus", "real")])
    version, commands = tmp_path / "exported" / job().name / "1", []

    def run_command(
        log: Path, environment: Mapping[str, str], *words: str, output: Path | None = None
    ) -> None:
        commands.append(next(word for word in words if "kerasrep.cli" in word or "robustness" in word))
        version.mkdir(parents=True, exist_ok=True)
        (version / "saved_model.pb").touch()

    monkeypatch.setattr(variants, "run_command", run_command)
    for train_only in (True, True, False):
        variants.do_job(job(), STARTER.parent / "starter.yaml", tmp_path, tmp_path, {}, train_only)
    trained, evaluated, robust = commands  # of what `--train-only` leaves, the export alone is needed
    assert "kerasrep.cli.train" in trained
    assert "kerasrep.cli.evaluate" in evaluated
    assert robust.endswith("robustness.py")


def test_nothing_at_once_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        variants.parse_arguments(["variants.yaml", "--at-once", "0"])
    assert "0 is not at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["A:A", "AB:B", "A", "A:", ":A", "D:A", "A:BC"])
def test_a_part_that_was_learnt_from_is_never_scored(pair: str) -> None:
    options = variants.parse_arguments(["variants.yaml", "--folds", pair])
    with pytest.raises(CollectError, match="--folds"):
        variants.chosen_jobs(options, {"recipe": job().variant})


def test_an_unknown_variant_is_named() -> None:
    options = variants.parse_arguments(["variants.yaml", "--names", "recipe", "nothing"])
    with pytest.raises(CollectError, match=r"nothing: not in variants\.yaml: recipe"):
        variants.chosen_jobs(options, {"recipe": job().variant})


@pytest.mark.parametrize("text", ["recipe: a.yaml", "[", "variants: {a: {}}\nrecipe: b\nsteps: x", "- a"])
def test_a_file_without_what_is_needed_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.yaml").write_text(text)
    with pytest.raises(CollectError, match="recipe, steps and variants are needed"):
        variants.read_variants(tmp_path / "v.yaml")


def test_tables_have_the_mean_of_the_seeds_and_each_of_them(tmp_path: Path) -> None:
    jobs = [job("recipe", 0), job("recipe", 1), job("mono", 0), job("mono", 1)]
    scored(tmp_path, jobs[1], 0.8, -0.02, 50)
    scored(tmp_path, jobs[0], 0.7, 0.1, 55)
    scored(tmp_path, jobs[2], 0.75, 0.2, 60)
    variant_tables.write_scores(jobs, tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "| recipe | 2 | .750 (.700, .800) |" in text
    assert ".040 (.100, -.020)" in text
    assert "52 (55, 50)" in text  # of 52.5, to even
    assert "| mono | 1 | .750 |" in text
    lines = (tmp_path / "scores.tsv").read_text().splitlines()
    assert "recipe\tB\tA\t1\ttempo\tr2\t-0.02" in lines
    assert not any("0.2\n" in f"{line}\n" and "soundtrack" in line for line in lines)  # chance is no score


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0004, ".000"), (0.0004, ".000"), (-0.0204, "-.020"), (1.195, "1.195"), (1.0, "1.000")],
)
def test_numbers_are_written_with_three_places_and_without_a_leading_zero(value: float, text: str) -> None:
    assert variant_tables.rounded(value, "r2") == text


def predicted(folder: Path, scores: list[float]) -> None:
    """One task's items, two of a group."""
    path = folder / "evaluation" / "predictions" / "any" / "soundtrack_a.csv"
    path.parent.mkdir(parents=True)
    rows = [f"{number}.opus,0,x,y,{score}" for number, score in enumerate(scores)]
    path.write_text("\n".join(["item,fold,truth,prediction,score", *rows]) + "\n")


def test_the_mean_of_the_seeds_less_another_is_by_item_with_an_interval_over_groups(tmp_path: Path) -> None:
    rng, jobs, other = np.random.default_rng(0), [job(seed=0), job(seed=1)], Beside("musicnn", "A")
    first, second, beside = (rng.integers(0, 2, 60).astype(float) for _ in range(3))
    for one, scores in zip(jobs, (first, second), strict=True):
        scored(tmp_path, one, float(scores.mean()), 0.1, 50)
        predicted(tmp_path / one.name, list(scores))
    (tmp_path / other.name / "evaluation").mkdir(parents=True)
    (tmp_path / other.name / "evaluation" / "summary.csv").write_text(
        SUMMARY.format(soundtrack=0.25, tempo=0)
    )
    predicted(tmp_path / other.name, list(beside))
    table = tmp_path / "soundtrack_a.tsv"
    write_table(table, ("path", "group"), [(f"{number}.opus", number // 2) for number in range(60)])
    tasks = [{"name": "soundtrack_a", "table": str(table)}]
    (tmp_path / other.name / "tasks.yaml").write_text(json.dumps({"tasks": tasks}))
    variant_tables.write_scores(jobs, tmp_path, [other])
    lines = (tmp_path / "tables.md").read_text().splitlines()
    (cell,) = (line.split("|")[3] for line in lines if line.startswith("| recipe - musicnn | 2 |"))
    values = (first + second) / 2 - beside
    mean, low, high = (float(word.strip("[],")) for word in cell.split())
    assert mean == pytest.approx(values.mean(), abs=6e-4)
    by_group = values.reshape(30, 2).mean(axis=1)
    drawn = by_group[rng.integers(0, 30, (4000, 30))].mean(axis=1)
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)
    assert "| musicnn | | .250 | .000 | .500 |  |  |" in lines
    path = tmp_path / jobs[0].name / "evaluation" / "predictions" / "any" / "soundtrack_a.csv"
    path.write_text(path.read_text().rpartition("59.opus")[0])
    with pytest.raises(CollectError, match=r"soundtrack_a: .* have other items"):
        variant_tables.write_scores(jobs, tmp_path, [other])
    summary = tmp_path / jobs[0].name / "evaluation" / "summary.csv"
    summary.write_text(summary.read_text().replace(",197,0,0", ",59,1,0"))  # the one that it had heard
    variant_tables.write_scores(jobs, tmp_path, [other])
    lines = (tmp_path / "tables.md").read_text().splitlines()
    (cell,) = (line.split("|")[3] for line in lines if line.startswith("| recipe - musicnn | 2 |"))
    assert float(cell.split()[0]) == pytest.approx(values[:59].mean(), abs=6e-4)


def test_each_job_is_done_once_and_those_that_fail_are_told_at_the_end() -> None:
    done: list[tuple[str, str]] = []
    lock = threading.Lock()

    def do(one: Job, environment: Mapping[str, Any]) -> None:
        with lock:
            done.append((one.name, environment["CUDA_VISIBLE_DEVICES"]))
        if one.seed == 3:
            raise CollectError("it broke")

    jobs = [job(seed=seed) for seed in range(20)]
    failed = variants.do_all(jobs, ["0", "1", "0", "1"], do)
    assert sorted(name for name, _ in done) == sorted(one.name for one in jobs)
    assert {gpu for _, gpu in done} <= {"0", "1"}
    assert failed == ["recipe-B-A-3: it broke"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
@pytest.mark.parametrize("n_slots", [1, 2, 5])
def test_commands_at_once_share_the_cores_and_the_caller_keeps_all(tmp_path: Path, n_slots: int) -> None:
    before = os.sched_getaffinity(0)
    barrier = threading.Barrier(n_slots)

    def do(one: Job, environment: Mapping[str, str]) -> None:
        barrier.wait(60)
        output = tmp_path / one.name
        code = "import os; print(*sorted(os.sched_getaffinity(0)))"
        variants.run_command(tmp_path / f"{one.name}.log", environment, "-c", code, output=output)

    assert not variants.do_all([job(seed=seed) for seed in range(n_slots)], [None] * n_slots, do)
    seen = [set(map(int, path.read_text().split())) for path in tmp_path.glob("recipe-B-A-?")]
    assert len(seen) == n_slots and os.sched_getaffinity(0) == before
    share = len(before) // n_slots
    assert share == 0 or (
        all(len(cores) == share for cores in seen) and len(set.union(*seen)) == n_slots * share
    )


def test_what_is_interrupted_stops_its_commands_and_begins_no_more(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which nohup and scripts' jobs have not
sys.path.insert(0, {str(STARTER)!r})
import variants
from pathlib import Path
from variant_tables import Beside, Job, Variant

def do(one, environment):
    code = "import time; print('begun', flush=True); time.sleep(60)"
    variants.run_command(Path({str(tmp_path)!r}, f"{{one.seed}}.log"), environment, "-c", code)

def interrupt():
    while not any("begun" in path.read_text() for path in Path({str(tmp_path)!r}).glob("*.log")):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
variants.do_all([Job(Variant("x", (), 1), "B", "A", seed) for seed in range(9)], [None], do)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert [path.name for path in tmp_path.iterdir()] == ["0.log"]


def test_a_command_that_begins_while_all_are_stopped_is_stopped_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    stopping.set()
    monkeypatch.setattr(variants, "STOPPING", stopping)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # or commands would not hear of it
    try:
        with pytest.raises(CollectError):
            variants.run_command(tmp_path / "log.txt", os.environ, "-c", "import time; time.sleep(60)")
    finally:
        signal.signal(signal.SIGINT, before)


def test_tasks_are_those_of_the_part_with_the_tables_of_the_folder(tmp_path: Path) -> None:
    from kerasrep.recipe.file import read_tasks

    for part, n_tasks in (("A", 7), ("C", 7)):
        variants.write_tasks(part, tmp_path / "music", tmp_path / f"{part}.yaml")
        tasks = read_tasks(tmp_path / f"{part}.yaml").tasks
        assert len(tasks) == n_tasks
        assert {task.name[-2:] for task in tasks} == {f"_{part.lower()}"}
        assert {str(task.audio) for task in tasks} == {str(tmp_path / "music")}


def test_a_command_that_fails_is_told_by_its_last_line_and_leaves_no_output(tmp_path: Path) -> None:
    log, output = tmp_path / "log.txt", tmp_path / "robustness.md"
    variants.run_command(log, {}, "-c", "print('table')", output=output)
    assert output.read_text() == "table\n"
    output.unlink()
    code = "import sys; print('half'); sys.exit('cannot go on')"
    with pytest.raises(CollectError, match="cannot go on"):
        variants.run_command(log, {}, "-c", code, output=output)
    assert list(tmp_path.iterdir()) == [log]
