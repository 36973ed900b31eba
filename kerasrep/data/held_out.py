"""Which tracks validate a source whose classes are the groups that splits are made of.

Where artists are kept in one split, no track of the validation split has an artist that is trained on. A
source of artists is then validated on tracks of its own classes, which it does not train on; other sources
do, and so no score of the whole model is taken from them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.shards import ShardIndex
from kerasrep.sources.targets import SourceTargets

HELD_OUT_SHARE = 0.1  # of the tracks of a class


def held_out(index: ShardIndex, targets: SourceTargets) -> NDArray[np.bool_]:
    """Tracks of a source that are held out of its own training, bool [tracks of `targets`].

    None where the source is no source of classes, or the validation split has tracks of it. Otherwise a tenth
    of each class of two tracks or more, at least one, in the order of the SHA-256 of their ids.
    """
    held = np.zeros(len(targets.track_ids), bool)
    validation = index.track_ids[index.rows("validation")]
    training = np.isin(targets.track_ids, index.track_ids[index.rows("train")])
    if targets.kind != "classes" or targets.stretches is None or np.isin(targets.track_ids, validation).any():
        return held
    tracks = np.flatnonzero(training)
    classes = targets.stretches.values[targets.stretches.first[tracks]]  # a track's first
    ids = targets.track_ids[tracks].tolist()
    digests = np.array([hashlib.sha256(track.encode()).hexdigest() for track in ids])
    order = np.lexsort((digests, classes))
    _, first, counts = np.unique(classes[order], return_index=True, return_counts=True)
    for start, count in zip(first.tolist(), counts.tolist(), strict=True):
        taken = max(1, round(HELD_OUT_SHARE * count)) if count > 1 else 0
        held[tracks[order[start : start + taken]]] = True
    return held
