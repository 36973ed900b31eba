"""What a table of embeddings holds: how segments are pooled, which branches are kept, what is said of it."""

from __future__ import annotations

import contextlib
import json
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.segments import SegmentStatistics, segment_batches
from kerasrep.errors import DataError, ExportError, RecipeError
from kerasrep.recipe.faults import nearest
from kerasrep.storage.segment_vector import (
    LAST,
    LAYERS,
    SHARED,
    Piece,
    embedding_pieces,
    layers_text,
    parse_layers,
)

MEAN_STD, MEAN, NONE = "mean-std", "mean", "none"
POOLS = (MEAN_STD, MEAN, NONE)
#: Whole recordings are embedded at once, as only baselines can.
WHOLE = "whole"
#: Statistic of a pool -> the first part of its column names.
_STATISTICS = {MEAN_STD: ("mean/", "sd/"), MEAN: ("mean/",), NONE: ("",), WHOLE: ("",)}
MIN_HOP_SECONDS, MAX_HOP_SECONDS = 0.01, 3600.0
FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """The values of one row.

    Attributes:
        model_branches: All branches that the model gives, side by side.
        branches: Those that are kept, in the order of the model.
        pieces: Values of a segment: the embeddings of these branches, then pooled layers.
        pool: `mean-std`, `mean`, or `none` for one row per segment; `whole` where nothing is cut.
        hop_samples: From the beginning of a segment to that of the next one.
        segment_samples: Samples a channel in one segment.
        sample_rate_hz: Of the model.
    """

    model_branches: tuple[str, ...]
    branches: tuple[str, ...]
    pieces: tuple[Piece, ...]
    pool: str
    hop_samples: int
    segment_samples: int
    sample_rate_hz: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of each value: `mean/` and those of all pieces, then `sd/` and them; or theirs alone."""
        of_segment = [column for piece in self.pieces for column in piece.columns]
        return tuple(f"{statistic}{column}" for statistic in _STATISTICS[self.pool] for column in of_segment)

    @property
    def segment_dimension(self) -> int:
        """Values of a segment."""
        return sum(piece.width for piece in self.pieces)

    @property
    def layers(self) -> str:
        """Names of the layers, as `parse_layers` takes them."""
        return layers_text(tuple(dict.fromkeys(piece.layer for piece in self.pieces)))

    @property
    def dimension(self) -> int:
        """Values of a row."""
        return len(_STATISTICS[self.pool]) * self.segment_dimension

    @property
    def hop_seconds(self) -> float:
        """From the beginning of a segment to that of the next one, as it is used."""
        return self.hop_samples / self.sample_rate_hz

    def row(
        self,
        blocks: Iterable[NDArray[np.float32]],
        embed_segments: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """Embed one recording.

        Args:
            blocks: float32 [samples, 2] at `sample_rate_hz`, of any lengths.
            embed_segments: Of the model, the kept pieces alone.

        Returns:
            float32 [dimension].
        """
        statistics = self.new_statistics()
        for segments in segment_batches(blocks, self.segment_samples, hop_samples=self.hop_samples):
            statistics.add(embed_segments(segments))
        return self.pooled(statistics)

    def timed(self, hop_seconds: float | None) -> Layout:
        """The same with one row per segment.

        Args:
            hop_seconds: From the beginning of a segment to that of the next one; by default its length.

        Raises:
            RecipeError: Where there can be no such hop.
        """
        hop = self.segment_samples
        if hop_seconds is not None:
            hop = _hop_samples(hop_seconds, self.sample_rate_hz)
        return replace(self, pool=NONE, hop_samples=hop)

    def new_statistics(self) -> SegmentStatistics:
        """Embeddings of the segments of one recording are added to this."""
        return SegmentStatistics(self.segment_dimension)

    def pooled(self, statistics: SegmentStatistics) -> NDArray[np.float32]:
        """float32 [dimension] of one recording."""
        return statistics.result()[: self.dimension]


def make_layout(
    branches: Sequence[str],
    sample_rate_hz: int,
    segment_samples: int,
    pool: str | None = None,
    hop_seconds: float | None = None,
    sources: Sequence[str] | None = None,
    layers: str | Sequence[str] = LAST,
    pooled: Sequence[Piece] = (),
    baseline_width: int | None = None,
) -> Layout:
    """Check what shall be in a table.

    Args:
        branches: Of the model.
        sample_rate_hz: Of the model.
        segment_samples: Of the model.
        pool: One of `POOLS`; by default `none` where a hop is given, else `mean-std`, of baselines `whole`.
        hop_seconds: From the beginning of a segment to that of the next one; by default its length.
        sources: Branches to keep; by default all.
        layers: `last`, `all`, or some of them; see `parse_layers`.
        pooled: Layers that the model can give beside the embedding.
        baseline_width: Values of a segment, where the model is a baseline.

    Raises:
        RecipeError: Where one of them cannot be.
        ExportError: Where the model cannot give a layer.
    """
    if pool is None:
        pool = NONE if hop_seconds is not None else MEAN_STD if baseline_width is None else WHOLE
    if not isinstance(pool, str) or pool not in (POOLS if baseline_width is None else (*POOLS, WHOLE)):
        raise RecipeError(f"pool {pool!r}: give one of {', '.join(POOLS)}")
    hop_samples = segment_samples if hop_seconds is None else _hop_samples(hop_seconds, sample_rate_hz)
    kept = tuple(branches) if sources is None else _kept(branches, sources)
    pieces = _pieces(kept, parse_layers(layers), pooled)
    if baseline_width is not None:
        pieces = embedding_pieces(kept, baseline_width)
    return Layout(tuple(branches), kept, pieces, pool, hop_samples, segment_samples, sample_rate_hz)


def _pieces(branches: tuple[str, ...], layers: tuple[str, ...], pooled: Sequence[Piece]) -> tuple[Piece, ...]:
    """Embeddings, then layers; of these what the branches have and what they have in common."""
    there = {LAST, *(piece.layer for piece in pooled)}
    if missing := [layer for layer in layers if layer not in there]:
        given = ", ".join(name for name in (LAST, *LAYERS) if name in there)
        raise ExportError(
            f"layers {','.join(missing)}: the model gives {given} alone; export the run again with them"
        )
    all_pieces = (*embedding_pieces(branches), *pooled)
    return tuple(p for p in all_pieces if p.layer in layers and p.branch in {*branches, SHARED})


def _hop_samples(hop_seconds: float, sample_rate_hz: int) -> int:
    """Bounds are compared in samples, so that the hop that a table names, which is rounded, is one again."""
    is_number = isinstance(hop_seconds, numbers.Real) and not isinstance(hop_seconds, bool)
    try:
        samples = float(hop_seconds) * sample_rate_hz if is_number else math.nan
    except OverflowError:  # an enormous int
        samples = math.inf
    shortest, longest = (round(bound * sample_rate_hz) for bound in (MIN_HOP_SECONDS, MAX_HOP_SECONDS))
    hop_samples = round(samples) if math.isfinite(samples) else 0
    if not max(1, shortest) <= hop_samples <= longest:
        said = f"{hop_seconds} s" if is_number else _short(hop_seconds)
        raise RecipeError(f"hop of {said}: give seconds from {MIN_HOP_SECONDS} to {MAX_HOP_SECONDS:.0f}")
    return hop_samples


def _kept(branches: Sequence[str], sources: Sequence[str]) -> tuple[str, ...]:
    """Checked sources in the order of the model."""
    names: list[Any] = [None]
    with contextlib.suppress(TypeError):  # nothing to iterate over
        names = [None] if isinstance(sources, str) else list(sources)
    if not all(isinstance(name, str) for name in names):
        raise RecipeError(f"sources {_short(sources)}: give a list of names")
    if not names:
        raise RecipeError(f"sources: none named; the model has {', '.join(branches)}")
    for source in names:
        if source in branches:
            continue
        if tuple(branches) == (SHARED,):
            raise RecipeError(
                f"source '{source}': the model shares everything up to the embedding (ms-sr@fc), so that "
                "there is one for all sources; leave the sources out"
            )
        meant = nearest(source, branches)
        hint = f"did you mean '{meant}'? " if meant else ""
        raise RecipeError(
            f"source '{source}': the model has no such branch; {hint}it has {', '.join(branches)}"
        )
    return tuple(branch for branch in branches if branch in names)


def _short(value: object) -> str:
    return " ".join(repr(value).split())[:100]


@dataclass(frozen=True)
class About:
    """What is written into a table beside its rows.

    Attributes:
        model: Path of the model, absolute.
        model_fingerprint: See `representations.model_fingerprint`.
        branches: Kept ones, in order.
        model_branches: All that the model has.
        pool: See `Layout`.
        hop_seconds: From the beginning of a segment to that of the next one.
        segment_seconds: Length of a segment.
        sample_rate_hz: Of the model.
        decoder: What decoded the files.
        kerasrep: Version that wrote the table.
        format: Of the table.
        layers: See `Layout`.
        folder: That relative paths begin at, absolute; empty where the table does not say.
    """

    model: str
    model_fingerprint: str
    branches: tuple[str, ...]
    model_branches: tuple[str, ...]
    pool: str
    hop_seconds: float
    segment_seconds: float
    sample_rate_hz: int
    decoder: str
    kerasrep: str
    format: int = FORMAT
    layers: str = LAST
    folder: str = ""

    def settings(self) -> dict[str, Any]:
        """All that changes values: tables of equal settings may be joined."""
        without = {"model", "kerasrep", "folder"}
        return {key: value for key, value in json.loads(self.to_json()).items() if key not in without}

    def to_json(self) -> str:
        """JSON text of all attributes."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str | bytes) -> About:
        """Read what `to_json` wrote.

        Raises:
            DataError: Where it is something else.
        """
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise DataError(f"is in format {found['format']}, not {FORMAT}; embed again")
            return _checked(found)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"says in a damaged form what it was made with ({error}); embed again") from error


def _checked(found: Mapping[str, Any]) -> About:
    """Types matter, as paths and layouts are made of them."""
    found = {"layers": LAST, "folder": "", **found}  # tables of old do not say
    values = {key: found[key] for key in About.__dataclass_fields__}
    for key in ("branches", "model_branches"):
        if not (isinstance(values[key], list) and all(isinstance(item, str) for item in values[key])):
            raise TypeError(f"{key} is not a list of names")
        values[key] = tuple(values[key])
    for key in ("model", "model_fingerprint", "pool", "decoder", "kerasrep", "layers", "folder"):
        if not isinstance(values[key], str):
            raise TypeError(f"{key} is not text")
    for key in ("hop_seconds", "segment_seconds", "sample_rate_hz"):
        if isinstance(values[key], bool) or not isinstance(values[key], int | float):
            raise TypeError(f"{key} is not a number")
    return About(**values)
