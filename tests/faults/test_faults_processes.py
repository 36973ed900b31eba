"""Kill -9 of processes that work for another one: renderers of the demo corpus, nodes of a Ray cluster."""

import importlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fault_tools import ROOT, start

from kerasrep.embedding.catalogue.parts import parts_folder
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.storage.export_directory import default_model

pytestmark = pytest.mark.slow

#: More in a row end the building of a corpus.
KILLS_A_BUILD = 3


def renderers(process):
    """Process ids of those that render for a command."""
    listed = Path(f"/proc/{process.pid}/task").glob("*/children")
    found = []
    for path in listed:
        try:
            pids = path.read_text().split()
            commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
        except OSError:  # they end while we look
            continue
        found += [int(pid) for pid, command in commands.items() if b"LokyProcess" in command]
    return found


def test_renderers_killed_at_random_moments_leave_the_same_corpus(tmp_path, kills, tally):
    (tmp_path / "recipe.yaml").write_text(
        "name: x\nstrategy: ss-r\nsources: [year]\ntargets: {size: 4}\nbatches: {size: 4}\n"
        "corpus: {name: demo, tracks: 40, track_seconds: 5}\n"
    )
    log, rng, done, number, seconds = tmp_path / "log", random.Random(8), 0, 0, []

    def begin(name):
        arguments = [tmp_path / "recipe.yaml", "--quiet"]
        return start("prepare", arguments, log, KERASREP_HOME=tmp_path / name)

    def contents(name):
        (corpus,) = (tmp_path / name / "corpora").iterdir()
        return {
            str(path.relative_to(corpus)): path.read_bytes() for path in corpus.rglob("*") if path.is_file()
        }

    assert begin("whole").wait(timeout=900) == 0, log.read_text()
    expected = contents("whole")
    while done < kills:
        process, killed, name = begin(f"home{number}"), 0, f"home{number}"
        number += 1
        while process.poll() is None and killed < KILLS_A_BUILD and done + killed < kills:
            if not (found := renderers(process)):
                time.sleep(0.01)
                continue
            time.sleep(rng.uniform(0.0, 4.0))
            found = renderers(process)
            if found:
                os.kill(rng.choice(found), signal.SIGKILL)
                killed, began_seconds = killed + 1, time.perf_counter()
                while process.poll() is None and set(found) & set(renderers(process)):
                    time.sleep(0.01)
        assert process.wait(timeout=900) == 0, log.read_text()
        if killed:
            seconds.append(time.perf_counter() - began_seconds)
        done += killed
        assert contents(name) == expected
    tally("kill -9 of a renderer of kerasrep-prepare", done, done, seconds)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Short tones, and their table by one process without Ray."""
    root, rng = tmp_path_factory.mktemp("catalogue"), np.random.default_rng(0)
    (root / "audio").mkdir()
    for number in range(300):
        samples = rng.normal(0, 0.1, (int(22_050 * rng.uniform(1, 3)), 1))
        soundfile.write(root / "audio" / f"{number:03d}.wav", samples, 22_050)
    process = embed(root, "alone.parquet")
    assert process.wait(timeout=900) == 0
    return root


def embed(root, output, *options):
    code = "import sys; from kerasrep.cli.embed import entry; sys.exit(entry())"
    arguments = ["audio", "-o", output, "--model", str(default_model()), "--quiet", *options]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )


def test_nodes_of_ray_killed_at_random_moments_leave_the_same_table(catalogue, kills, tally, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "cluster"))
    cluster_of = importlib.import_module("ray_nodes").cluster_of
    expected, rng, seconds = read_embeddings(catalogue / "alone.parquet"), random.Random(9), []
    done, number = 0, 0
    with cluster_of(2) as nodes:
        while done < kills:
            output, number = f"{number}.parquet", number + 1
            process = embed(catalogue, output, "--ray", nodes.address)
            while process.poll() is None and not parts_folder(catalogue / output).exists():
                time.sleep(0.01)
            victim, killed = rng.randrange(len(nodes.nodes)), False
            try:
                process.wait(rng.uniform(0.0, 10.0))
            except subprocess.TimeoutExpired:
                nodes.kill(victim)
                began_seconds, killed = time.perf_counter(), True
            assert process.wait(timeout=300) == 0
            found = read_embeddings(catalogue / output)
            assert found.paths == expected.paths
            np.testing.assert_array_equal(found.seconds, expected.seconds)
            np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-5, atol=1e-5)
            if killed:
                done += 1
                seconds.append(time.perf_counter() - began_seconds)
                nodes.replace(victim)
    tally("kill -9 of a node of kerasrep-embed --ray", done, done, seconds)
