"""Kill -9 in the middle of a catalogue: the same command goes on, and ends as one clean run does."""

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

from kerasrep.embedding.catalogue.parts import parts_folder, parts_in, read_part

ROOT = Path(__file__).parents[2]

#: The whole catalogue but the network, which takes a second to load and is tested elsewhere.
CHILD = """
import sys, time
from pathlib import Path
import numpy as np
from kerasrep.embedding import named
from kerasrep.embedding.catalogue import job, parts
from kerasrep.embedding.models import SegmentModel

parts.PART_SECONDS = 0.1
folder, output, seconds, hop, model_path = sys.argv[1:]

def embed_segments(segments):
    time.sleep(float(seconds))
    print("batch", flush=True)
    level = np.abs(segments).mean(axis=(1, 2))
    return (level[:, None] * np.arange(1, 257) + segments[:, 7, :1]).astype(np.float32)

model = SegmentModel(embed_segments, 22_050, 55_125, ("shared",))
named.find_model = lambda path: (lambda found: model, path)
settings = job.Settings(hop_seconds=float(hop) or None)
summary = job.embed_catalogue(Path(model_path), [Path(folder)], Path(output), settings)
print("kept", summary.kept, "of", summary.files, flush=True)
"""


def write_folder(folder, n_files, seconds):
    for number in range(n_files):
        path = folder / f"{number % 3}" / f"{number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(number).normal(0, 0.1, (int(seconds * 22_050), 2))
        soundfile.write(path, samples, 22_050)


def start(arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_work_goes_on_to_what_a_clean_run_gives(tmp_path, small_run):
    hop = 1.25
    write_folder(tmp_path / "audio", 40, 6.0)
    model = small_run.run.model

    def child(output, seconds):
        return start(["-c", CHILD, tmp_path / "audio", tmp_path / output, seconds, hop, model])

    clean = child("clean.parquet", 0.0)
    killed = child("x.parquet", 0.1)
    for _ in range(6):
        assert killed.stdout.readline() == "batch\n", killed.stderr.read()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "x.parquet").exists()
    assert parts_in(parts_folder(tmp_path / "x.parquet"))
    resumed = child("x.parquet", 0.0)
    said, _ = resumed.communicate(timeout=60)
    kept, of = map(int, said.splitlines()[-1].split()[1::2])
    assert of == 40 and 0 < kept < 40
    assert clean.wait(timeout=60) == 0
    # No file is done twice: the batches are those of what was left.
    assert said.count("batch") == -(-(40 - kept) * 4 // 16)
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "clean.parquet").read_bytes()
    logs = ["clean.parquet.log.jsonl", "x.parquet.log.jsonl"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(["audio", "clean.parquet", "x.parquet", *logs])


@pytest.mark.parametrize("hop", [0, pytest.param(0.4, marks=pytest.mark.slow)])
def test_kills_at_random_moments_leave_the_same_bytes(tmp_path, small_run, hop):
    """While files are listed, embedded, and while parts and the table are written."""
    write_folder(tmp_path / "audio", 40, 6.0)
    rng, kills, kept = random.Random(7), 0, [0]
    batch_seconds, *most_seconds = (0.2, 0.1, 0.5) if hop == 0 else (0.05, 0.3, 1.5)

    def child(output, seconds):
        return start(["-c", CHILD, tmp_path / "audio", tmp_path / output, seconds, hop, small_run.run.model])

    clean = child("clean.parquet", 0.0)
    assert clean.wait(timeout=60) == 0, clean.stderr.read()
    while True:
        process = child("x.parquet", batch_seconds)
        first = process.stdout.readline()  # a batch, or where all was done, what was kept
        if kills < 5 and first == "batch\n":
            time.sleep(rng.uniform(0, most_seconds[kills >= 3]))  # soon at first: much is left to kill
            process.kill()
        rest, error = process.communicate(timeout=60)
        said = first + rest
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error
        kills += 1
        if (tmp_path / "x.parquet").exists():  # all was done, and parts were being removed
            break
        entries = [read_part(part).entries for part in parts_in(parts_folder(tmp_path / "x.parquet"))]
        kept.append(sum(entry.seconds is not None for of_part in entries for entry in of_part))
        assert kept[-1] >= kept[-2]  # what a part holds is never done again
    assert kills >= 3
    assert process.returncode != 0 or int(said.split()[-3]) >= kept[-1]
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "clean.parquet").read_bytes()


@pytest.mark.slow
def test_the_real_command_killed_again_and_again_ends_as_one_clean_run(tmp_path, small_export):
    write_folder(tmp_path / "audio", 150, 20.0)
    code = "import sys\nimport kerasrep.embedding.catalogue.parts as parts\nparts.PART_SECONDS = 0.5\n"
    code += "from kerasrep.cli.embed import entry\nsys.exit(entry())"

    def command(output):
        return start(
            ["-c", code, tmp_path / "audio", "-o", tmp_path / output, "--model", small_export, "--workers", 2]
        )

    clean = command("clean.parquet")
    assert clean.wait(timeout=300) == 0
    rng, kills = random.Random(0), 0
    for _ in range(20):
        process = command("x.parquet")
        folder = parts_folder(tmp_path / "x.parquet")
        begun = len(parts_in(folder))
        while process.poll() is None and len(parts_in(folder)) <= begun:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    print(f"killed {kills} times")
    assert kills >= 2
    last = command("x.parquet")
    _, err = last.communicate(timeout=300)
    assert (last.returncode, err) == (0, "")
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "clean.parquet").read_bytes()
