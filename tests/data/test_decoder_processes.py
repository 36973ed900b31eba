"""Decoding in child processes: what comes back, in what order, and how the children end."""

import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from decoder_work import Crashing, work

import kerasrep
from kerasrep.data import decoder_processes, notices
from kerasrep.data.decoder_processes import LEAST_THREADS, DecoderDiedError, Decoders
from kerasrep.embedding.decoding import Cutting, End, Failure, Segments, decode_parts
from kerasrep.errors import DataError
from kerasrep.runtime.run_log import run_log

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="threads alone decode here")
HERE = str(Path(__file__).parent)
RATE_HZ = 22_050


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Children start at once."""
    monkeypatch.setattr(decoder_processes, "FIRST_SECONDS", 0.0)


@pytest.fixture
def decoders():
    with closing(Decoders(work, LEAST_THREADS)) as made:
        yield made


def answering(decoders):
    """The process that answers this thread."""
    (number,) = decoders("process")
    return number


def ready(decoders):
    """The child that answers this thread, once it does."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if (number := answering(decoders)) != os.getpid():
            return number
        time.sleep(0.01)
    raise AssertionError("no child answers")


def is_there(number):
    """Whether a process runs; one that has ended and is not asked for its exit code does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def soon(holds):
    until = time.monotonic() + 30
    while time.monotonic() < until and not holds():
        time.sleep(0.01)
    return holds()


def test_until_its_child_has_started_the_thread_answers_and_then_the_child_does(decoders):
    assert answering(decoders) == os.getpid()
    child = ready(decoders)
    assert [answering(decoders) for _ in range(3)] == [child] * 3


def test_children_start_after_the_first_seconds(monkeypatch):
    monkeypatch.setattr(decoder_processes, "FIRST_SECONDS", 2.0)
    begun = time.monotonic()
    with closing(Decoders(work, LEAST_THREADS)) as decoders:
        while time.monotonic() < begun + 1.5:
            assert answering(decoders) == os.getpid()
            assert not decoders._children
            time.sleep(0.02)
        ready(decoders)
    assert time.monotonic() > begun + 2.0


def test_fewer_threads_have_no_children():
    with closing(Decoders(work, LEAST_THREADS - 1)) as decoders:
        assert {answering(decoders) for _ in range(20)} == {os.getpid()}
        assert not decoders._children


def test_each_thread_has_a_child_of_its_own(decoders):
    found = []
    threads = [threading.Thread(target=lambda: found.append(ready(decoders))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 2


def test_what_comes_back_is_what_the_function_gives_also_when_the_child_is_gone(decoders):
    ready(decoders)
    found, expected = list(decoders("arrays")), list(work("arrays"))
    decoders.close()

    def same(one, other):
        assert type(one) is type(other)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        elif isinstance(one, dict):
            assert one.keys() == other.keys()
            for key, value in one.items():
                same(value, other[key])
        elif isinstance(one, list):
            assert len(one) == len(other)
            for mine, theirs in zip(one, other, strict=True):
                same(mine, theirs)
        else:
            assert one == other

    same(found, expected)


def test_one_value_more_than_was_taken_is_made_at_most(decoders, tmp_path):
    ready(decoders)
    path = tmp_path / "made"
    values = decoders("counted", path, 10)
    for taken in range(1, 11):
        assert next(values)[0] == taken - 1
        time.sleep(0.05)
        assert int(path.read_text(encoding="ascii")) <= taken + 1
    assert list(values) == []


def test_notices_of_files_reach_this_process(decoders):
    ready(decoders)
    notices.take()
    values = decoders("noted", "a.flac", 2)
    assert next(values) == 0
    assert ("a.flac", "notice 0") in notices.hand_over()  # whatever becomes of the rest
    assert list(values) == [1]
    assert notices.hand_over()[-1] == ("a.flac", "last")


def test_what_the_function_raises_is_raised_here_and_the_child_goes_on(decoders):
    child = ready(decoders)
    values = decoders("wrong", "a.flac: is odd")
    assert next(values) == 1
    with pytest.raises(DataError, match=r"^a\.flac: is odd$"):
        next(values)
    with pytest.raises(KeyError, match="nothing of that name"):
        list(decoders("nothing of that name"))
    assert answering(decoders) == child


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_child_that_crashes_is_named_with_its_signal_and_another_one_takes_its_place(decoders, number):
    child = ready(decoders)
    values = decoders("killed", number)
    assert next(values) == 1
    with pytest.raises(DecoderDiedError, match=number.name):
        next(values)
    assert ready(decoders) != child
    assert not is_there(child)


def test_a_signal_without_a_name_is_numbered(decoders):
    ready(decoders)
    with pytest.raises(DecoderDiedError, match=r"signal 40\b"):
        list(decoders("killed", 40))


def test_a_value_that_cannot_be_sent_ends_the_child_and_says_so(decoders):
    ready(decoders)
    with pytest.raises(DecoderDiedError, match="exit code 1"):
        list(decoders("cannot_be_sent"))


def test_an_exception_that_cannot_be_read_ends_the_child_and_says_so(decoders):
    child = ready(decoders)
    with pytest.raises(DecoderDiedError, match=r"cannot be sent .*second"):
        list(decoders("cannot_be_read"))
    assert ready(decoders) != child


def test_arguments_may_be_longer_than_a_message(decoders):
    ready(decoders)
    assert list(decoders("echoed", "x" * 1_000_000)) == ["x" * 1_000_000]


def test_a_child_that_is_killed_between_two_calls_is_replaced_and_costs_no_call(decoders):
    child = ready(decoders)
    os.kill(child, signal.SIGKILL)
    assert soon(lambda: not is_there(child))
    assert answering(decoders) == os.getpid()
    assert ready(decoders) != child


def test_children_bear_a_default_timeout_of_sockets():
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.1)
    try:
        with closing(Decoders(work, LEAST_THREADS)) as decoders:
            child = ready(decoders)
            assert list(decoders("slow", 0.5)) == [child]
    finally:
        socket.setdefaulttimeout(before)


def test_files_that_come_are_not_inherited_by_other_processes(decoders, monkeypatch):
    ready(decoders)
    inherited, real = [], mmap.mmap

    def mapped(number, *arguments):
        inherited.append(os.get_inheritable(number))
        return real(number, *arguments)

    monkeypatch.setattr(decoder_processes.mmap, "mmap", mapped)
    list(decoders("arrays"))
    assert set(inherited) == {False}


def test_where_few_files_may_be_open_threads_decode():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        decoders = Decoders(work, LEAST_THREADS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert {answering(decoders) for _ in range(5)} == {os.getpid()}
    assert not decoders._children


def test_a_call_that_is_left_in_its_midst_ends_its_child(decoders, tmp_path):
    child = ready(decoders)
    values = decoders("counted", tmp_path / "made", 10)
    next(values)
    values.close()
    assert not is_there(child)
    assert ready(decoders) != child


def test_closing_ends_children_and_wakes_who_waits_for_them(decoders):
    children, raised = [], []

    def wait():
        children.append(ready(decoders))
        values = decoders("long")
        next(values)
        children.append(None)
        try:
            next(values)
        except DecoderDiedError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert soon(lambda: len(children) == 2)
    decoders.close()
    thread.join(30)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert not is_there(children[0])
    assert answering(decoders) == os.getpid()  # whoever comes after that is answered all the same


@pytest.mark.parametrize("interpreter", ["/bin/false", "/no/such/file", None])
def test_where_no_child_can_start_the_thread_decodes_and_the_log_says_so(
    decoders, interpreter, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "executable", interpreter)
    log = tmp_path / "log.jsonl"
    with run_log("embed", log):
        assert soon(lambda: answering(decoders) == os.getpid() and not decoders._wanted)
        assert {answering(decoders) for _ in range(5)} == {os.getpid()}
    said = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in said].count("no_decoder_processes") == 1


#: A program whose child answers.
PROGRAM = f"""
import os, sys, time
sys.path.insert(0, {HERE!r})
from decoder_work import work
from kerasrep.data import decoder_processes
decoder_processes.FIRST_SECONDS = 0
decoders = decoder_processes.Decoders(work, 8)
until = time.monotonic() + 60
while (child := list(decoders("process"))) == [os.getpid()] and time.monotonic() < until:
    time.sleep(0.01)
