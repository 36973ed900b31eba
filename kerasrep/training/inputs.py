"""Prepared files, joined for one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.batches import SplitExamples, split_examples
from kerasrep.data.pools import TrackPools
from kerasrep.data.schedule import Examples
from kerasrep.data.shard_check import sound_index
from kerasrep.data.shards import ShardIndex
from kerasrep.errors import DataError, RecipeError
from kerasrep.recipe.corpora import FolderCorpus
from kerasrep.recipe.schema import Recipe
from kerasrep.sources.target_files import load_targets
from kerasrep.storage.run_directory import PreparedDirectory, read_arrays
from kerasrep.training.validation import LEAST_TRACKS


@dataclass(frozen=True)
class TrainingData:
    """Prepared files, joined for one recipe.

    Attributes:
        index: Where the tracks lie.
        train: Training tracks and targets.
        validation: Held-out tracks and targets.
        fingerprint: Of the prepared data.
        pools: Shares of kinds of tracks, where the recipe has them.
        damaged: Shards whose tracks are left out: name -> what is wrong.
    """

    index: ShardIndex
    train: SplitExamples
    validation: SplitExamples
    fingerprint: str
    pools: TrackPools | None = None
    damaged: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, recipe: Recipe, prepared: PreparedDirectory, check: bool = True) -> TrainingData:
        """Read index and targets, and the shards as far as `training.damaged_shards` says.

        Args:
            recipe: What shall be trained.
            prepared: Shards and targets.
            check: Whether shards are compared with their checksums.

        Raises:
            DataError: Where files are missing, malformed or damaged, or the recipe asks for what they lack.
        """
        index, damaged = sound_index(prepared, recipe.training.damaged_shards if check else "unchecked")
        if index.sample_rate_hz != recipe.audio.sample_rate_hz:
            raise DataError(
                f"{prepared.root}: shards are at {index.sample_rate_hz} Hz, "
                f"the recipe asks for {recipe.audio.sample_rate_hz}; prepare again"
            )
        targets, segment = load_targets(prepared.targets), recipe.audio.segment_samples
        train, validation = (
            split_examples(index, targets, split, recipe.sources, segment)
            for split in ("train", "validation")
        )
        for source in recipe.training.class_weights:
            weights = balanced(train.by_source[source])
            train, validation = (
                _changed(split, source, class_weights=weights) for split in (train, validation)
            )
        if recipe.contrast.same_group == "ignored" and "self" in recipe.sources:
            groups = _groups(prepared, index)
            train, validation = (
                _ungrouped(split, groups, name)
                for split, name in ((train, "training"), (validation, "validation"))
            )
        pools = _pools(recipe, prepared)
        return cls(index, train, validation, prepared.root.name, pools, damaged)

    @property
    def within_groups(self) -> list[str]:
        """Sources that are validated on held-out tracks of the groups that are trained on."""
        return [source for source, examples in self.train.by_source.items() if examples.within_groups]

    @property
    def few(self) -> dict[str, int]:
        """Sources of so few validation tracks that they say nothing -> how many those are."""
        held = {source: len(examples.rows) for source, examples in self.validation.by_source.items()}
        return {source: tracks for source, tracks in held.items() if tracks < LEAST_TRACKS}

    @property
    def sizes(self) -> dict[str, int]:
        """Source -> dimension of its target."""
        return {source: examples.size for source, examples in self.train.by_source.items()}


def balanced(examples: Examples) -> NDArray[np.float32]:
    """Weights of classes by which all of them count alike, 1 on average over the tracks; float32 [size]."""
    target, known = examples.targets(np.arange(len(examples.rows)))
    share = target[known].mean(axis=0, dtype=np.float64)
    weights = 1 / (np.count_nonzero(share) * np.where(share > 0, share, np.inf))
    return weights.astype(np.float32)


def _changed(split: SplitExamples, source: str, **values: NDArray[Any]) -> SplitExamples:
    examples = replace(split.by_source[source], **values)  # type: ignore[arg-type]
    return replace(split, by_source={**split.by_source, source: examples})


def _ungrouped(split: SplitExamples, groups: NDArray[np.int64], name: str) -> SplitExamples:
    """The split, whose tracks of a group are not told apart."""
    if len(np.unique(groups[split.rows])) < 2:
        raise DataError(
            f"contrast.same_group: all {name} tracks are of one group, so that no crop can be told from "
            "others; set it to negatives, or group by something else"
        )
    return _changed(split, "self", groups=groups)


def _groups(prepared: PreparedDirectory, index: ShardIndex) -> NDArray[np.int64]:
    """Number of each track's group, int64 [tracks of the index]; those without one are each by themselves."""
    lines = prepared.tracks.read_text(encoding="utf-8").splitlines()[1:]
    fields = [line.split("\t") for line in lines]  # track_id, split, title, artist, label
    groups = {track[0]: track[-1] for track in fields}
    names = [groups.get(" ".join(track.split())) or f"\n{track}" for track in index.track_ids.tolist()]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


#: A source is rare where a joint batch has fewer of its labelled crops than this, on average; one without any
#: comes less than once in a thousand batches otherwise.
RARE_CROPS = 7


def rare_sources(recipe: Recipe, data: TrainingData) -> frozenset[str]:
    """Sources of which many joint batches have no label."""
    if recipe.training.schedule != "joint":
        return frozenset()
    crops = {
        source: recipe.batches.size * examples.labelled_share(data.index.samples) * len(examples.rows)
        for source, examples in data.train.by_source.items()
        if source != "self"
    }
    n_tracks = len(np.unique(np.concatenate([e.rows for e in data.train.by_source.values()])))
    return frozenset(source for source, count in crops.items() if count < RARE_CROPS * n_tracks)


def _pools(recipe: Recipe, prepared: PreparedDirectory) -> TrackPools | None:
    if not isinstance(recipe.corpus, FolderCorpus) or recipe.corpus.pools is None:
        return None
    shares = recipe.corpus.pools.shares
    names = read_arrays(prepared.pools)["pool"]
    of_row = np.full(len(names), -1, np.int8)
    for number, name in enumerate(shares):
        of_row[names == name] = number
    return TrackPools(of_row, tuple(shares.values()))


def steps_per_epoch(recipe: Recipe, data: TrainingData) -> int:
    """Steps of an epoch: floor(training tracks / batch), over all sources together.

    Raises:
        RecipeError: Where a batch is larger than the training set.
    """
    return steps_of_tracks(recipe, len(data.train.rows))


def steps_of_tracks(recipe: Recipe, n_tracks: int) -> int:
    """Steps of an epoch over `n_tracks` training tracks.

    Raises:
        RecipeError: Where a batch is larger than that.
    """
    steps = n_tracks // recipe.batches.size
    if steps == 0:
        if n_tracks < recipe.batch_unit:
            raise RecipeError(
                f"batches.size: the {n_tracks} training tracks are too few for any, 'self' needs "
                f"{recipe.batch_unit} for its pairs; add tracks"
            )
        raise RecipeError(
            f"batches.size: {recipe.batches.size} is more than the {n_tracks} training tracks; lower it, or "
            "add tracks"
        )
    return steps
