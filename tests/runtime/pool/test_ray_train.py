"""Workers of one training on a real Ray cluster: a node is killed, the command is stopped, a node refuses."""

import json
import signal

import numpy as np
import pytest

from kerasrep.errors import RecipeError
from kerasrep.recipe.file import write_recipe
from kerasrep.runtime.pool.cluster import Node
from kerasrep.runtime.pool.on_ray import Place
from kerasrep.storage.run_directory import RunDirectory, read_arrays
from kerasrep.training.on_ray import share_of

ray = pytest.importorskip("ray")
import ray_nodes  # noqa: E402
from ray_nodes import cluster_of, end, wait_for  # noqa: E402

#: As workers on nodes of one core have them; other numbers of threads round otherwise.
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("nodes", "count", "place"),
    [
        ([(4, 0), (4, 0)], 2, Place(4)),
        ([(4, 0), (4, 0)], 3, Place(2)),
        ([(8, 0), (2, 0)], 2, Place(4)),
        ([(1, 0)], 2, Place(0.5)),
        ([(16, 8)], 2, Place(8, 4)),
        ([(16, 2), (16, 2)], 4, Place(8, 1)),
        ([(2, 4)], 4, Place(0.5, 1)),
        ([(16, 1), (16, 0)], 2, Place(16)),  # a worker without a GPU would hold up the other one
        ([], 1, None),
        ([(1, 0)], 11, None),
    ],
)
def test_workers_get_the_largest_place_that_all_can_have(nodes, count, place):
    assert share_of([Node(str(i), "host", *what) for i, what in enumerate(nodes)], count) == place


def test_a_cluster_needs_to_be_told_how_many_workers(tiny_recipe, tmp_path):
    from kerasrep.cli.train import main

    write_recipe(tmp_path / "tones.yaml", tiny_recipe())
    with pytest.raises(RecipeError, match=r"^--ray: add --workers N"):
        main([str(tmp_path / "tones.yaml"), "--ray", "auto"])


@pytest.fixture(scope="module")
def recipe(tiny_recipe, prepared_tones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    recipe = tiny_recipe(
        training={"epochs": 40, "checkpoint_every_epochs": 2, "tensorboard": "scalars"},
        export={"directory": str(folder / "exported")},
    )
    write_recipe(folder / "tones.yaml", recipe)
    return folder / "tones.yaml"


def start(recipe, run, *options, **environment):
    return ray_nodes.start("train", recipe, "--run-dir", run.root, *options, **environment)


def wait_for_a_checkpoint(run, process, step):
    wait_for(
        lambda: run.last.exists() and json.loads(str(read_arrays(run.last)["meta"]))["step"] > step, process
    )


def same_weights(run, expected):
    arrays = read_arrays(run.last)
    for name, value in read_arrays(expected.last).items():
        if name not in {"meta", "sums"}:
            np.testing.assert_array_equal(arrays[name], value, err_msg=name)


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    """A run of two workers on this machine."""
    run = RunDirectory(tmp_path_factory.mktemp("alone") / "run")
    code, _, err = end(start(recipe, run, "--workers", 2, **ONE_THREAD))
    assert code == 0, err
    return run


@pytest.mark.slow
def test_a_killed_node_changes_no_weight(recipe, alone, tmp_path):
    run = RunDirectory(tmp_path / "run")
    with cluster_of(2) as nodes:
        process = start(recipe, run, "--workers", 2, "--ray", nodes.address)
        wait_for_a_checkpoint(run, process, 20)
        assert nodes.kill(1) >= 2
        code, out, err = end(process)
    assert code == 0, err
    assert "was cut off; starting all again from the last checkpoint (1 of 3)" in out, out
    assert "export: " in out and "error" not in err
    same_weights(run, alone)
    assert not list(run.root.glob(".nodes-*"))


@pytest.mark.slow
def test_a_stopped_training_goes_on_without_ray(recipe, alone, tmp_path):
    run = RunDirectory(tmp_path / "run")
    process = start(recipe, run, "--workers", 2, "--ray", "local")
    wait_for_a_checkpoint(run, process, 20)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process, timeout=90)
    assert code == 130, err
    assert err.count("kerasrep-train: error: stopped by SIGINT") == 1 and "--resume" in err, err
    code, _, err = end(start(recipe, run, "--workers", 2, "--resume", **ONE_THREAD))
    assert code == 0, err
    same_weights(run, alone)


@pytest.mark.slow
def test_a_worker_with_an_error_of_its_own_ends_the_command_in_one_line(recipe, tmp_path):
    run = RunDirectory(tmp_path / "run")
    tmp_path.joinpath("prepared").write_text("not a folder")
    process = start(recipe, run, "--workers", 2, "--ray", "local", "--quiet", KERASREP_HOME=str(tmp_path))
    code, out, err = end(process)
    assert (code, out, err.count("kerasrep-train: error: ")) == (1, "", 1), out + err
    last = err.splitlines()[-1]  # TensorFlow tells it before, in its own words
    assert last.startswith("kerasrep-train: error: ") and str(tmp_path / "prepared") in last
