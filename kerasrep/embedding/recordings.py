"""Representations that take a recording block by block: what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasrep import constants
from kerasrep.data import notices
from kerasrep.data.audio import decode_blocks
from kerasrep.data.decoders.downmix import in_phase
from kerasrep.embedding.embedder import waveform_blocks
from kerasrep.embedding.files import BadFile, CountedBlocks, FileEmbedding
from kerasrep.errors import DataError
from kerasrep.runtime.threads import core_count, in_order

#: More threads than this wait for each other's memory.
MAX_WORKERS = 16


class RecordingRepresentation(ABC):
    """A representation made of a function from blocks of one recording to its vector.

    Attributes:
        name: In tables.
        workers: Files embedded side by side at most, and no more than there are cores.
        segment_seconds: Length of what is embedded at once where vectors over time are wanted.
    """

    name: str
    segment_seconds: float = constants.SEGMENT_SECONDS
    workers: int = MAX_WORKERS

    @property
    @abstractmethod
    def sample_rate_hz(self) -> int:
        """Rate that recordings are converted to."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Dimensions of an embedding."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with anything that changes the embedding of the same audio."""

    @abstractmethod
    def embed_blocks(self, blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed one recording that comes in consecutive blocks.

        Args:
            blocks: float32 [samples, 2] at `sample_rate_hz`, of any lengths.

        Returns:
            float32 [dimension].
        """

    def embed(self, waveform: ArrayLike, sample_rate_hz: float) -> NDArray[np.float32]:
        """Embed one recording.

        Args:
            waveform: [samples] or [samples, channels]; float with full scale 1, int16 or int32.
            sample_rate_hz: Of `waveform`, in hertz.

        Returns:
            float32 [dimension].

        Raises:
            DataError: Where waveform or rate cannot be used.
        """
        blocks = waveform_blocks(waveform, sample_rate_hz, self.sample_rate_hz)
        return self.embed_blocks(self._in_phase(blocks, "waveform"))

    def embed_files(self, paths: Sequence[Path]) -> Iterator[FileEmbedding | BadFile]:
        """Embed files, `workers` of them at once, each in bounded memory.

        Yields:
            One result a file, in the order of `paths`.
        """
        if paths:
            self.prepare()
        return in_order(self.embed_file, paths, min(self.workers, core_count()))

    def embed_segments(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed segments, each by itself.

        Args:
            segments: float32 [segments, samples, 2] at `sample_rate_hz`.

        Returns:
            float32 [segments, dimension].
        """
        return np.stack([self.embed_blocks([segment]) for segment in segments])

    def prepare(self) -> None:  # noqa: B027 (most have nothing to load)
        """Load what is needed, before threads ask for it at once."""

    def _in_phase(
        self, blocks: Iterable[NDArray[np.float32]], name: Path | str
    ) -> Iterator[NDArray[np.float32]]:
        """Blocks whose mono mix does not cancel: the baselines are mono."""

        def told() -> None:
            notices.add(name, "its sides cancel in a mono mix; the right one is turned over there")

        return in_phase(blocks, self.sample_rate_hz, told)

    def embed_file(self, path: Path) -> FileEmbedding | BadFile:
        """Embed one file."""
        try:
            blocks = CountedBlocks(decode_blocks(path, self.sample_rate_hz))
            embedding = self.embed_blocks(self._in_phase(iter(blocks), path))
        except DataError as error:
            reason = str(error)
            return BadFile(path, reason if str(path) in reason else f"{path}: {reason}")
        except OSError as error:
            return BadFile(path, f"{path}: cannot be read ({error.strerror})")
        return FileEmbedding(path, embedding, blocks.samples / self.sample_rate_hz)
