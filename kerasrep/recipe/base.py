"""What all sections of a recipe are made of: names, paths, and how they refuse what cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kerasrep import constants
from kerasrep.errors import RecipeError
from kerasrep.storage.segment_vector import layers_text, parse_layers

#: One of the paper's eight, or a source of one's own.
SourceName = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description=f"one of {', '.join(constants.SOURCES)}, or a name of your own: up to 40 lower-case "
        "letters, digits and '_', the first a letter",
        examples=list(constants.SOURCES),
    ),
]
#: Names that mean something else: in files, in commands, or among the layers of the network.
_RESERVED = re.compile(
    r"last|all|track|tracks|pair|sources|strategy|embedding|embedder|trunk|features|waveform|mel|standardise"
    r"|(shared|together)(_.*)?|(.*_)?(conv[1-7]|fc|pool|head|encoder|logits|embedding)"
)
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


def _known_layers(value: str) -> str:
    try:
        return layers_text(parse_layers(value))
    except RecipeError as error:
        raise ValueError(str(error)) from error


LayersText = Annotated[
    str,
    AfterValidator(_known_layers),
    Field(description="last, all, or some of last, conv1 ... conv7, separated by commas"),
]


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


def is_reserved(name: str) -> bool:
    """Whether a source may not have this name."""
    return _RESERVED.fullmatch(name) is not None


def in_order(sources: Iterable[str]) -> list[str]:
    """The paper's eight first, in its order, then others by their names."""
    names = set(sources)
    return [name for name in constants.SOURCES if name in names] + sorted(names - set(constants.SOURCES))
