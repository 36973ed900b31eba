"""What every corpus gives: tracks with a split, and raw labels by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kerasrep.sources.labels import RawLabels


@dataclass(frozen=True)
class Track:
    """One piece of audio.

    Attributes:
        track_id: Unique within the corpus.
        path: Audio file.
        split: `train`, `validation`, or `evaluation` (nothing trains on it).
        title: For people.
        artist: For people.
        label: One short word for colouring plots, such as a dance type; may be empty.
        pool: Kind of track, where the recipe gives each kind a share of the training.
    """

    track_id: str
    path: Path
    split: str
    title: str = ""
    artist: str = ""
    label: str = ""
    pool: str = ""


@dataclass(frozen=True)
class Corpus:
    """Tracks and what is known of them.

    Attributes:
        name: Of the corpus.
        fingerprint: Changes whenever audio, splits or labels change.
        tracks: All tracks, every split.
        labels: Raw labels of each source the corpus has (`self` needs none and is not in it); may read
            them from disk at each access (`stored_labels`).
        notices: Lines the user must read, such as licence terms.
        skipped: Source file -> reason, for files that could not become tracks.
        audio_fingerprint: Changes whenever audio does, and never with the splits; empty where these are
            fixed.
        missing: Source without labels -> what was looked for, where the corpus knows.
        copies_known: Whether recordings under several names were looked for before the tracks were split.
    """

    name: str
    fingerprint: str
    tracks: Sequence[Track]
    labels: Mapping[str, RawLabels]
    notices: Sequence[str] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    audio_fingerprint: str = ""
    copies_known: bool = False

    @property
    def n_training(self) -> int:
        """How many tracks there are to train on."""
        return sum(track.split == "train" for track in self.tracks)
