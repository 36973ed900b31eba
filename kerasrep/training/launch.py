"""Several workers, here or on other machines, started again from the last checkpoint when one dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kerasrep.errors import RunError, one_line
from kerasrep.runtime.child_process import child
from kerasrep.runtime.stop_requests import StopRequest, stop_requests
from kerasrep.storage.run_directory import RunDirectory

#: Code of a worker's process, which does not outlive the one that started it.
COMMAND = (
    "from kerasrep.runtime.child_process import end_with_parent; end_with_parent(9)\n"
    "import sys; from kerasrep.cli.train import entry; sys.exit(entry())"
)
_TRY_AGAIN = 75  # exit code of `WorkerLost`
_SIGNALLED = 128  # exit codes beyond say which signal it was
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.1


class Process(Protocol):
    """A worker as its launcher sees it."""

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""

    def send_signal(self, number: int, /) -> None:
        """Hand it a signal."""


#: Starts workers with the arguments of `kerasrep-train`, so many, for a run; ends them with the block.
Start = Callable[[Sequence[str], int, RunDirectory], AbstractContextManager[Sequence[Process]]]


@contextlib.contextmanager
def processes_here(
    arguments: Sequence[str], workers: int, run: RunDirectory
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start workers on this machine; all are ended with the block."""
    addresses = _free_addresses(workers)
    with contextlib.ExitStack() as stack:
        processes: list[subprocess.Popen[bytes]] = []
        for rank in range(workers):
            file = stack.enter_context(run.messages(rank).open("ab")) if rank else None
            environment = _environment(addresses, rank)
            started = child(["-c", COMMAND, *arguments], env=environment, stdout=file, stderr=file)
            processes.append(stack.enter_context(started))
            stack.callback(_kill, processes[-1])
        yield processes


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def launch(
    arguments: Sequence[str],
    run: RunDirectory,
    resume: bool,
    workers: int,
    restarts: int,
    say: Callable[[str], None] = print,
    start: Start = processes_here,
) -> int:
    """Train with several processes.

    Args:
        arguments: Of `kerasrep-train`, without run directory, `--resume` and `--workers`.
        run: Where the chief writes.
        resume: Go on with the run there.
        workers: Processes.
        restarts: How often to start again after a process died.
        say: Prints a line for people.
        start: Starts the processes; by default on this machine.

    Returns:
        The exit code: the chief's, who has printed its error.

    Raises:
        RunError: Where processes died more often than that, or another worker than the chief failed.
    """
    for attempt in range(restarts + 1):
        more = ["--run-dir", str(run.root)]
        if resume or (attempt and run.recipe.is_file()):
            more.append("--resume")
        run.root.mkdir(parents=True, exist_ok=True)
        with stop_requests() as request, start([*arguments, *more], workers, run) as processes:
            codes = _wait(processes, request)
        died = _died(codes)
        if died is None or request.number:
            return _exit_code(codes, run)
        how = f"killed by {signal.Signals(-codes[died]).name}" if codes[died] < 0 else "cut off"
        message = f"worker {died} of {workers} was {how}"
        if attempt == restarts:
            again = "see worker-N.txt there, then go on with --resume"
            raise RunError(f"{run.root}: {message} {restarts + 1} times; {again}")
        say(f"{message}; starting all again from the last checkpoint ({attempt + 1} of {restarts})")
    raise AssertionError("the loop returns or raises")


def _died(codes: Sequence[int]) -> int | None:
    """The worker whose death is worth another try; none where one failed with an error of its own."""
    if any(code > 0 and code != _TRY_AGAIN for code in codes):
        return None
    order = sorted(range(len(codes)), key=lambda rank: codes[rank])  # killed before those it left behind
    return next((rank for rank in order if codes[rank]), None)


def _exit_code(codes: Sequence[int], run: RunDirectory) -> int:
    """The first that is an error of its own."""
    rank = next((rank for rank, code in enumerate(codes) if code not in (0, _TRY_AGAIN)), None)
    if rank is None:
        return max(codes)
    if rank and codes[0] in (0, _TRY_AGAIN) and codes[rank] <= _SIGNALLED:
        path = run.messages(rank)
        text = path.read_text(encoding="utf-8", errors="replace").strip() or f"exit code {codes[rank]}"
        failure = RunError(f"worker {rank} failed: {one_line(text.splitlines()[-1])}; its messages: {path}")
        failure.exit_code = codes[rank]
        raise failure
    return codes[rank]


def _wait(processes: Sequence[Process], request: StopRequest) -> list[int]:
    """Run all workers to their end; returns their exit codes, 0 for those that are left to be killed."""
    passed_on, end = False, float("inf")
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        if request.number and not passed_on:
            passed_on = True
            for process in processes:
                process.send_signal(request.number)
        codes = [process.poll() for process in processes]
        if any(code is not None and code < 0 for code in codes):
            break  # the others would notice by missing heartbeats, later
        if any(codes) and end == float("inf"):
            end = time.monotonic() + _GRACE_SECONDS  # to print why
        time.sleep(_POLL_SECONDS)
    return [process.poll() or 0 for process in processes]


def _environment(addresses: Sequence[str], rank: int) -> dict[str, str]:
    config = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": rank}}
    environment = os.environ | {"TF_CONFIG": json.dumps(config)}
    gpus = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    share = len(gpus) // len(addresses)
    if share:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[rank * share : (rank + 1) * share])
    return environment


def _free_addresses(count: int) -> list[str]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return [f"127.0.0.1:{port}" for port in ports]
