"""Labels of the demo corpus: which terms a track gets, and the raw labels of each learning source.

Listeners are simulated: no person's plays, but tastes written down here, so that `taste` can be learnt. Each
likes one or two instrument families, a tempo, a mode, some dances or forms, and full or thin ensembles. A
track's expected plays grow exponentially with how well it fits; plays are Poisson. Everything they care about
can be heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from kerasrep.corpora.demo import dances
from kerasrep.corpora.demo.draws import generator
from kerasrep.corpora.demo.instruments import FAMILIES
from kerasrep.sources.labels import CountLabels, RawLabels, ValueLabels

Record = Mapping[str, Any]

IN_SCORE, CHOSEN, SIMULATED = "in the score", "chosen at rendering", "simulated"

#: Source -> what its labels hold -> where that comes from.
LABEL_KINDS: dict[str, dict[str, str]] = {
    "bpm": {"beats per minute (tactus)": CHOSEN},
    "year": {"year of composition or publication, from the catalogue": IN_SCORE},
    "tag": {
        "dance type, metre, mode": IN_SCORE,
        "key, ensemble, instrument families, percussion, tempo word, register": CHOSEN,
    },
    "lyrics": {"words of the first verse, counted over the piece (its first 160 bars)": IN_SCORE},
    "cdr_tag": {"form, collection, region, century, style, from the catalogue": IN_SCORE},
    "artist": {
        "who wrote or collected the piece": IN_SCORE,
        "tags of all that artist's tracks that are not reserved": "as for tag",
    },
    "taste": {"plays of 300 listeners with documented preferences": SIMULATED},
}

_LEAST_TRACKS_OF_WORD = 2
_TEMPO_WORDS = ((72.0, "very slow"), (92.0, "slow"), (120.0, "moderate"), (152.0, "fast"), (1e9, "very fast"))
_REGISTERS = ((57.0, "low register"), (74.0, "middle register"), (1e9, "high register"))
N_LISTENERS = 300
_MOST_PLAYS = 60
_TEMPO_WIDTH = 0.25  # of the natural logarithm of beats a minute
_FORMS = (*dances.BEATS_PER_MINUTE, "chorale", "madrigal", "mass", "quartet", "song", "chanson", "motet")


def tags_of(track: Record) -> dict[str, float]:
    """Weighted tags of a track, as listeners might give them.

    Args:
        track: Its record in the manifest, tags not needed.
    """
    families = track["families"]
    tempo = next(word for limit, word in _TEMPO_WORDS if track["bpm"] < limit)  # of the tactus
    register = next(word for limit, word in _REGISTERS if track["median_pitch"] < limit)
    tags = {
        f"metre {track['metre']}": 1.0,
        track["mode"]: 1.0,
        f"in {track['key']}": 0.5,
        track["ensemble"]: 1.0,
        tempo: 1.0,
        register: 1.0,
        f"lead {families[0]}": 2.0,
    }
    tags.update(dict.fromkeys(families, 1.0))
    if track["dance"]:
        tags[track["dance"]] = 2.0
    if track["percussion"]:
        tags["percussion"] = 1.0
    return tags


def catalogue_terms(track: Record, styles: Sequence[str]) -> dict[str, float]:
    """What a library's catalogue would say of a track.

    Args:
        track: Its record in the manifest.
        styles: Of its collection.
    """
    century = (track["year"] - 1) // 100 + 1
    terms = {track["form"]: 2.0, track["collection"]: 1.0, track["region"]: 1.0, f"century {century}": 1.0}
    terms.update(dict.fromkeys(styles, 1.0))
    if track["dance"] and track["dance"] != track["form"]:
        terms[track["dance"]] = 2.0
    return terms


def raw_labels(tracks: Sequence[Record]) -> dict[str, RawLabels]:
    """Labels of all sources.

    Args:
        tracks: Records of the tracks that may be learnt from; reserved ones must not be among them.
    """
    ids = [track["track_id"] for track in tracks]
    labels: dict[str, RawLabels] = {
        name: ValueLabels(ids, np.array([track[name] for track in tracks], np.float64))
        for name in ("bpm", "year")
    }
    labels["taste"] = _track_documents(tracks, "plays")
    labels["tag"] = _track_documents(tracks, "tags")
    labels["cdr_tag"] = _track_documents(tracks, "catalogue")
    spread = Counter(word for track in tracks for word in track["words"])
    kept = {word for word, n_tracks in spread.items() if n_tracks >= _LEAST_TRACKS_OF_WORD}
    if kept:
        labels["lyrics"] = _track_documents(tracks, "words", kept)
    labels["artist"] = _artist_documents(tracks)
    return labels


def _track_documents(tracks: Sequence[Record], key: str, kept: set[str] | None = None) -> CountLabels:
    """One document a track; tracks without any term are left out."""
    documents = {}
    for track in tracks:
        weights = {term: weight for term, weight in track[key].items() if kept is None or term in kept}
        if weights:
            documents[track["track_id"]] = weights
    counts, terms = _matrix(list(documents.values()))
    return CountLabels(counts, terms, list(documents), np.arange(len(documents), dtype=np.int64))


def _artist_documents(tracks: Sequence[Record]) -> CountLabels:
    """One document an artist: the sum of its tracks' tags."""
    artists = sorted({track["artist"] for track in tracks})
    sums: dict[str, Counter[str]] = {artist: Counter() for artist in artists}
    for track in tracks:
        sums[track["artist"]].update(track["tags"])
    counts, terms = _matrix([sums[artist] for artist in artists])
    rows = {artist: row for row, artist in enumerate(artists)}
    documents = np.array([rows[track["artist"]] for track in tracks], np.int64)
    return CountLabels(counts, terms, [track["track_id"] for track in tracks], documents)


