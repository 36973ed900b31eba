"""Files decoded side by side and cut into segments, a bounded number of which waits.

Threads decode, or on machines of many cores a process beside each (`decoder_processes`): libsndfile and soxr
let other threads run, but sixteen of them wait for turns at the interpreter (`benchmarks/embed.py`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.audio import decode_blocks
from kerasrep.data.decoder_processes import DecoderDiedError, Decoders
from kerasrep.embedding.files import BadFile, CountedBlocks
from kerasrep.embedding.segments import BATCH_SEGMENTS, segment_batches, segments_of, stretch_of
from kerasrep.errors import DataError
from kerasrep.runtime.threads import core_count

#: More decoders than this outrun any model.
MAX_WORKERS = 32
#: Parts that may wait beside the one that each decoder has in hand, or as many as there are decoders; one is
#: 7 MB at most.
WAITING_PARTS = 4
#: Files that are handed out ahead, so that short ones do not leave decoders idle.
WAITING_FILES = 64
#: The last files, a decoder: of them the largest come first.
LAST_FILES = 2
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of one file.

    Attributes:
        key: Of the file.
        segments: float32 [segments, segment_samples, 2].
    """

    key: int
    segments: NDArray[np.float32]

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes each sample goes once."""
        stretch, hop_samples = stretch_of(self.segments)
        return _restored, (self.key, stretch, *self.segments.shape[:2], hop_samples)


def _restored(
    key: int, stretch: NDArray[np.float32], count: int, segment_samples: int, hop_samples: int
) -> Segments:
    return Segments(key, segments_of(stretch, count, segment_samples, hop_samples))


@dataclass(frozen=True)
class End:
    """A file was decoded to its end.

    Attributes:
        key: Of the file.
        samples: A channel, at the model's rate.
    """

    key: int
    samples: int


@dataclass(frozen=True)
class Failure:
    """A file cannot be used, whatever came of it before.

    Attributes:
        key: Of the file.
        bad: It, and why.
    """

    key: int
    bad: BadFile


Part = Segments | End | Failure


@dataclass(frozen=True)
class Cutting:
    """How files become segments.

    Attributes:
        sample_rate_hz: Of the model.
        segment_samples: Of the model.
        hop_samples: From the beginning of a segment to that of the next one.
        decoder: `soundfile`, or `tensorflow-io`.
    """

    sample_rate_hz: int
    segment_samples: int
    hop_samples: int
    decoder: str = "soundfile"

    def parts(self, key: int, path: Path) -> Iterator[Part]:
        """One file: some `Segments`, then `End`; or `Failure` at any point."""
        try:
            blocks = CountedBlocks(decode_blocks(path, self.sample_rate_hz, self.decoder))
            # Segments that overlap share memory, and each part costs all threads turns at the interpreter.
            hops = max(1, self.segment_samples // self.hop_samples)
            n_segments = 1 + (BATCH_SEGMENTS - 1) * hops
            for segments in segment_batches(blocks, self.segment_samples, n_segments, self.hop_samples):
                yield Segments(key, segments)
        except DataError as error:
            yield Failure(key, BadFile(path, str(error)))
        except OSError as error:
            yield Failure(key, BadFile(path, f"{path}: cannot be read ({error.strerror})"))
        except MemoryError:
            yield Failure(key, BadFile(path, f"{path}: decoding it takes more memory than there is"))
        # One file of a million must not end the work; the table of bad files tells what to report.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            yield Failure(key, BadFile(path, f"{path}: cannot be decoded ({reason}); please report it"))
        else:
            yield End(key, blocks.samples)


def default_workers() -> int:
    """One decoder a processor: where the model works, they wait for each other anyway."""
    return min(MAX_WORKERS, core_count())


def decode_parts(
    files: Iterable[tuple[int, Path]], cutting: Cutting, workers: int | None = None
) -> Generator[Part, None, None]:
    """Decode files side by side; at most `workers` of them are open at once.

    Memory grows neither with the number of files nor with their length. Closing the iterator ends the
    threads.

    Args:
        files: Keys and paths; drawn in the thread of the consumer.
        cutting: How they become segments.
        workers: Threads, or processes; `default_workers()` by default.

    Yields:
        The parts of each file in order; those of several files are mixed.
    """
    workers = workers or default_workers()
    decoders = Decoders(cutting.parts, workers if cutting.decoder == "soundfile" else 1)

    def parts(key: int, path: Path) -> Iterator[Part]:
        try:
            yield from decoders(key, path)
        except DecoderDiedError as error:
            yield Failure(key, BadFile(path, f"{path}: {error}; is it damaged, or memory short?"))

    pool = _Pool(parts, workers)
    try:
        yield from pool.run(iter(files))
    finally:
        pool.stop()
        decoders.close()
        pool.close()


def _size(path: Path) -> int:
    """Bytes of a file; 0 where it cannot be looked at, which decoding says."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


class _Waiting:
    """Files that are handed out in their order; of the last ones the largest first.

    Otherwise one thread may be left with a large one at the end. (The largest first before, small ones would
    be done last of all, and who writes rows in order would wait for them.)
    """

    def __init__(self, n_last: int) -> None:
        self._files: list[tuple[int, tuple[int, Path]]] = []
        self._n_last, self._last, self._closed = n_last, False, False
        self._changed = threading.Condition()

    def put(self, file: tuple[int, Path]) -> None:
        """One more."""
        size = _size(file[1])
        with self._changed:
            self._files.append((size, file))
            self._changed.notify()

    def no_more_come(self) -> None:
        """Those that are here are the last."""
        self._last = True

    def close(self) -> None:
        """Nobody gets a file any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> tuple[int, Path] | None:
        """Wait for a file; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._files or self._closed)
            if self._closed:
                return None
            files, last = self._files, self._last and len(self._files) <= self._n_last
            return files.pop(max(range(len(files)), key=lambda n: files[n][0]) if last else 0)[1]


class _Pool:
    """Threads between files that wait and a bounded queue of parts."""

    def __init__(self, parts: Callable[[int, Path], Iterator[Part]], workers: int) -> None:
        self._parts = parts
        self._files = _Waiting(LAST_FILES * workers)
        self._ready: queue.Queue[Part] = queue.Queue(max(WAITING_PARTS, workers))
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{number}", daemon=True)
            for number in range(workers)
        ]

    def run(self, files: Iterator[tuple[int, Path]]) -> Iterator[Part]:
        for thread in self._threads:
            thread.start()
        open_files, exhausted = 0, False
        while True:
            while not exhausted and open_files < WAITING_FILES:
                file = next(files, None)
                if file is None:
                    exhausted = True
                    self._files.no_more_come()
                else:
                    self._files.put(file)
                    open_files += 1
            if not open_files:
                return
            part = self._ready.get()
            yield part
            open_files -= not isinstance(part, Segments)

    def stop(self) -> None:
        self._stopped.set()
        self._files.close()

    def close(self) -> None:
        self.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        while (file := self._files.take()) is not None:
            for part in self._parts(*file):
                if not self._put(part):
                    return

    def _put(self, part: Part) -> bool:
        """Wait for a place; False where nobody wants the part any more."""
        while not self._stopped.is_set():
            try:
                self._ready.put(part, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
