"""Shards written on the nodes of a Ray cluster, by the function that one machine uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kerasrep.data.shard_decoding import ShardTask, write_shard
from kerasrep.errors import RunError
from kerasrep.recipe.schema import AudioSettings
from kerasrep.runtime.cluster.connection import Cluster
from kerasrep.runtime.cluster.nodes import await_file, check_missing, shared_with
from kerasrep.runtime.cluster.workers import Lost, Place, Plan, Workers, places_of


@dataclass(frozen=True)
class Answer:
    """What a worker says of a shard.

    Attributes:
        host: Of the node.
        missing: Tracks that it does not see; nothing was written then.
    """

    host: str
    missing: tuple[Path, ...] = ()


def build_decoder(place: Place, host: str, audio: AudioSettings) -> Callable[[ShardTask], Answer]:
    """On a node: what writes a shard, unless the node lacks one of its files."""

    def decode(task: ShardTask) -> Answer:
        missing = tuple(item.path for item in task.tracks if not os.path.lexists(item.path))
        if missing:
            return Answer(host, missing)
        write_shard(task, audio, place.threads, lambda: None)
        return Answer(host)

    return decode


def write_shards_on(
    cluster: Cluster, tasks: Sequence[ShardTask], audio: AudioSettings, advance: Callable[[int], object]
) -> None:
    """Write shards; those are left out whose tracks are gone here as well.

    Args:
        cluster: Where.
        tasks: The shards, all in one folder.
        audio: Rate, segment length and decoder.
        advance: Told how many tracks are done.

    Raises:
        RunError: Where a node lacks something, none is left, or workers die over a shard.
    """
    folder = tasks[0].path.parent
    with shared_with([folder], [tasks[0].tracks[0].path.parent]) as shared:
        plan = Plan(partial(places_of, use_gpus=False), build_decoder, (audio,), shared)
        with Workers[ShardTask](cluster, plan) as workers:
            for task, answer in workers.run(tasks):
                if isinstance(answer, Lost):
                    raise RunError(
                        f"{task.path}: {answer.deaths} workers died over it; is memory short, or one of its "
                        f"tracks damaged ({task.tracks[0].path} to {task.tracks[-1].path})?"
                    )
                check_missing(answer.host, answer.missing)
                if not answer.missing:
                    await_file(task.path, answer.host)
                    advance(len(task.tracks))
