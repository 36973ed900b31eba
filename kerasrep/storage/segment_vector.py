"""What the vector of a segment is made of: the embedding, and pooled outputs of the layers before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kerasrep import constants
from kerasrep.errors import RecipeError

LAST, ALL = "last", "all"
#: Convolution blocks, in order.
LAYERS = tuple(f"conv{number}" for number in range(1, 8))
#: Stands for a branch where all sources have one in common.
SHARED = "shared"


@dataclass(frozen=True)
class Piece:
    """Values of one layer in one branch, side by side in the vector of a segment.

    Attributes:
        layer: `last`, the embedding; or `conv1` ... `conv7`: of each channel of the block's output the mean
            over frames and bands, then of each the maximum over frames of the mean over bands.
        branch: Its name, or `shared`.
        width: Values; of a block twice its channels.
    """

    layer: str
    branch: str
    width: int

    @property
    def stem(self) -> str:
        """Name of the model's output that has this layer of all branches, side by side."""
        return "embedding" if self.layer == LAST else f"layer_{self.layer}"

    @property
    def output(self) -> str:
        """Name of the model's output that has these values alone."""
        return self.stem if self.branch == SHARED else f"{self.stem}_{self.branch}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of each value: `BRANCH/0` ..., or `BRANCH/conv3/mean/0` ... and `BRANCH/conv3/max/0` ..."""
        if self.layer == LAST:
            return tuple(f"{self.branch}/{number}" for number in range(self.width))
        return tuple(
            f"{self.branch}/{self.layer}/{of}/{number}"
            for of in ("mean", "max")
            for number in range(self.width // 2)
        )


def embedding_pieces(branches: Sequence[str], width: int = constants.EMBEDDING_SIZE) -> tuple[Piece, ...]:
    """The embeddings of branches, which every model gives; those of baselines have widths of their own."""
    return tuple(Piece(LAST, branch, width) for branch in branches)


def whole_outputs(widths: Mapping[str, int]) -> dict[str, int]:
    """The outputs of a model that have all branches side by side, in the order of the network.

    Args:
        widths: Name -> values.
    """
    names = [Piece(layer, SHARED, 0).output for layer in (LAST, *LAYERS)]
    return {name: widths[name] for name in names if name in widths}


def parse_layers(layers: str | Sequence[str]) -> tuple[str, ...]:
    """Names of layers in the order of the network, `last` before all others.

    Args:
        layers: `last`, `all`, or some of them: `conv3,conv5`, `last,conv5`, or a list.

    Raises:
        RecipeError: Where one is unknown, or none is named.
    """
    known = (LAST, *LAYERS)
    named = layers.split(",") if isinstance(layers, str) else layers
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        raise RecipeError(f"layers {layers!r:.100}: give a list of names")
    names = {name.strip() for name in named} - {""}
    if not names or (unknown := names - {ALL, *known}):
        wrong = sorted(unknown)[0] if names else ""
        raise RecipeError(f"layers '{wrong}': give {LAST}, {ALL}, or some of {', '.join(known)}")
    return tuple(name for name in known if ALL in names or name in names)


def layers_text(layers: Sequence[str]) -> str:
    """Layers in the shortest form that `parse_layers` takes."""
    return ALL if tuple(layers) == (LAST, *LAYERS) else ",".join(layers)
