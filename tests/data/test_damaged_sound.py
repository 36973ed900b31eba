"""Files of all formats, mutated from a seed: each gives the right length or a reason, in bounded time."""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sound_files import CASES_FOR_DAMAGE

from kerasrep.data.audio import decode_blocks, read_header
from kerasrep.errors import DataError

MOST_SECONDS = 5.0
MOST_BYTES = 3 << 30
#: They are frames and nothing else: what is cut off or out leaves no trace.
STREAMS = ("aac", "ac3")


def mutated(content, rng):
    """What was done, and the bytes."""
    data, place = bytearray(content), rng.randrange(len(content))
    what = rng.choice(["flip", "flips", "cut", "hole", "zeros", "insertion", "head", "beginning"])
    if what in {"flip", "flips"}:
        for _ in range(1 if what == "flip" else 3):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del data[place:]
    elif what == "hole":
        del data[place : place + rng.randrange(1, 20_000)]
    elif what == "zeros":
        size = min(len(data) - place, rng.randrange(1, 20_000))
        data[place : place + size] = bytes(size)
    elif what == "insertion":
        data[place:place] = rng.randbytes(rng.randrange(1, 5_000))
    elif what == "head":
        data[rng.randrange(min(200, len(data)))] = rng.randrange(256)
    else:
        del data[: rng.randrange(1, 200)]
    return what, bytes(data)


def sweep(folder, count, seed):
    rng = random.Random(seed)
    wrong, became = [], Counter()
    for number in range(count):
        case = rng.choice(CASES_FOR_DAMAGE)
        suffix = case.name.rpartition(".")[2]
        what, content = mutated(case.make(), rng)
        path = folder / f"{number}.{suffix}"
        path.write_bytes(content)
        begun = time.monotonic()
        try:
            n_samples = sum(len(block) for block in decode_blocks(path, 22_050))
        except DataError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            became["refused"] += 1
        else:
            became["read"] += 1
            seconds, right = n_samples / 22_050, case.frames / case.rate_hz
            rate_changed = what in {"head", "flip", "flips"} and (
                abs(n_samples / 22_050 * read_header(path).sample_rate_hz / case.rate_hz - right) < 0.2
            )
            no_trace = suffix in STREAMS and what in {"cut", "hole", "beginning", "insertion"}
            if abs(seconds - right) > 0.04 * right + 0.05 and not rate_changed and not no_trace:
                wrong.append(f"{path.name} {what}: {seconds:.2f} of {right:.2f} s")
        assert time.monotonic() - begun < MOST_SECONDS, path.name
        path.unlink()
    assert wrong == []
    return became


@pytest.fixture
def _little_memory():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    lines = Path("/proc/self/status").read_text().splitlines()
    used = int(next(line for line in lines if line.startswith("VmData")).split()[1]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.usefixtures("_little_memory")
def test_a_hundred_mutated_files_give_the_right_length_or_a_reason(tmp_path):
    became = sweep(tmp_path, 100, seed=0)
    assert min(became["read"], became["refused"]) > 20


@pytest.mark.slow
@pytest.mark.usefixtures("_little_memory")
def test_a_thousand_mutated_files_give_the_right_length_or_a_reason(tmp_path):
    became = sweep(tmp_path, 1_000, seed=1)
    assert min(became["read"], became["refused"]) > 200


def test_a_header_of_fifty_thousand_channels_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((2_205, 2), np.int16), 22_050, format="RF64")
    content = bytearray(path.read_bytes())
    channels = content.index(b"fmt ") + 10
    content[channels : channels + 2] = (51_970).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(decode_blocks(path, 22_050))
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
