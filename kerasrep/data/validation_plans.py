"""Which crops validate: fixed ones, spread evenly over each held-out track, for all sources at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.data import schedule

Int = NDArray[np.int64]
Float = NDArray[np.float32]


class ValidationPlans(Sequence[schedule.Plan]):
    """Plans of the validation: fixed crops, spread evenly over each track, and all sources at once.

    Plans of at most 64 tracks; crops 2j of all tracks are followed by crops 2j + 1, so that the halves are
    pairs of the same track, and shifted by one track pairs of different tracks. Each is made when it is asked
    for. Tracks that are held out of the training of one source alone come last, with no weight for `self`.
    """

    def __init__(
        self,
        examples: Sequence[schedule.Examples],
        rows: Int,
        track_samples: Int,
        segment_samples: int,
        crops: int,
        contrast: bool = False,
    ) -> None:
        """Divide the tracks.

        Args:
            examples: One a source: validation tracks that have it.
            rows: int64 [tracks], all validation tracks, at least two.
            track_samples: int64 [tracks of the index].
            segment_samples: Length of a crop.
            crops: Crops a track, an even number.
            contrast: Whether `self` is learnt by contrast.
        """
        self._contrast = contrast
        self._examples, self._crops = examples, crops
        self._track_samples, self._segment_samples = track_samples, segment_samples
        others = np.setdiff1d(np.concatenate([example.rows for example in examples]), rows)
        self._chunks = _chunks(rows) + (_chunks(others) if len(others) else [])
        self._positions = [schedule.positions(example.rows, len(track_samples)) for example in examples]

    @property
    def n_tracks(self) -> int:
        """Tracks that any source is validated on."""
        return sum(map(len, self._chunks))

    def __len__(self) -> int:
        return self._crops // 2 * len(self._chunks)

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        pair, place = divmod(number, len(self._chunks))
        chunk = self._chunks[place]
        both = np.concatenate([chunk, chunk])
        room = self._track_samples[chunk] - self._segment_samples
        starts = np.concatenate(schedule.spread_starts(room, self._crops)[2 * pair : 2 * pair + 2])
        filled = {source: self._targets(source, chunk, starts) for source in range(len(self._examples))}
        return schedule.make_plan(0, schedule.JOINT, both, starts, filled, [e.size for e in self._examples])

    def _targets(self, source: int, chunk: Int, starts: Int) -> tuple[Float, Float]:
        """Targets and weights of the crops of some tracks."""
        example = self._examples[source]
        weight = np.float32(self._positions[source][chunk[0]] >= 0)
        if example.kind == "same" and self._contrast:
            return schedule.contrast_targets(example, chunk), np.full(len(chunk), weight)
        if example.kind == "same":  # pairs of the same track, then of different tracks
            target = np.concatenate(
                [schedule.pair_targets(chunk, chunk), schedule.pair_targets(chunk, chunk + 1)]
            )
            return target, np.full(len(target), weight)
        position = self._positions[source][np.concatenate([chunk, chunk])]
        target, known = schedule.known_targets(example, position, starts)
        return target, example.worth(target, known).astype(np.float32)


def _chunks(rows: Int) -> list[Int]:
    """Validation tracks that are evaluated together."""
    return np.array_split(rows, -(-len(rows) // 64))


def mean_candidates(examples: schedule.Examples, views: str = "across") -> float:
    """Among how many crops one is found, in the validation of contrast; the geometric mean.

    Args:
        examples: Of `self`.
        views: Which crops are candidates.
    """
    logs = []
    for chunk in _chunks(examples.rows):
        groups = schedule.contrast_targets(examples, chunk)[:, 1]
        others = (groups[:, None] != groups).sum(axis=1)
        logs.append(np.log(1 + others * (1 if views == "across" else 2)))
    return float(np.exp(np.concatenate(logs).mean()))
