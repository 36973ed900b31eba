"""Which tracks, crops and targets make up each step: a pure function of recipe, seed and step number.

Nothing is drawn by a generator that lives on between steps, so that training can be resumed at any step
and the same recipe gives the same batches on any number of replicas.

An alternating step takes one source, drawn uniformly (Kim et al. 2018, section 4.3). Tracks of a source
come in seeded permutations of those that have it: each is visited once before any is visited again.
`self` pairs two segments: even pairs come from one track, odd pairs from two. A joint step uses one set
of segments for all sources; its `self` pairs the first half of the segments with the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.pools import PoolSequence, TrackPools
from kerasrep.recipe.base import TargetKind
from kerasrep.recipe.schema import Recipe
from kerasrep.sources.stretches import Stretches

Int = NDArray[np.int64]
Float = NDArray[np.float32]

JOINT = -1
_DRAW_SOURCE, _DRAW_TRACKS, _DRAW_CROPS = 1, 2, 3


@dataclass(frozen=True)
class Examples:
    """Tracks that have a source, with their targets.

    Attributes:
        rows: int64 [n], rows of the shard index.
        target: float32 [tracks, size], which may lie in a file; empty for `self`, and where there are
            `stretches`.
        places: int32 [n], rows of `target` or tracks of `stretches`; all of them in order by default.
        kind: What the targets are.
        stretches: Classes, labels, numbers or vectors of the tracks.
        segment_samples: Length of a crop.
        sample_rate_hz: Of the crops.
        within_groups: Whether validation is on tracks of the groups that are trained on; see `batches`.
        groups: int64 [tracks of the index], of which tracks are no negatives of each other, for contrast.
        class_weights: float32 [size], how much an example of each class counts; all alike by default.
    """

    rows: Int
    target: Float
    places: NDArray[np.int32] | None = None
    kind: TargetKind = "topics"
    stretches: Stretches | None = None
    segment_samples: int = constants.SEGMENT_SAMPLES
    sample_rate_hz: int = constants.SAMPLE_RATE_HZ
    within_groups: bool = False
    class_weights: Float | None = None
    groups: Int | None = None

    def targets(self, members: Int, starts: Int | None = None) -> tuple[Float, NDArray[np.bool_]]:
        """Targets of some crops.

        Args:
            members: int64 [crops], positions in `rows`.
            starts: int64 [crops], first sample of each; by default the crops are whole tracks.

        Returns:
            float32 [crops, size], and bool [crops]: whether anything is known of the crop.
        """
        places = members if self.places is None else self.places[members]
        if self.stretches is None:
            return self.target[places], np.ones(len(places), bool)
        if starts is None:
            return self.stretches.targets(places)
        begin = starts / self.sample_rate_hz
        return self.stretches.targets(places, begin, (starts + self.segment_samples) / self.sample_rate_hz)

    def known_targets(self, members: Int, track_samples: Int, crops: int) -> Float:
        """Targets of evenly spread crops of some tracks, those alone of which anything is known.

        Args:
            members: int64 [members], positions in `rows`.
            track_samples: int64 [tracks of the index], length of each.
            crops: Of a track; one is enough where all are alike.
        """
        if self.stretches is None or self.stretches.times is None:
            return self.targets(members)[0]
        room = track_samples[self.rows[members]] - self.segment_samples
        found = [self.targets(members, starts) for starts in spread_starts(room, crops)]
        return np.concatenate([target[known] for target, known in found])

    def worth(self, target: Float, known: NDArray[np.bool_]) -> NDArray[Any]:
        """How much some crops count: not at all where nothing is known; [crops].

        Args:
            target: float32 [crops, size].
            known: bool [crops].
        """
        return known if self.class_weights is None else known * (target @ self.class_weights)

    def labelled_share(self, track_samples: Int) -> float:
        """Share of its tracks' time that any label is about, roughly.

        Args:
            track_samples: int64 [tracks of the index], length of each.
        """
        if self.stretches is None or self.stretches.times is None or self.stretches.gaps_negative:
            return 1.0
        seconds = track_samples[self.rows].sum() / self.sample_rate_hz
        share = len(self.rows) / max(1, len(self.stretches.first) - 1)  # of the labelled tracks
        return float(min(1.0, share * self.stretches.labelled_seconds() / max(seconds, 1e-9)))

    @property
    def size(self) -> int:
        """Dimension of the target."""
        return int(self.target.shape[1])


@dataclass(frozen=True)
class Plan:
    """What one step uses, on one replica or on all.

    Attributes:
        step: Counted from 0.
        source: Position among the recipe's sources; -1 uses all.
        rows: int64 [segments], rows of the shard index. For pairs: all left segments, then all right.
        starts: int64 [segments], first sample of each segment.
        targets: One a source, float32 [examples, size]; no rows where the source is not used.
        weights: One a source, float32 [examples]; the loss is the weighted sum. They sum to 1 over all
            replicas, or to 0 where no track has the source.
    """

    step: int
    source: int
    rows: Int
    starts: Int
    targets: tuple[Float, ...]
    weights: tuple[Float, ...]


class Schedule:
    """Plans of all steps of a training."""

    def __init__(
        self,
        recipe: Recipe,
        examples: Mapping[str, Examples],
        track_samples: Int,
        n_steps: int,
        replicas: int = 1,
        pools: TrackPools | None = None,
    ) -> None:
        """Draw the sources of all steps.

        Args:
            recipe: Sources, batch, schedule, segment and seed are taken from it.
            examples: Source -> training tracks with targets; `self` has all training tracks.
            track_samples: int64 [tracks of the index], length of each.
            n_steps: Steps of the whole training.
            replicas: Parts that each batch is divided into.
            pools: Shares of kinds of tracks; by default every track is as likely.
        """
        self.sources = recipe.sources
        self.joint = recipe.training.schedule == "joint"
        self.replicas = replicas
        self.n_steps = n_steps
        self._contrast = recipe.loss_of("self") == "contrast"
        self._batch = recipe.batches
        self.segment_samples = recipe.audio.segment_samples
        self._seed = recipe.seed
        self._examples = [examples[source] for source in recipe.sources]
        self.sizes = tuple(e.size for e in self._examples)
        self._track_samples = track_samples
        everything = np.unique(np.concatenate([e.rows for e in self._examples]))
        self._everything = everything
        self._position = [positions(e.rows, len(track_samples)) for e in self._examples]
        if self.joint:
            self.source_of_step = np.full(n_steps, JOINT, np.int8)
        else:
            rng = np.random.default_rng([self._seed, _DRAW_SOURCE])
            drawn = rng.integers(len(self.sources), size=n_steps, dtype=np.int64)
            self.source_of_step = drawn.astype(np.int8)  # a million tracks make millions of steps
        self.uses_before = _uses_before(self.source_of_step, len(self.sources))
        self._pools: dict[int, PoolSequence] = {}
        if pools is not None:
            streams = {JOINT: everything} | {n: e.rows for n, e in enumerate(self._examples)}
            self._pools = {stream: PoolSequence(pools, rows) for stream, rows in streams.items()}
        n_orders = (len(self.sources) + 1) * (len(pools.shares) if pools else 1)
        self._permutation = lru_cache(maxsize=2 * n_orders)(self._draw_permutation)

    def plan(self, step: int, replica: int) -> Plan:
        """Plan of one step on one replica."""
        source = int(self.source_of_step[step])
        use = int(self.uses_before[step])
        if source == JOINT:
            return self._joint(step, replica)
        if self.sources[source] == "self":
            return self._pairs(step, source, use, replica)
        return self._segments(step, source, use, replica)

    def segments(self, step: int) -> int:
        """Segments that a step runs through the network, over all replicas."""
        source = int(self.source_of_step[step])
        pairs = source != JOINT and self.sources[source] == "self"
        return self._batch.size * (2 if pairs else 1)

    def _segments(self, step: int, source: int, use: int, replica: int) -> Plan:
        size, crops = self._batch.size, self._batch.crops_per_visit
        members = self._stream(source, self._examples[source].rows, use * (size // crops), size // crops)
        members = np.repeat(members, crops)
        rows = self._examples[source].rows[members]
        starts = self._starts(step, rows)
        part = self._part(size, replica)
        filled = {source: self._weighted(source, members, starts, np.arange(size)[part])}
        return make_plan(step, source, rows[part], starts[part], filled, self.sizes)

    def _pairs(self, step: int, source: int, use: int, replica: int) -> Plan:
        size = self._batch.size
        left, right = self._draw_pairs(source, self._examples[source].rows, use, size)
        starts = self._starts(step, np.concatenate([left, right]))
        part = self._part(size, replica)
        rows = np.concatenate([left[part], right[part]])
        starts = np.concatenate([starts[:size][part], starts[size:][part]])
        target = self._pair_targets(source, left[part], right[part])
        weight = np.full(len(target), 1 / size, np.float32)
        return make_plan(step, source, rows, starts, {source: (target, weight)}, self.sizes)

    def _joint(self, step: int, replica: int) -> Plan:
        size, crops = self._batch.size, self._batch.crops_per_visit
        paired = "self" in self.sources
        if paired:
            left, right = self._draw_pairs(JOINT, self._everything, step, size // 2)
            rows = np.concatenate([left, right])
        else:
            visits = size // crops
            rows = self._everything[self._stream(JOINT, self._everything, step * visits, visits)]
            rows = np.repeat(rows, crops)
        starts = self._starts(step, rows)
        part = self._part(size, replica)
        local = np.arange(size)[part]
        if paired:  # whole pairs go to a replica
            pairs = np.arange(size // 2)[self._part(size // 2, replica)]
            local = np.concatenate([pairs, pairs + size // 2])
        filled = {}
        for number, source in enumerate(self.sources):
            if source == "self":
                target = self._pair_targets(number, left[pairs], right[pairs])
                filled[number] = target, np.full(len(target), 2 / size, np.float32)
            else:
                filled[number] = self._weighted(number, self._position[number][rows], starts, local)
        return make_plan(step, JOINT, rows[local], starts[local], filled, self.sizes)

    def _pair_targets(self, source: int, left: Int, right: Int) -> Float:
        if self._contrast:
            return contrast_targets(self._examples[source], left)
        return pair_targets(left, right)

    def _weighted(self, source: int, members: Int, starts: Int, local: Int) -> tuple[Float, Float]:
        """Targets of the crops `local` among all of a step; see `known_targets`."""
        examples = self._examples[source]
        if examples.stretches is None:  # what is known does not depend on the crop
            total = int((members >= 0).sum())
            target, known = known_targets(examples, members[local], starts[local])
        else:
            target, known = known_targets(examples, members, starts)
            known = examples.worth(target, known)
            total = known.sum()
            target, known = target[local], known[local]
        return target, (known / (total or 1)).astype(np.float32)

    def _draw_pairs(self, stream: int, rows: Int, use: int, n_pairs: int) -> tuple[Int, Int]:
        """Rows of the left and right segments; even pairs are of one track, all of them for contrast."""
        n_negative = 0 if self._contrast else n_pairs // 2
        drawn = self._stream(stream, rows, use * (n_pairs + n_negative), n_pairs + n_negative)
        left, other = drawn[:n_pairs], drawn[n_pairs:]
        if self._contrast:
            return rows[left], rows[left]
        other = np.where(other == left[1::2], (other + 1) % len(rows), other)
        right = left.copy()
        right[1::2] = other
        return rows[left], rows[right]

    def _stream(self, stream: int, rows: Int, first: int, count: int) -> Int:
        """Members `first` ... `first + count - 1` of the endless sequence of permutations of `rows`.

        With pools, each has a sequence of permutations of its own, and they take turns by their shares.
        """
        places = np.arange(first, first + count, dtype=np.int64)
        if stream not in self._pools:
            return self._permuted(stream, None, len(rows), places)
        sequence = self._pools[stream]
        pools, places = sequence.of(places)
        members = np.empty(count, np.int64)
        for pool, own in enumerate(sequence.members):
            chosen = pools == pool
            members[chosen] = own[self._permuted(stream, pool, len(own), places[chosen])]
        return members

    def _permuted(self, stream: int, pool: int | None, size: int, places: Int) -> Int:
        """Members at some places of the endless sequence of permutations of `size` of them."""
        passes = places // size
        members = np.empty(len(places), np.int64)
        for number in np.unique(passes).tolist():
            chosen = passes == number
            order = self._permutation(stream, pool, number, size)
            members[chosen] = order[places[chosen] - number * size]
        return members

    def _draw_permutation(self, stream: int, pool: int | None, number: int, size: int) -> NDArray[np.int32]:
        key = [self._seed, _DRAW_TRACKS, stream + 1, number]
        rng = np.random.default_rng(key if pool is None else [*key, pool + 1])
        return rng.permutation(size).astype(np.int32)  # two a source are kept

    def _starts(self, step: int, rows: Int) -> Int:
        """First samples of random crops; the last possible one is as likely as any other."""
        rng = np.random.default_rng([self._seed, _DRAW_CROPS, step])
        return rng.integers(self._track_samples[rows] - self.segment_samples, endpoint=True, dtype=np.int64)

    def _part(self, size: int, replica: int) -> slice:
        share = size // self.replicas
        return slice(replica * share, (replica + 1) * share)


def make_plan(
    step: int,
    source: int,
    rows: Int,
    starts: Int,
    filled: Mapping[int, tuple[Float, Float]],
    sizes: Sequence[int],
) -> Plan:
    """Make a plan; sources that are not in `filled` get targets and weights without rows."""
    empty = [(np.zeros((0, size), np.float32), np.zeros(0, np.float32)) for size in sizes]
    pairs = [filled.get(number, nothing) for number, nothing in enumerate(empty)]
    return Plan(step, source, rows, starts, tuple(t for t, _ in pairs), tuple(w for _, w in pairs))


def spread_starts(room: Int, crops: int) -> list[Int]:
    """First samples of crops that are spread evenly over each track.

    Args:
        room: int64 [tracks], length of the track without a segment.
        crops: Of a track.
    """
    return [(place / (crops + 1) * room).astype(np.int64) for place in range(1, crops + 1)]


def self_examples(rows: Int) -> Examples:
    """Examples of `self`: tracks without targets, those are made with the pairs."""
    return Examples(rows, np.zeros((0, constants.SELF_CLASSES), np.float32), kind="same")


def known_targets(examples: Examples, members: Int, starts: Int) -> tuple[Float, NDArray[np.bool_]]:
    """Targets of some crops, and whether each is known; evenly spread where it is not.

    Args:
        examples: Of a source.
        members: int64 [crops], positions among the examples; below 0 for tracks that lack the source.
        starts: int64 [crops], first samples.
    """
    target, known = examples.targets(members, starts)
    known = known & (members >= 0)
    return np.where(known[:, None], target, np.float32(1 / examples.size)).astype(np.float32), known


def pair_targets(left: Int, right: Int) -> Float:
    """One-hot [pairs, 2]; class 1 says same track."""
    target: Float = np.eye(constants.SELF_CLASSES, dtype=np.float32)[(left == right).astype(np.int64)]
    return target


def contrast_targets(examples: Examples, rows: Int) -> Float:
    """Numbers of track and group, float32 [pairs, 2]; without groups each track is one by itself."""
    groups = rows if examples.groups is None else examples.groups[rows]
    targets: Float = np.stack([rows, groups], axis=1).astype(np.float32)
    return targets


def positions(rows: Int, n_tracks: int) -> NDArray[np.int32]:
    """Where each row of the index stands in `rows`; -1 where it does not."""
    position = np.full(n_tracks, -1, np.int32)
    position[rows] = np.arange(len(rows))
    return position


def _uses_before(source_of_step: NDArray[np.int8], n_sources: int) -> NDArray[np.int32]:
    """How often the source of each step was used in earlier steps."""
    if len(source_of_step) and source_of_step[0] == JOINT:
        return np.arange(len(source_of_step), dtype=np.int32)
    before = np.zeros(len(source_of_step), np.int32)
    for source in range(n_sources):
        chosen = source_of_step == source
        before[chosen] = np.arange(chosen.sum())
    return before
