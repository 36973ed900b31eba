"""Simulated listeners: no person's plays, but tastes written down here, so that `taste` can be learnt.

Each listener likes one or two instrument families, a tempo, a mode, some dances or forms, and full or thin
ensembles. A track's expected plays grow exponentially with how well it fits; plays are Poisson. Everything
they care about can be heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasrep.corpora.demo import dances
from kerasrep.corpora.demo.draws import generator
from kerasrep.corpora.demo.instruments import FAMILIES

N_LISTENERS = 300

_MOST_PLAYS = 60
_TEMPO_WIDTH = 0.25  # of the natural logarithm of beats a minute
_FORMS = (*dances.BEATS_PER_MINUTE, "chorale", "madrigal", "mass", "quartet", "song", "chanson", "motet")


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
