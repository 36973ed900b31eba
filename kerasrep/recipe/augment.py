"""The section `augment` of a recipe: how crops are changed in training. Everything is off by default.

What changes a crop is drawn anew for each crop of each step, from the recipe's seed and the number of the
step, so that a training that is resumed sees what it would have seen.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kerasrep.recipe.base import ImpossibleSetting, Settings

Decibels = Annotated[float, Field(ge=-120, le=60)]
Range = Annotated[tuple[Decibels, Decibels], Field(strict=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
#: In the order in which they are applied.
AugmentationName = Literal["slow", "gain", "mix", "noise", "swap", "mono", "equaliser", "band_limit", "masks"]
#: Those that both crops of a pair may have alike.
AlikeName = Literal["slow", "gain", "swap", "mono", "equaliser", "band_limit", "masks"]


class AugmentSettings(Settings):
    """Random changes of a crop, in the order in which they are made.

    Attributes:
        slow: Share of the crops that are played slower, as a record is: lower as well as longer.
        slow_least: The lowest speed; uniform from there to 1.
        gain_db: Lowest and highest gain; uniform in between. The crop is not clipped.
        mix: Share of the crops that another crop of the batch is added to.
        mix_db: Lowest and highest level of what is added, relative to its own.
        noise: Share of the crops that white noise is added to.
        noise_db: Lowest and highest level of the noise, relative to the crop's power.
        swap: Share of the crops whose channels are swapped.
        mono: Share of the crops whose channels are both replaced by their mean. Copies in mono are then found
            more often, and who made a recording is heard far worse (docs/starter-data.md).
        equaliser: Share of the crops that a smooth random curve is added to, in decibels over mel bands.
        equaliser_db: Standard deviation of the curve at its knots.
        equaliser_knots: Knots over all mel bands, linear in between.
        band_limit: Share of the crops that lose everything above a random mel band, as a codec does.
        band_limit_lowest: Lowest such band, as a part of all bands.
        masks: Stripes in time and as many in frequency that are set to the band's mean.
        mask_width: Widest stripe, as a part of all frames or bands.
        alike: Changes that both crops of a pair of `self` have alike, such as `[mono]`, so that it is not
            taught to hear past them while labels are learnt with them.
        leave_out: Source -> changes that its labels do not survive, such as `{loudness: [gain]}`. In a joint
            step, where all sources see the same crops, a crop that has a label of it is spared them.
    """

    slow: Probability = 0.0
    slow_least: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    gain_db: Range = (0.0, 0.0)
    mix: Probability = 0.0
    mix_db: Range = (-20.0, -6.0)
    noise: Probability = 0.0
    noise_db: Range = (-60.0, -30.0)
    swap: Probability = 0.0
    mono: Probability = 0.0
    equaliser: Probability = 0.0
    equaliser_db: Annotated[float, Field(ge=0, le=30)] = 4.0
    equaliser_knots: Annotated[int, Field(ge=2, le=32)] = 6
    band_limit: Probability = 0.0
    band_limit_lowest: Annotated[float, Field(gt=0, le=1)] = 0.6
    masks: Annotated[int, Field(ge=0, le=8)] = 0
    mask_width: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    alike: Annotated[tuple[AlikeName, ...], Field(strict=False)] = ()
    leave_out: dict[str, Annotated[tuple[AugmentationName, ...], Field(strict=False)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _ordered(self) -> AugmentSettings:
        for name in ("gain_db", "mix_db", "noise_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ImpossibleSetting(
                    f"{low:g} to {high:g} is not a range; the lower bound comes first", f"augment.{name}"
                )
        return self

    def names(self, sources: tuple[str, ...] = ()) -> tuple[AugmentationName, ...]:
        """Changes that are on where crops of these sources are read, in the order in which they are made."""
        on: dict[AugmentationName, bool] = {
            "slow": self.slow > 0,
            "gain": self.gain_db != (0.0, 0.0),
            "mix": self.mix > 0,
            "noise": self.noise > 0,
            "swap": self.swap > 0,
            "mono": self.mono > 0,
            "equaliser": self.equaliser > 0,
            "band_limit": self.band_limit > 0,
            "masks": self.masks > 0,
        }
        left_out = {name for source in sources for name in self.leave_out.get(source, ())}
        return tuple(name for name, wanted in on.items() if wanted and name not in left_out)
