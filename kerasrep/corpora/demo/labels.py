"""Labels of the demo corpus: which terms a track gets, and the raw labels of each learning source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

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