def _matrix(documents: Sequence[Mapping[str, float]]) -> tuple[sparse.csr_matrix, list[str]]:
    """Documents x terms, terms in alphabetical order."""
    terms = sorted({term for document in documents for term in document})
    columns = {term: column for column, term in enumerate(terms)}
    entries = [
        (row, columns[term], float(weight))
        for row, document in enumerate(documents)
        for term, weight in sorted(document.items())
    ]
    rows, places, weights = zip(*entries, strict=True) if entries else ((), (), ())
    matrix = sparse.csr_matrix((weights, (rows, places)), shape=(len(documents), len(terms)))
    return matrix, terms


@dataclass(frozen=True)
class Listener:
    """One simulated listener.

    Attributes:
        name: Term of the `taste` source.
        families: Instrument families liked.
        log_bpm: Natural logarithm of the tempo liked.
        mode: `major` or `minor`.
        forms: Dances and forms liked.
        solo: Whether one or two instruments are preferred to more.
        activity: Expected plays of a track without any appeal.
    """

    name: str
    families: frozenset[str]
    log_bpm: float
    mode: str
    forms: frozenset[str]
    solo: bool
    activity: float

    def expected_plays(self, track: Mapping[str, Any]) -> float:
        """Expected plays of a track.

        Args:
            track: Its record in the manifest.
        """
        lead, *others = track["families"]
        appeal = 1.6 * (lead in self.families) + 0.6 * any(family in self.families for family in others)
        appeal += 1.4 * float(np.exp(-0.5 * ((np.log(track["bpm"]) - self.log_bpm) / _TEMPO_WIDTH) ** 2))
        appeal += 0.6 * (
            ("major" if track["mode"] in ("major", "mixolydian", "lydian") else "minor") == self.mode
        )
        appeal += 1.0 * bool(self.forms & {track["dance"], track["form"]})
        appeal += 0.6 * ((track["n_voices"] <= 2) == self.solo)
        return float(self.activity * np.exp(appeal))


def draw_listeners(seed: int) -> tuple[Listener, ...]:
    """Draw the listeners."""
    listeners = []
    for number in range(N_LISTENERS):
        rng = generator(seed, "listener", number)
        families = rng.choice(len(FAMILIES), size=int(rng.integers(1, 3)), replace=False)
        forms = rng.choice(len(_FORMS), size=4, replace=False)
        listeners.append(
            Listener(
                f"listener-{number:03d}",
                frozenset(FAMILIES[index] for index in families),
                float(rng.uniform(np.log(60), np.log(190))),
                "major" if rng.random() < 0.6 else "minor",
                frozenset(_FORMS[index] for index in forms),
                bool(rng.random() < 0.5),
                float(np.exp(rng.normal(-3.6, 0.4))),
            )
        )
    return tuple(listeners)


def draw_plays(track: Mapping[str, Any], listeners: tuple[Listener, ...], seed: int) -> dict[str, int]:
    """Plays of one track by each listener who played it at all.

    Args:
        track: Its record in the manifest.
        listeners: All of them.
        seed: Of the corpus.
    """
    expected = np.array([listener.expected_plays(track) for listener in listeners])
    plays = np.minimum(generator(seed, "plays", track["track_id"]).poisson(expected), _MOST_PLAYS)
    return {listener.name: int(count) for listener, count in zip(listeners, plays, strict=True) if count}
