"""A catalogue on a real Ray cluster of three nodes, one of which is killed."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kerasrep.embedding.catalogue.parts import parts_folder, parts_in
from kerasrep.embedding.catalogue.reading import read_embeddings

ray = pytest.importorskip("ray")
import ray_nodes  # noqa: E402
from ray_nodes import ROOT, cluster_of, wait_for  # noqa: E402

RATE_HZ = 22_050


@pytest.fixture(scope="module")
def tones_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("catalogue")
    rng = np.random.default_rng(0)
    for number in range(240):
        path = root / "audio" / f"d{number % 7}" / f"{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = np.arange(int(rng.uniform(1, 3) * RATE_HZ)) / RATE_HZ
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(80, 2000) * seconds)
        soundfile.write(path, tone + 0.01 * rng.normal(size=len(tone)), RATE_HZ)
    (root / "audio" / "d3" / "0000a.wav").write_text("no audio")
    return root


def start(folder, output, *options):
    return ray_nodes.start("embed", "audio", "-o", output, *options, cwd=folder)


def end(process, timeout=300):
    """Exit code, and what was printed but for lines of progress, which a busy machine has time for."""
    code, out, err = ray_nodes.end(process, timeout)
    lines = [line for line in err.splitlines(keepends=True) if not re.search(r" of \d+ files \(\d+%\)", line)]
    return code, out, "".join(lines)


def wait_for_parts(output, process, n_parts):
    """Until so many parts are there; with few files each has some 16."""
    wait_for(lambda: len(parts_in(parts_folder(output))) >= n_parts, process)


def same_tables(found_path, expected_path):
    found, expected = read_embeddings(found_path), read_embeddings(expected_path)
    assert found.paths == expected.paths
    np.testing.assert_array_equal(found.seconds, expected.seconds)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-5, atol=1e-5)
    skipped = [path.with_name(f"{path.name}.skipped.csv").read_text() for path in (found_path, expected_path)]
    assert skipped[0] == skipped[1]


@pytest.fixture(scope="module")
def alone(tones_folder, small_export):
    """The table of one process without Ray."""
    output = tones_folder / "alone.parquet"
    code, _, err = end(start(tones_folder, output, "--model", small_export))
    assert (code, err.count("\n")) == (1, 1)  # one file is no audio
    return output


@pytest.mark.slow
def test_a_node_is_killed_and_the_table_is_that_of_one_process(tones_folder, alone, small_export):
    output = tones_folder / "killed.parquet"
    with cluster_of(3) as nodes:
        process = start(tones_folder, output, "--model", small_export, "--ray", nodes.address)
        wait_for_parts(output, process, 6)
        assert nodes.kill(1) >= 2
        code, out, err = end(process)
    assert (code, err.count("\n")) == (1, 1), err
    assert "240 files" in out and "1 skipped" in out
    same_tables(output, alone)
    assert not parts_folder(output).exists()


@pytest.mark.slow
def test_stopped_or_killed_commands_go_on_with_or_without_ray(tones_folder, alone, small_export):
    output = tones_folder / "stopped.parquet"
    with cluster_of(2) as nodes:
        options = ("--model", small_export, "--ray", nodes.address)
        process = start(tones_folder, output, *options)
        wait_for_parts(output, process, 3)
        process.send_signal(signal.SIGINT)
        code, _, err = end(process, timeout=60)
        assert code == 130 and "the same command goes on" in err
        process = start(tones_folder, output, *options)
        wait_for_parts(output, process, 8)
        process.kill()
        process.communicate()
    code, out, _ = end(start(tones_folder, output, "--model", small_export))
    assert code == 1 and "of them done before" in out
    same_tables(output, alone)


@pytest.mark.slow
def test_a_cluster_that_dies_ends_the_command_with_one_line(tones_folder, small_export):
    output = tones_folder / "dead.parquet"
    with cluster_of(2) as nodes:
        process = start(tones_folder, output, "--model", small_export, "--ray", nodes.address)
        wait_for_parts(output, process, 3)
        nodes.kill_head()
        nodes.kill(0)
        nodes.kill(1)
        code, _, err = end(process, timeout=120)
    assert code == 1
    assert err.startswith("kerasrep-embed: error: --ray: ") and err.count("\n") == 1
    assert parts_folder(output).is_dir()


@pytest.mark.slow
def test_a_worker_that_dies_over_one_file_leaves_that_file_out(tones_folder, alone, small_export, tmp_path):
    hook = tmp_path / "sitecustomize.py"  # stands for a file that makes the decoder's library crash
    hook.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "import kerasrep.embedding.decoding as decoding\n"
        "real = decoding.decode_blocks\n"
        "def decode_blocks(path, *rest):\n"
        "    if Path(path).name == '0005.wav': os.kill(os.getpid(), 11)\n"
        "    return real(path, *rest)\n"
        "decoding.decode_blocks = decode_blocks\n"
    )
    output = tones_folder / "poison.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
        with cluster_of(2) as nodes:
            process = start(tones_folder, output, "--model", small_export, "--ray", nodes.address)
            code, _, err = end(process)
    assert code == 1 and "0005.wav: every worker that embedded it died" in err, err
    found, expected = read_embeddings(output), read_embeddings(alone)
    kept = [number for number, path in enumerate(expected.paths) if Path(path).name != "0005.wav"]
    assert len(kept) == 239
    assert list(found.paths) == [expected.paths[number] for number in kept]
    np.testing.assert_allclose(found.embeddings, expected.embeddings[kept], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_what_people_should_know_of_files_is_said_as_without_ray(small_export, tmp_path):
    (tmp_path / "audio").mkdir()
    loud = np.random.default_rng(0).normal(0, 1, (3 * RATE_HZ, 2))
    soundfile.write(tmp_path / "audio" / "loud.wav", loud, RATE_HZ, subtype="FLOAT")
    notes = []
    for options in (["--workers", "2"], ["--ray", "local"]):
        code, _, err = end(start(tmp_path, tmp_path / "x.csv", "--model", small_export, *options))
        assert code == 0, err
        notes.append(err)
    assert notes[0] == notes[1]
    assert "note: audio/loud.wav: " in notes[0] and "are beyond full scale and clipped" in notes[0]
