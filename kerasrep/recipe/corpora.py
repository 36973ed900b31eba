"""The section `corpus` of a recipe: where the tracks come from, one class a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kerasrep.recipe.base import Fraction, PathText, Settings, SourceName


class DemoCorpus(Settings):
    """The embedded corpus: real scores rendered to audio.

    Attributes:
        tracks: How many tracks to render, the third reserved for evaluation included.
        track_seconds: Length of a track.
        collections: Names of the collections to take; `None` takes all whose terms allow any use.
        validation_fraction: Part of the tracks not reserved that is held out for validation.
        seed: Draws instruments, tempi and keys; independent of the recipe's seed.
    """

    name: Literal["demo"] = "demo"
    tracks: Annotated[int, Field(ge=24, le=20_000)] = 600
    track_seconds: Annotated[float, Field(ge=5, le=600)] = 30.0
    collections: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class LabelTable(Settings):
    """A table of labels whose columns have names of their own.

    Attributes:
        path: CSV, TSV or Parquet file, relative to the corpus's root unless absolute.
        track: Name of the column of tracks.
        value: Name of the column of numbers, for bpm and year.
        item: Name of the column of items, for the other sources.
        weight: Name of the column of weights; without it, a column `weight` is read where there is one.
    """

    path: PathText
    track: PathText = "track"
    value: PathText = "value"
    item: PathText = "item"
    weight: PathText | None = None


class FolderCorpus(Settings):
    """Any folder of audio, with labels in tables.

    Attributes:
        root: The folder; searched at any depth.
        tables: Source name -> CSV, TSV or Parquet file (relative to `root` unless absolute), or a mapping
            with its `path` and the names of its columns. Columns: `track` (path relative to `root`, or
            its stem) and `value` for bpm and year; `track`, `item` and optionally `weight` for the others.
        groups: CSV, TSV or Parquet file with columns `track`, `group`: tracks of a group share a split.
        validation_fraction: Part of the groups held out for validation.
        evaluation_fraction: Part of the groups that nothing trains on.
    """

    name: Literal["folder"]
    root: PathText
    tables: dict[SourceName, PathText | LabelTable] = Field(default_factory=dict)
    groups: PathText | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    evaluation_fraction: Fraction = 0.0


MillionSongFile = Literal[
    "metadata", "tracks", "tempo", "years", "plays", "mismatches", "tags", "lyrics", "genres"
]


class MillionSongCorpus(Settings):
    """The Million Song Dataset with its companions, under one root.

    Attributes:
        root: Folder of the label files, under their published names at any depth; see
            `corpora.million_song`.
        audio: Folder of the audio, named by track id, at any depth; by default `root`.
        files: Label files that lie elsewhere or have other names: which -> path, relative to `root` unless
            absolute.
        validation_fraction: Part of the artists held out for validation.
        seed: Chooses which; independent of the recipe's seed.
    """

    name: Literal["million_song"]
    root: PathText
    audio: PathText | None = None
    files: dict[MillionSongFile, PathText] = Field(default_factory=dict)
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


CorpusSettings = Annotated[DemoCorpus | FolderCorpus | MillionSongCorpus, Field(discriminator="name")]


def corpus_folders(corpus: CorpusSettings) -> list[Path]:
    """Folders that a corpus is read from; none where it is made."""
    if isinstance(corpus, DemoCorpus):
        return []
    audio = corpus.audio if isinstance(corpus, MillionSongCorpus) else None
    return [Path(folder) for folder in (corpus.root, audio) if folder is not None]
