"""What a training reached, beside the best constant prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kerasrep.evaluation.significance import blocks_of, mean_interval
from kerasrep.recipe.base import LossName
from kerasrep.training.losses import NEAR_DEVIATIONS
from kerasrep.training.validation import LEAST_TRACKS, Outcomes

#: What the accuracy of a source is, where it is not how often the most probable class is the right one.
_ACCURACIES: dict[LossName, str] = {
    "sigmoid": "share of labels on the right side of one half",
    "squared": f"share of values within {NEAR_DEVIATIONS:g} standard deviations",
    "cosine": "the cosine itself",
}
#: A baseline's loss below this is nothing but rounding: the validation tracks have the mean target.
LEAST_LOSS = 1e-6


@dataclass(frozen=True)
class SummaryRow:
    """Validation scores of one source; divergences in nats.

    Attributes:
        source: Name.
        before: Divergence before training.
        after: Divergence of the state that is kept.
        mean_target: Loss of the best constant prediction, out of the training set.
        accuracy: Share of examples whose most probable class is the target's, of the state that is kept.
        mean_target_accuracy: Its accuracy.
        best_epoch: Epoch of the state that is kept: of the lowest mean validation loss of all sources, or of
            this one's where the sources share nothing; or the last one.
        tracks: Validation tracks of the source; `None` where they were not looked at one by one.
        interval: 95% interval of `after`, by bootstrap over tracks.
        gain: Likewise of how much it is better than the baseline; `self` by accuracy, the others by loss.
        loss: What the source is learnt by, which says what its accuracy is (see `losses.ExampleScores`).
    """

    source: str
    before: float
    after: float
    mean_target: float
    accuracy: float
    mean_target_accuracy: float
    best_epoch: int
    tracks: int | None = None
    interval: tuple[float, float] | None = None
    gain: tuple[float, float] | None = None
    loss: LossName = "divergence"

    @property
    def per_cent(self) -> float | None:
        """Loss as a percentage of the baseline's; below 100 something was learnt. `None` where that is 0."""
        return None if self.mean_target < LEAST_LOSS else 100.0 * self.after / self.mean_target

    @property
    def learnt(self) -> bool | None:
        """Whether it is better than the baseline, beyond the interval; `None` where that cannot be said."""
        if self.tracks is not None and self.tracks < LEAST_TRACKS:
            return None
        return self.is_better if self.gain is None else self.gain[0] > 0

    @property
    def is_better(self) -> bool:
        """Whether it is better than the baseline at all; `self` by accuracy, the others by loss."""
        if self.source == "self":
            return self.accuracy > self.mean_target_accuracy
        return self.after < self.mean_target

    def with_intervals(self, outcomes: Outcomes) -> SummaryRow:
        """The row with the number of tracks, and what they say of chance."""
        known = outcomes.weights > 0
        blocks = blocks_of(outcomes.tracks[known].astype(np.str_), None)
        tracks = len(np.unique(blocks))
        if tracks < LEAST_TRACKS:
            return replace(self, tracks=tracks)
        weights, gain = outcomes.weights[known], outcomes.gains[int(self.source == "self")]
        interval, gains = (
            mean_interval(values[known], blocks, weights=weights) for values in (outcomes.scores[0], gain)
        )
        return replace(self, tracks=tracks, interval=interval, gain=gains)


@dataclass(frozen=True)
class Summary:
    """Scores of all sources.

    Attributes:
        rows: One a source.
        epochs: Epochs trained.
        seconds: Time in training steps.
        kept: Which state: `best` or `last`.
    """

    rows: Sequence[SummaryRow]
    epochs: int
    seconds: float
    kept: str = "best"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the card."""
        sources = {row.source: asdict(row) | {"per_cent": row.per_cent} for row in self.rows}
        for values in sources.values():
            del values["source"]
        return {"epochs": self.epochs, "sources": sources}

    def table(self) -> str:
        """Text for the terminal."""
        width = max(8, *(len(row.source) for row in self.rows))
        lines = [
            f"validation loss (the {self.kept} of {self.epochs} epochs is kept)",
            f"{'source':<{width}} {'before':>8} {'after':>8} {'baseline':>12} {'after/base':>11} "
            f"{'accuracy':>9} {'base':>6} {'epoch':>6} {'tracks':>7}  95% of after",
        ]
        for row in self.rows:
            share = "-" if row.per_cent is None else f"{row.per_cent:.1f}%"
            lines.append(
                f"{row.source:<{width}} {row.before:8.3f} {row.after:8.3f} {row.mean_target:12.3f} "
                f"{share:>11} {row.accuracy:9.3f} {row.mean_target_accuracy:6.3f} "
                f"{row.best_epoch:6d} {'' if row.tracks is None else row.tracks:>7}{_interval(row)}"
            )
        return "\n".join([*lines, *self._other_accuracies(), *self._worse(), self._verdict()])

    def _other_accuracies(self) -> list[str]:
        """Which accuracies are not how often the most probable class is the right one, in a line."""
        named: dict[str, list[str]] = {}
        for row in self.rows:
            if row.loss in _ACCURACIES:
                named.setdefault(_ACCURACIES[row.loss], []).append(row.source)
        said = "; ".join(f"{', '.join(sources)}: {what}" for what, sources in named.items())
        return [f"accuracy of {said}"] if said else []

    def _worse(self) -> list[str]:
        """Which sources training took from what it began with, in a line: no state of before is kept."""
        worse = [row.source for row in self.rows if row.after > row.before]
        return [f"worse than before the training: {', '.join(worse)}"] if worse else []

    def _verdict(self) -> str:
        """Which sources are better than the baseline, in a sentence."""
        few = [row.source for row in self.rows if row.learnt is None]
        nothing = f"nothing can be said of {', '.join(few)}: fewer than {LEAST_TRACKS} validation tracks"
        sure = [row for row in self.rows if row.learnt is not None]
        if not sure:
            return nothing
        learnt = [row for row in sure if row.learnt]
        close = [f"{row.source} ({row.tracks})" for row in sure if row.is_better and not row.learnt]
        behind = [row.source for row in sure if not (row.is_better or row.learnt)]
        said = f"{len(learnt)} of {len(sure)} sources beat the baseline, the best constant prediction"
        if any(row.gain for row in sure):
            said += ", beyond the 95% interval"
        if close:
            said += f"; better, but within the interval: {', '.join(close)}"
        if behind:
            said += f"; not {', '.join(behind)}"
        return f"{said}; {nothing}" if few else said


def _interval(row: SummaryRow) -> str:
    if row.interval is None:
        return ""
    low, high = row.interval
    return f"  [{low:.3f}, {high:.3f}]"