print(*child, flush=True)
"""


def test_children_end_when_this_process_is_killed():
    script = PROGRAM + "list(decoders('long'))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        assert is_there(child)
        process.kill()
    assert soon(lambda: not is_there(child))


def test_closing_does_not_wait_for_processes_that_were_forked_meanwhile():
    script = PROGRAM + (
        "forked = os.fork()\nif not forked:\n    time.sleep(600)\n"
        "begun = time.monotonic()\ndecoders.close()\nprint(time.monotonic() - begun)\nos.kill(forked, 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    child, seconds = done.stdout.split()
    assert not is_there(int(child))
    assert float(seconds) < 10


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM + "print(os.getpid())", encoding="utf-8")
    here = tmp_path / "music"
    (here / "kerasrep").mkdir(parents=True)
    for name in ("kerasrep/__init__.py", "json.py", "queue.py", "numpy.py"):
        (here / name).write_text("open('executed', 'w').close()\nraise SystemExit", encoding="utf-8")
    command = [sys.executable, str(tmp_path / "program.py")]
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(Path(kerasrep.__file__).parents[1])
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    child, program = done.stdout.split()
    assert child != program
    assert not (here / "executed").exists()


@pytest.fixture
def calls(monkeypatch):
    """How often children were asked."""
    asked, call = [], decoder_processes._Child.call

    def counted(child, given):
        asked.append(given)
        return call(child, given)

    monkeypatch.setattr(decoder_processes._Child, "call", counted)
    return asked


def write(folder, suffix, seconds, rate_hz, channels, seed):
    path = folder / f"{seed}.{suffix}"
    noise = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate_hz), channels))
    soundfile.write(path, noise, rate_hz)
    return path


def until(holds, paths):
    """Keys and files, again and again, until enough of them came."""
    key, end = 0, time.monotonic() + 60
    while not holds() and time.monotonic() < end:
        yield key, paths[key % len(paths)]
        key += 1
    assert holds()


def pieces(parts):
    """File key -> its segments, and how it ended."""
    segments, ends = {}, {}
    for part in parts:
        if isinstance(part, Segments):
            segments.setdefault(part.key, []).append(np.array(part.segments))
        else:
            ends[part.key] = part
    return {key: np.concatenate(found) for key, found in segments.items()}, ends


@pytest.mark.parametrize("hop_samples", [RATE_HZ, 5_000, 30_000])
def test_segments_are_the_same_bit_for_bit(tmp_path, calls, hop_samples):
    kinds = [
        ("flac", 21.3, 44_100, 2),
        ("wav", 9.1, RATE_HZ, 1),
        ("ogg", 7.7, 48_000, 2),
        ("mp3", 3, 44_100, 1),
    ]
    paths = [write(tmp_path, *kind, seed) for seed, kind in enumerate(kinds)]
    cutting = Cutting(RATE_HZ, RATE_HZ, hop_samples)
    expected, _ = pieces(decode_parts(enumerate(paths), cutting, workers=1))
    assert not calls
    found, ends = pieces(decode_parts(until(lambda: len(calls) > 12, paths), cutting, workers=LEAST_THREADS))
    assert len(found) == len(ends) > 12
    for key, segments in found.items():
        np.testing.assert_array_equal(segments, expected[key % len(paths)])
        assert isinstance(ends[key], End)


def test_a_file_that_crashes_the_decoder_is_skipped_and_named_and_the_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_TEST_PARENT", str(os.getpid()))
    whole = [write(tmp_path, "wav", 3, RATE_HZ, 2, seed) for seed in range(3)]
    crash = whole[0].rename(tmp_path / "crash.wav")
    paths, failed = [crash, *whole[1:]], []
    cutting = Crashing(RATE_HZ, RATE_HZ, RATE_HZ)

    def watched():
        for part in decode_parts(until(lambda: len(failed) > 2, paths), cutting, LEAST_THREADS):
            if isinstance(part, Failure):
                failed.append(part)
            yield part

    _, ends = pieces(watched())
    assert all(isinstance(end, End) for key, end in ends.items() if key % len(paths))
    for failure in failed:
        assert failure.bad.path == crash
        assert str(crash) in failure.bad.reason
        assert "SIGABRT" in failure.bad.reason
