"""What all sections of a recipe are made of: names, paths, and how they refuse what cannot be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SourceName = Literal["self", "bpm", "year", "taste", "tag", "lyrics", "cdr_tag", "artist"]
#: What labels become. `same` and `contrast` need no labels: they are those of `self`.
TargetKind = Literal["topics", "mixture", "classes", "labels", "number", "vector", "same", "contrast"]
#: What a source is learnt by: Kullback-Leibler divergence to a distribution, sigmoid cross-entropy, squared
#: error, cosine distance, or contrast of two crops of a track with all others of the batch.
LossName = Literal["divergence", "sigmoid", "squared", "cosine", "contrast"]
#: Blocks of a trunk, in the order of the data.
BlockName = Literal["conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "conv7", "fc"]
TrunkName = Literal["published", "residual"]
StrategyName = Literal["ss-r", "mss-cr", "ms-cr@2", "ms-cr@4", "ms-cr@6", "ms-sr@fc"]
FileName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="up to 100 letters, digits, '.', '_' and '-', the first a letter or digit",
    ),
]
PathText = Annotated[str, Field(pattern=r"^[^\x00\r\n]+$", description="a path")]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class ImpossibleSetting(ValueError):  # noqa: N818 (a finding that pydantic collects, not an error to catch)
    """Settings that are each allowed, but not together.

    Attributes:
        keys: Dotted keys that contradict each other; the message is about the first.
    """

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(f"{keys[0]}: {message}")
        self.keys = keys


class Settings(BaseModel):
    """Base of all sections: immutable, no unknown keys, no silent conversion, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
