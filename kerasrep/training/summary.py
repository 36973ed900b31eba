"""What a training reached, beside the best constant prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


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
            this one's where the sources share nothing.
    """

    source: str
    before: float
    after: float
    mean_target: float
    accuracy: float
    mean_target_accuracy: float
    best_epoch: int

    @property
    def per_cent(self) -> float:
        """Loss as a percentage of the baseline's; below 100 something was learnt."""
        return 100.0 * self.after / max(self.mean_target, 1e-9)

    @property
    def learnt(self) -> bool:
        """Whether it is better than the baseline; `self` by accuracy, the others by loss."""
        if self.source == "self":
            return self.accuracy > self.mean_target_accuracy
        return self.after < self.mean_target


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
        sources = {row.source: {**_without_name(row), "per_cent": row.per_cent} for row in self.rows}
        return {"epochs": self.epochs, "sources": sources}

    def table(self) -> str:
        """Text for the terminal."""
        width = max(8, *(len(row.source) for row in self.rows))
        lines = [
            f"validation loss ({self.kept} of {self.epochs} epochs)",
            f"{'source':<{width}} {'before':>8} {'after':>8} {'baseline':>12} {'after/base':>11} "
            f"{'top-1':>7} {'mean':>6} {'epoch':>6}",
        ]
        for row in self.rows:
            lines.append(
                f"{row.source:<{width}} {row.before:8.3f} {row.after:8.3f} {row.mean_target:12.3f} "
                f"{row.per_cent:10.1f}% {row.accuracy:7.3f} {row.mean_target_accuracy:6.3f} "
                f"{row.best_epoch:6d}"
            )
        behind = [row.source for row in self.rows if not row.learnt]
        beaten = f"{len(self.rows) - len(behind)} of {len(self.rows)} sources beat the baseline"
        lines.append(
            f"{beaten}, the best constant prediction" + (f"; not {', '.join(behind)}" if behind else "")
        )
        return "\n".join(lines)


def _without_name(row: SummaryRow) -> dict[str, float]:
    values = asdict(row)
    del values["source"]
    return values
