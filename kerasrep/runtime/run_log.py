"""The log of a run: one JSON object a line, for machines and for the question what happened last night.

Every line has `time` (UTC), `level`, `event` and `pid`; the rest depends on the event. Jobs may lie inside
each other, as the preparation inside a training: an event goes to the logs of all jobs that are under way. A
log that cannot be written loses lines; the run goes on.

Programs that use kerasrep find the same events under `logging.getLogger("kerasrep")`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kerasrep
from kerasrep.errors import KerasrepError, machine_message, one_line

#: Longer text is cut, so that no message of a library fills the disk.
MAX_TEXT_CHARACTERS = 4_000
#: Lines kept in memory while a log has no file yet.
MAX_KEPT_LINES = 10_000

LOGGER = logging.getLogger("kerasrep")
LOGGER.addHandler(logging.NullHandler())
_open: list[RunLog] = []
_lock = threading.Lock()


class RunLog(logging.Handler):
    """Appends events to a file, each in one call; keeps them in memory while no file is named."""

    def __init__(self, job: str, path: Path | None = None) -> None:
        """Nothing is written yet; without a path, its folder is not made yet."""
        super().__init__(logging.DEBUG)
        self.job, self.path = job, path
        self._kept: list[str] = []
        self._file: int | None = None
        self._torn = False
        self._writing = threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event, or lose it."""
        with contextlib.suppress(Exception):  # a log must not end what it tells of
            line = _json_line(record)
            with self._writing:
                if self.path is not None:
                    self._write(line)
                elif len(self._kept) < MAX_KEPT_LINES:
                    self._kept.append(line)

    def move_to(self, path: Path) -> None:
        """Name the file of a log that had none; what was kept goes there."""
        with self._writing:
            self.path = path
            with contextlib.suppress(OSError):
                for line in self._kept:
                    self._write(line)
            self._kept.clear()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                os.close(self._file)
        self._file = None
        super().close()

    def _write(self, line: str) -> None:
        if self._file is None:
            assert self.path is not None
            self._torn = _ends_torn(self.path)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        start = "\n" if self._torn else ""
        content = f"{start}{line}\n".encode("utf-8", "backslashreplace")
        self._torn = True  # should the next call raise
        self._torn = os.write(self._file, content) < len(content)  # the disk may be full


def event(name: str, level: int = logging.INFO, /, **fields: Any) -> None:
    """Log what happened, in every job under way.

    Args:
        name: A word or two with underscores, such as `epoch`.
        level: Of `logging`.
        fields: Numbers, text, lists and the like.
    """
    record = LOGGER.makeRecord(LOGGER.name, level, "", 0, name, (), None)
    record.event, record.fields = name, fields
    to_logs(record)
    if LOGGER.isEnabledFor(level):
        record.msg = " ".join([name, *(f"{key}={value}" for key, value in fields.items())])
        LOGGER.handle(record)


def to_logs(record: logging.LogRecord) -> None:
    """Give a record to the logs of the jobs under way, and to nothing else."""
    for log in tuple(_open):
        log.handle(record)


@contextlib.contextmanager
def run_log(job: str, path: Path | None = None, **fields: Any) -> Iterator[RunLog]:
    """Log a job: its beginning, what happens, and how it ended.

    Where the same job is under way with a log that has no file yet, that log moves to `path`, and its own
    block tells the end.

    Args:
        job: What is done, such as `train`.
        path: The file, appended to; `None` where it will be named later.
        fields: Said at the beginning.
    """
    with _lock:
        outer = next((log for log in _open if log.job == job and log.path is None), None)
    if outer is not None and path is not None:
        outer.move_to(path)
        event("folder", job=job, folder=path.parent, **fields)
        yield outer
        return
    log = RunLog(job, path)
    with _lock:
        _open.append(log)
    try:
        with _told(job, fields):
            yield log
    finally:
        with _lock:
            _open.remove(log)
        log.close()


@contextlib.contextmanager
def _told(job: str, fields: dict[str, Any]) -> Iterator[None]:
    started = time.monotonic()
    about: dict[str, Any] = {
        "command": sys.argv,
        "folder_now": _current_folder(),
        "kerasrep": kerasrep.__version__,
        "python": platform.python_version(),
        "host": platform.node(),
    }
    event("started", job=job, **about | fields)
    ended, level = "done", logging.INFO
    try:
        yield
    except BaseException as error:
        ended = how_it_ended(error)
        level = logging.ERROR if ended.startswith("failed") else logging.WARNING
        raise
    finally:
        seconds = round(time.monotonic() - started, 3)
        event("ended", level, job=job, ended=ended, seconds=seconds, peak_memory_mib=peak_memory_mib())


def how_it_ended(error: BaseException) -> str:
    """`stopped by SIGTERM`, or `failed: ` and the line that says why."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {signal.Signals(getattr(error, 'number', signal.SIGINT)).name}"
    if isinstance(error, KerasrepError) and error.exit_code > 128:
        return f"stopped by {signal.Signals(error.exit_code - 128).name}"
    return f"failed: {reason_of(error)}"


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong."""
    if isinstance(error, KerasrepError):
        return one_line(str(error))
    known = machine_message(error) if isinstance(error, Exception) else None
    return one_line(known or f"{type(error).__name__}: {error}")


def peak_memory_mib() -> float:
    """The most memory that this process has held so far, in MiB."""
    # Linux hands ru_maxrss on from the process that started this one; VmHWM is this one's own.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    in_a_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / in_a_mib, 1)


def _json_line(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    line = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": getattr(record, "event", "message"),
        "pid": record.process,
    }
    fields = getattr(record, "fields", None)
    if fields is None:
        fields = {"logger": record.name, "message": record.getMessage()}
    return json.dumps(line | {str(k): _plain(v) for k, v in fields.items()}, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """What JSON has a form for; NaN and infinity become text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    text = str(value)
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[:MAX_TEXT_CHARACTERS] + " ..."


def _ends_torn(path: Path) -> bool:
    """Whether the last line lacks its end, as after a power cut."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # there is none, or it is empty
        return False


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return "?"
