"""Decoding in processes of their own, where many threads would wait for turns at Python's interpreter.

Each thread that decodes has one child process, which ends with it however it ends. What comes back is
pickled; arrays lie in memory that both processes map (`memfd_create`, which no container limits as it does
`/dev/shm`), and is given back to the system with the last array. A file that crashes a decoder ends its
process, and no more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar

from kerasrep.data import notices
from kerasrep.runtime.child_process import child
from kerasrep.runtime.run_log import event

#: Fewer threads hardly wait for each other.
LEAST_THREADS = 8
#: Of work before children are started: what they save in as long again is about what their start costs.
FIRST_SECONDS = 10.0
#: For a process that no longer answers to end by itself, so that its exit code tells why.
_DYING_SECONDS = 5.0
#: The child imports what this process does, whatever lies in the current folder.
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2])\n"
    "from kerasrep.runtime.child_process import end_with_parent; end_with_parent(9)\n"
    "from kerasrep.data.decoder_processes import serve; serve(int(sys.argv[1]))"
)
#: File descriptors that are wanted for a thread and for all else: each array held has one.
_THREAD_FILES, _OTHER_FILES = 8, 64
#: Of the lengths in a message; the system takes twice as much.
_MESSAGE_BYTES = 100_000
#: Where arrays begin.
_ALIGNMENT_BYTES = 64
_GO_ON = b"\0"

Value = TypeVar("Value")


class DecoderDiedError(Exception):
    """The process that decoded a file was ended; the message says by what."""


class Decoders(Generic[Value]):
    """A generator function that is called in a child process of the calling thread.

    Calls of the first seconds, and those until a child has started, run in the thread: whoever has few files
    waits for nothing. So do all where children would gain nothing, or cannot be.

    Args:
        work: The function; it can be pickled, and its arguments and results can.
        n_threads: That will call.
    """

    def __init__(self, work: Callable[..., Iterator[Value]], n_threads: int) -> None:
        self._work = work
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        enough = files == resource.RLIM_INFINITY or files >= _OTHER_FILES + _THREAD_FILES * n_threads
        self._wanted = n_threads >= LEAST_THREADS and enough and hasattr(os, "memfd_create")
        self._start_seconds = time.monotonic() + FIRST_SECONDS
        self._thread, self._lock = threading.local(), threading.Lock()
        self._children: list[_Child] = []

    def close(self) -> None:
        """End the children, also in the midst of calls, which then raise `DecoderDiedError`."""
        with self._lock:
            self._wanted = False
            for one in self._children:
                one.end()

    def __call__(self, *given: Any) -> Iterator[Value]:
        """What the function yields; one value more than was taken is made at most.

        A thread ends one call before it begins the next.

        Raises:
            DecoderDiedError: Where the child was ended meanwhile; the next call has another one.
        """
        one = self._child()
        return self._work(*given) if one is None else one.call(given)

    def _child(self) -> _Child | None:
        """That of this thread, once it has started."""
        mine = self._thread
        if not self._wanted or time.monotonic() < self._start_seconds:
            return None
        if getattr(mine, "child", None) is None or mine.child.ended:
            mine.child = self._started()
        try:
            return mine.child if mine.child is not None and mine.child.is_ready() else None
        except DecoderDiedError as error:
            self._give_up(str(error))
        return None

    def _started(self) -> _Child | None:
        with self._lock:
            if not self._wanted:
                return None
            try:
                self._children = [one for one in self._children if not one.ended]
                self._children.append(_Child(self._work))
            except Exception as error:  # such as TypeError, where a program has no interpreter of its own
                self._give_up(str(error))
                return None
            return self._children[-1]

    def _give_up(self, reason: str) -> None:
        self._wanted = False
        event("no_decoder_processes", logging.WARNING, reason=reason)


class _Child:
    """One process, as the thread that calls sees it."""

    def __init__(self, work: Callable[..., Iterator[Any]]) -> None:
        self._work, self._ready, self.ended = work, False, False
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack = contextlib.ExitStack()
        with other:
            try:
                for end in (self._socket, other):
                    end.setblocking(True)  # programs may have set another default
                path = json.dumps([str(Path(folder).absolute()) for folder in sys.path])
                arguments, nothing = ["-P", "-c", _COMMAND, str(other.fileno()), path], subprocess.DEVNULL
                started = child(arguments, pass_fds=[other.fileno()], stdout=nothing, stderr=nothing)
                self._process = self._stack.enter_context(started)
                _send(self._socket, work)
            except BaseException:
                self._socket.close()
                self._stack.close()
                raise

    def is_ready(self) -> bool:
        """Whether calls are answered; does not wait."""
        if not self._ready:
            try:
                self._ready = _receive(self._socket, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except (EOFError, OSError) as error:
                raise self._death() from error
        return True

    def call(self, given: tuple[Any, ...]) -> Iterator[Any]:
        finished = False
        try:
            try:
                self._ask(lambda: _send(self._socket, given))
                answer = self._ask(lambda: _receive(self._socket))
            except DecoderDiedError as death:
                if not isinstance(death.__cause__, ConnectionError):
                    raise
                yield from self._work(*given)  # it had ended before it read what was asked
                return
            while True:
                values, error, of_files = answer
                for notice in of_files:
                    notices.add(*notice)
                if not values:
                    finished = True
                    if error is not None:
                        raise error
                    return
                yield values[0]
                del values, answer  # its memory goes when nobody wants it any more
                self._ask(lambda: self._socket.send(_GO_ON))
                answer = self._ask(lambda: _receive(self._socket))
        finally:
            if not finished:
                self.end()

    def _ask(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except (EOFError, OSError) as error:
            raise self._death() from error
        except Exception as error:
            self.end()
            raise DecoderDiedError(f"what came of it cannot be sent ({error})") from error

    def end(self) -> None:
        """Whatever it is at, it is over."""
        self.ended = True
        self._process.kill()  # a process that was forked from this one may hold what it waits for
        self._socket.close()
        self._stack.close()
        self._process.wait()  # then a thread that waits for it wakes up

    def _death(self) -> DecoderDiedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DYING_SECONDS)
        self.end()
        code = self._process.returncode
        known = {-number.value: number.name for number in signal.Signals}
        how = known.get(code, f"signal {-code}" if code < 0 else f"exit code {code}")
        return DecoderDiedError(f"the process that decoded it was ended ({how})")


def serve(number: int) -> None:
    """What a child does: answer calls, one after the other.

    Args:
        number: Of the file descriptor of the socket to the parent.
    """
    with socket.socket(fileno=number) as parent:
        work = _receive(parent)
        _send(parent, True)  # which shows that arrays can be sent as well
        with contextlib.suppress(EOFError):
            while True:
                _answer(parent, work, _receive(parent))


def _answer(parent: socket.socket, work: Callable[..., Iterator[Any]], given: tuple[Any, ...]) -> None:
    """Send what the function yields, each value once the one before was taken; then the end, or an error."""
    values, error = work(*given), None
    taken: Callable[[], object] = lambda: None  # noqa: E731 (of the first value there is nothing to wait for)
    while True:
        try:
            value = next(values)
        except StopIteration:
            break
        except Exception as raised:
            error = raised
            break
        taken()
        _send(parent, ((value,), None, notices.hand_over()))
        taken = partial(_wait, parent)
    taken()
    _send(parent, ((), error, notices.hand_over()))


def _wait(parent: socket.socket) -> None:
    if not parent.recv(len(_GO_ON)):
        raise SystemExit


def _send(to: socket.socket, message: object) -> None:
    """Pickled, with its arrays beside it in memory of its own, whose file goes along."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    pieces = [memoryview(text), *(buffer.raw() for buffer in buffers)]
    lengths = [len(piece) for piece in pieces]
    with os.fdopen(os.memfd_create("kerasrep"), "wb") as memory:
        for piece, start in zip(pieces, _starts(lengths), strict=False):
            memory.seek(start)
            memory.write(piece)
        memory.flush()
        socket.send_fds(to, [array("Q", lengths).tobytes()], [memory.fileno()])


def _receive(sender: socket.socket, flags: int = 0) -> Any:
    """What `_send` sent; its arrays are views of memory that goes with them.

    No other process than this one and its child, or its parent, has the two ends.

    Raises:
        EOFError: Where the other process has ended, or the message is cut.
    """
    # socket.recv_fds would let other processes that this one starts inherit the file.
    flags |= socket.MSG_CMSG_CLOEXEC
    message, extra, said, _ = sender.recvmsg(_MESSAGE_BYTES, socket.CMSG_LEN(array("i").itemsize), flags)
    files = array("i", b"".join(data for _, _, data in extra))
    if not files or said & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise EOFError
    try:
        memory = memoryview(mmap.mmap(files[0], 0))
    finally:
        os.close(files[0])
    lengths = array("Q", message)
    pieces = [memory[start : start + n] for n, start in zip(lengths, _starts(lengths), strict=False)]
    return pickle.loads(pieces[0], buffers=pieces[1:])


def _starts(lengths: Iterable[int]) -> Iterator[int]:
    """Where pieces of such lengths begin."""
    return accumulate((-(-n // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for n in lengths), initial=0)
