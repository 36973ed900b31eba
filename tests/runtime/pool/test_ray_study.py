"""A small study on a real Ray cluster: a node is killed, the command is stopped, a node lacks the home."""

import os
import signal
from pathlib import Path

import pytest

from kerasrep.experiments.job import RunFolder
from kerasrep.recipe import strict_yaml
from kerasrep.storage.run_directory import RunDirectory, read_arrays, read_json

ray = pytest.importorskip("ray")
import ray_nodes  # noqa: E402
from ray_nodes import ROOT, cluster_of, end, wait_for  # noqa: E402


@pytest.fixture(scope="module")
def study(tones, tone_values, tmp_path_factory):
    """Two single-source runs, and one of both."""
    root = tmp_path_factory.mktemp("study")
    names = sorted(path.name for path in tones.glob("*.wav"))
    rows = [f"{name}\t{('low', 'mid', 'high', 'top')[int(name[1:3]) % 4]}" for name in names]
    (root / "octaves.tsv").write_text("\n".join(["path\tlabel", *rows]))
    task = {"name": "octaves", "kind": "classification", "table": str(root / "octaves.tsv")}
    training = {"epochs": 30, "checkpoint_every_epochs": 1, "tensorboard": "scalars"}
    base = tone_values(model={"width": 0.125}, training=training) | {"tasks": [task | {"audio": str(tones)}]}
    values = {
        "recipe": {k: v for k, v in base.items() if k not in {"name", "strategy", "sources", "seed"}},
        "design": {"kind": "full", "sources": ["tag", "bpm"], "strategies": ["ms-sr@fc"]},
        "evaluation": {"tasks": ["octaves"], "probes": ["linear_svm"], "folds": 2},
        "baselines": [],
        "export": False,
    }
    (root / "small.yaml").write_text(strict_yaml.dump(values))
    return root / "small.yaml"


def start(study, output, *options, **environment):
    return ray_nodes.start("study", study, "-o", output, *options, **environment)


def busy_node(nodes, process):
    """A node whose run has a checkpoint and is not done; waits for one."""

    def look():
        found = nodes.find("--worker")
        if found is None:
            return None
        run = RunFolder(Path(found[1][found[1].index("--worker") + 1]))
        begun = RunDirectory(run.training).last.exists()
        return found if begun and not (run.root / "done" / "train.json").exists() else None

    return wait_for(look, process)[0]


def outcomes(output):
    """Scores, and all weights that were trained."""
    scores = {path.parent.name: read_json(path)["tasks"] for path in output.glob("runs/*/scores.json")}
    weights = {
        (path.parts[-4], name): array.tobytes()
        for path in output.glob("runs/*/training/checkpoints/last.npz")
        for name, array in read_arrays(path).items()
        if name not in {"meta", "sums"}
    }
    return scores, weights


@pytest.fixture(scope="module")
def alone(study, tmp_path_factory):
    """Scores and weights of the study on one machine, a core a run."""
    output = tmp_path_factory.mktemp("alone")
    code, out, err = end(start(study, output))
    assert code == 0 and "3 of 3 runs done" in out, err
    return outcomes(output)


@pytest.mark.slow
def test_a_killed_node_and_a_stopped_command_change_no_score(study, alone, tmp_path):
    output = tmp_path / "out"
    with cluster_of(2) as nodes:
        process = start(study, output, "--ray", nodes.address)
        busy_node(nodes, process)
        process.send_signal(signal.SIGTERM)
        code, _, err = end(process, timeout=90)
        assert code == 143 and err.endswith("stopped by SIGTERM; the same command goes on where it stopped\n")
        process = start(study, output, "--ray", nodes.address)
        assert nodes.kill(busy_node(nodes, process)) >= 2
        code, out, err = end(process)
    assert (code, err) == (0, ""), out + err
    assert "lost, is made again: its worker died, or the node did" in out
    assert "3 of 3 runs done, 0 running, 0 failed" in out
    scores, weights = outcomes(output)
    assert scores == alone[0]
    assert weights == alone[1]
    assert not list(output.glob(".nodes-*"))


@pytest.mark.slow
def test_a_run_that_fails_on_a_node_keeps_its_reason_and_stops_nothing(study, tmp_path):
    hook, output = tmp_path / "hook", tmp_path / "out"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(  # stands for a disk that is full for one run
        "import sys\n"
        "if 'ss-r.tag' in ' '.join(sys.orig_argv):\n"
        "    import kerasrep.experiments.worker as worker\n"
        "    from kerasrep.errors import StorageError\n"
        "    def fail(folder, recipe, show_progress): raise StorageError('a file: the disk is full')\n"
        "    worker._train = fail\n"
    )
    path = f"{hook}{os.pathsep}{ROOT}"
    code, out, err = end(start(study, output, "--ray", "local", PYTHONPATH=path))
    assert (code, err) == (1, ""), out + err
    assert "ss-r.tag.s0: failed, is tried again: a file: the disk is full" in out
    assert "2 of 3 runs done, 0 running, 1 failed" in out
    assert "failed:  ss-r.tag.s0: a file: the disk is full" in out
    assert len((output / "runs" / "ss-r.tag.s0" / "failures.jsonl").read_text().splitlines()) == 2


def test_gpus_of_this_machine_are_refused(study, tmp_path):
    from kerasrep.errors import RecipeError
    from kerasrep.experiments.study.processes import pool_on
    from kerasrep.experiments.study.recipe import WorkerSettings

    with (
        pytest.raises(RecipeError, match=r"^workers\.gpus: names GPUs of this machine"),
        pool_on(None, None, [], WorkerSettings(gpus=(0,))),
    ):
        pass
