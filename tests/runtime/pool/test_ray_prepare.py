"""A corpus decoded on a real Ray cluster, of whose nodes one is killed, lacks a file, or is stopped."""

import hashlib
import os
import signal

import pytest

from kerasrep.api import prepare
from kerasrep.errors import RunError
from kerasrep.recipe.file import write_recipe
from kerasrep.runtime.pool import cluster as connection

ray = pytest.importorskip("ray")
import ray_nodes  # noqa: E402
from ray_nodes import ROOT, cluster_of, end, wait_for  # noqa: E402

#: A track a shard, in this process; the nodes take what they are given.
BEFORE = "import kerasrep.data.shard_writer as w; w.SHARD_BYTES = 300_000\n"
#: Nodes take their time, as with longer tracks.
SLOW = (
    "import time\n"
    "import kerasrep.data.shard_decoding as decoding\n"
    "real = decoding.decode\n"
    "def decode(*rest):\n"
    "    time.sleep(0.4)\n"
    "    return real(*rest)\n"
    "decoding.decode = decode\n"
)


@pytest.fixture(scope="module")
def recipe(tone_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tones.yaml"
    write_recipe(path, tone_recipe())
    return path


@pytest.fixture
def slow_nodes(tmp_path, monkeypatch):
    """For clusters that are started within the test."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'hook'}{os.pathsep}{ROOT}")


def start(recipe, home, *options):
    return ray_nodes.start("prepare", recipe, *options, before=BEFORE, KERASREP_HOME=str(home))


def wait_for_shards(home, count, process):
    wait_for(lambda: len(list(home.glob("shards/*/*.part.json"))) >= count, process)


def digests(home):
    """Of all files but logs."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and path.name != "log.jsonl" and not path.name.endswith(".lock")
    }


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    """All files that one process without Ray makes."""
    home = tmp_path_factory.mktemp("alone")
    code, _, err = end(start(recipe, home))
    assert (code, err) == (0, "")
    found = digests(home)
    assert sum(name.startswith("prepared/") and name.endswith(".tfrecord") for name in found) == 40
    return found


@pytest.mark.slow
def test_a_node_is_killed_and_all_files_are_those_of_one_machine(recipe, alone, tmp_path, slow_nodes):
    home = tmp_path / "home"
    with cluster_of(3) as nodes:
        process = start(recipe, home, "--ray", nodes.address)
        wait_for_shards(home, 12, process)
        assert nodes.kill(1) >= 2
        code, out, err = end(process)
    assert code == 0 and "error" not in err, err
    assert "corpus folder: 32 tracks to train on, 8 for validation" in out
    assert digests(home) == alone


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_goes_on_without_ray(recipe, alone, tmp_path, slow_nodes, number):
    home = tmp_path / "home"
    with cluster_of(2) as nodes:
        process = start(recipe, home, "--ray", nodes.address)
        wait_for_shards(home, 5, process)
        process.send_signal(number)
        code, _, err = end(process, timeout=60)
        assert (code, err.count("\n")) == (128 + number, 1), err
        done = {path: path.stat().st_mtime_ns for path in home.glob("shards/*/*.part.json")}
        assert 5 <= len(done) < 40
    code, _, err = end(start(recipe, home))
    assert (code, err) == (0, "")
    assert digests(home) == alone
    assert {path: path.stat().st_mtime_ns for path in done} == done


@pytest.mark.slow
def test_one_machine_as_a_cluster_gives_the_same_and_mends_what_is_damaged(recipe, alone, tmp_path):
    home = tmp_path / "home"
    assert end(start(recipe, home, "--ray", "local", "--quiet"))[0] == 0
    assert digests(home) == alone
    shard = min(home.glob("prepared/*/*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    code, out, err = end(start(recipe, home, "--check", "--ray", "local"))
    assert code == 0 and "1 decoded again" in out, err
    assert digests(home) == alone
    assert end(start(recipe, home, "--ray", "127.0.0.1:1"))[0] == 0  # nothing is left to ask it for


@pytest.mark.slow
def test_a_node_that_does_not_see_a_track_is_named_and_writes_nothing(recipe, tones, tmp_path, monkeypatch):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(  # stands for another machine's disk
        "import os\n"
        "real = os.path.lexists\n"
        "os.path.lexists = lambda path: not str(path).endswith('t07.wav') and real(path)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{hook}{os.pathsep}{ROOT}")
    home = tmp_path / "home"
    with cluster_of(1) as nodes:
        code, _, err = end(start(recipe, home, "--ray", nodes.address))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("kerasrep-prepare: error: --ray: node ")
    assert f"does not see {tones / 't07.wav'}; all nodes need the same file system" in err
    assert not [p for p in home.glob("shards/*/*.part.json") if "t07" in p.read_text()]


def test_an_address_that_does_not_answer_is_told_before_anything_is_decoded(
    tone_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.3)
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    with pytest.raises(RunError, match=r"^--ray 127\.0\.0\.1:1: no cluster answers there within"):
        prepare(tone_recipe(), progress=False, ray="127.0.0.1:1")
    assert not list(tmp_path.glob("shards/*"))
