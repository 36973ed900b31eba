"""What child processes of `test_decoder_processes.py` are asked for; they import it by this name."""

import os
import time
from pathlib import Path

import numpy as np

from kerasrep.data import notices
from kerasrep.embedding.decoding import Cutting
from kerasrep.errors import DataError


def work(what, *given):
    yield from globals()[what](*given)


def process():
    yield os.getpid()


def arrays():
    """Of all kinds that a decoder may give, one value after the other."""
    rng = np.random.default_rng(0)
    yield rng.normal(size=(7, 2)).astype(np.float32)
    yield {"none": np.zeros((0, 2), np.int16), "some": [np.arange(5, dtype="<i2"), "text", 2.5]}
    yield np.asfortranarray(rng.normal(size=(3, 4)))
    yield np.arange(20)[::3]
    yield rng.integers(0, 255, 3_000_001, np.uint8)  # more than a socket holds
    yield None


def counted(path, n):
    """Writes down how many values were made."""
    for number in range(n):
        Path(path).write_text(str(number + 1), encoding="ascii")
        yield np.full(10, number)


def noted(path, n):
    for number in range(n):
        notices.add(path, f"notice {number}")
        yield number
    notices.add(path, "last")


def wrong(text):
    yield 1
    raise DataError(text)


def killed(number):
    yield 1
    os.kill(os.getpid(), number)
    yield 2


def slow(seconds):
    time.sleep(seconds)
    yield os.getpid()


def echoed(given):
    yield given


def cannot_be_sent():
    yield lambda: 1


class CannotBeReadError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def cannot_be_read():
    yield 1
    raise CannotBeReadError("one", "two")


def long():
    yield 1
    time.sleep(600)


class Crashing(Cutting):
    """Whose decoder crashes over one file, in child processes alone."""

    def parts(self, key, path):
        if path.name.startswith("crash") and os.environ["KERASREP_TEST_PARENT"] != str(os.getpid()):
            os.abort()
        yield from super().parts(key, path)
