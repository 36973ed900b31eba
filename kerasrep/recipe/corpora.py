"""The section `corpus` of a recipe: where the tracks come from, one class a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from kerasrep import constants
from kerasrep.recipe.base import Fraction, ImpossibleSetting, PathText, Settings, SourceName

TableTarget = Literal["topics", "mixture", "classes", "labels", "number", "vector"]
VectorLoss = Literal["cosine", "squared", "sigmoid", "divergence"]
GroupField = Literal["artist", "albumartist", "album", "composer", "label", "genre", "folder"]
#: Fields of the files' own tags, and what they become unless `target` says otherwise.
TAG_TARGETS: dict[str, TableTarget] = {
    **dict.fromkeys(("artist", "album", "albumartist", "composer", "label", "key"), "classes"),
    **dict.fromkeys(("genre", "language", "comment"), "labels"),
    **dict.fromkeys(("date", "bpm"), "mixture"),
}
STRETCH_TARGETS = ("classes", "labels", "number", "vector")


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
        from_: In recipes `from: tags`: the files' own tags in place of a table; `item` names the field, by
            default that of the source's name (`genre` for tag). `from: jams`: annotations in `song.jams`
            beside `song.flac`; `item` names the namespace, such as `tag_open` or `chord`. `from: mirdata`: a
            data set that mirdata knows, whose folder `root` is; `item` names an attribute of its tracks.
        target: What the labels become; by default a mixture for bpm and year, topics for others; for tags and
            mirdata classes or labels; for JAMS labels, numbers for bpm and year.
        track: Name of the column of tracks; by default `track`, for vectors `path`.
        value: Name of the column of numbers, or of vectors (by default `embedding`).
        item: Name of the column of items, where labels are items; by default `item`.
        weight: Name of the column of weights, for topics; without it, a column `weight` is read where there
            is one.
        start: Name of the column of seconds where a row begins; without it, rows are about whole tracks, for
            vectors where there is no `start_seconds`.
        end: Name of the column of seconds where it ends; for vectors by default `start` and the length of a
            segment, as the table itself says it.
        loss: Of vectors: `cosine` distance, the default; `squared` error of standardised values; or, where
            they are probabilities, cross-entropy: `sigmoid` of labels that are each there or not,
            `divergence` of classes that sum to 1.
        gaps: What is true of a crop that no row overlaps: it is `unknown`, or `negative`: has none of the
            labels.
        min_tracks: Training tracks that a class (by default 4) or label (1) needs, or is left out.
        optional: With `from`: where too few files have labels, the source is left out, which is reported; one
            source alone is then learnt as `ss-r`.
        dataset: Name of the data set, as mirdata calls it, such as `gtzan_genre`.
    """

    model_config = ConfigDict(populate_by_name=True)

    path: PathText | None = None
    from_: Literal["tags", "jams", "mirdata"] | None = Field(default=None, alias="from")
    target: TableTarget | None = None
    track: PathText | None = None
    value: PathText | None = None
    item: PathText | None = None
    weight: PathText | None = None
    start: PathText | None = None
    end: PathText | None = None
    loss: VectorLoss | None = None
    gaps: Literal["unknown", "negative"] = "unknown"
    min_tracks: Annotated[int, Field(ge=1)] | None = None
    optional: bool = False
    dataset: PathText | None = None

    def field_of(self, source: str) -> str:
        """Field of the tags that a source is read from."""
        return self.item or self.value or {"tag": "genre", "year": "date"}.get(source, source)


class TagGroups(Settings):
    """Groups by the files' own tags.

    Attributes:
        from_: In recipes `from: tags`.
        by: A field, or several: the first one that a file has; `folder` is the one that it lies in, below the
            root. Files that have none are each by themselves.
    """

    model_config = ConfigDict(populate_by_name=True)

    from_: Literal["tags"] = Field(alias="from")
    by: GroupField | Annotated[tuple[GroupField, ...], Field(strict=False, min_length=1)] = "artist"

    @property
    def fields(self) -> tuple[str, ...]:
        """Those that are looked for, in order."""
        return (self.by,) if isinstance(self.by, str) else self.by


class Pools(Settings):
    """Kinds of tracks, and the share that each has in every step.

    Attributes:
        path: CSV, TSV or Parquet table of the tracks, relative to the corpus's root unless absolute.
        track: Name of the column of tracks.
        column: Name of the column that says which pool a track is in.
        shares: Pool -> share of the tracks drawn; they sum to 1.
    """

    path: PathText
    track: PathText = "track"
    column: PathText = "pool"
    shares: Annotated[dict[str, Annotated[float, Field(gt=0, le=1)]], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _sum_to_one(self) -> Pools:
        total = sum(self.shares.values())
        if abs(total - 1) > 1e-6:
            raise ImpossibleSetting(f"the shares sum to {total:g}, not to 1", "corpus.pools.shares")
        return self


class FolderCorpus(Settings):
    """Any folder of audio, with labels in tables.

    Attributes:
        root: The folder; searched at any depth.
        tables: Source name -> CSV, TSV or Parquet file (relative to `root` unless absolute), or a mapping
            with its `path`, the names of its columns and what its labels become. Columns: `track` (path
            relative to `root`, or its stem) and `value` where labels are numbers; `track`, `item` and
            optionally `weight` otherwise.
        groups: CSV, TSV or Parquet file with columns `track`, `group`, or `{from: tags, by: artist}`: tracks
            of a group share a split.
        pools: Shares of kinds of tracks in each step; by default every track is as likely.
        validation_fraction: Part of the groups held out for validation.
        evaluation_fraction: Part of the groups that nothing trains on.
    """

    name: Literal["folder"]
    root: PathText
    tables: dict[SourceName, PathText | LabelTable] = Field(default_factory=dict)
    groups: PathText | TagGroups | None = None
    pools: Pools | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    evaluation_fraction: Fraction = 0.0

    @model_validator(mode="after")
    def _possible(self) -> FolderCorpus:
        for source in self.tables:
            _check_table(source, self.table(source))
        return self

    def table(self, source: str) -> LabelTable:
        """Path and columns of the table of a source, and what its labels become."""
        stated = self.tables[source]
        table = stated if isinstance(stated, LabelTable) else LabelTable(path=stated)
        default: TableTarget = "mixture" if source in constants.VALUE_SOURCES else "topics"
        if table.from_ == "jams":
            default = "number" if source in constants.VALUE_SOURCES else "labels"
        elif table.from_ == "mirdata":
            default = "mixture" if source in constants.VALUE_SOURCES else "classes"
        elif table.from_ is not None:
            default = TAG_TARGETS.get(table.field_of(source), "labels")
        return table if table.target else table.model_copy(update={"target": default})


def _check_table(source: str, table: LabelTable) -> None:
    """Raise ImpossibleSetting where the keys of a table contradict each other."""
    key = f"corpus.tables.{source}"
    if table.from_ is None:
        _check_file(key, table)
    else:
        for name in ("path", "track", "weight", "start", "end"):
            if getattr(table, name) is not None:
                raise ImpossibleSetting(
                    f"goes with a table, not with {table.from_}; remove it", f"{key}.{name}"
                )
        checks = {"jams": _check_jams, "mirdata": _check_mirdata, "tags": _check_tags}
        checks[table.from_](key, source, table)
    if table.dataset is not None and table.from_ != "mirdata":
        raise ImpossibleSetting("goes with from: mirdata; remove it", f"{key}.dataset")
    if table.start is None and table.end is not None and table.target != "vector":
        raise ImpossibleSetting("needs the column where rows start; add 'start'", f"{key}.end")
    if table.start is not None and table.target not in STRETCH_TARGETS:
        allowed = ", ".join(STRETCH_TARGETS)
        raise ImpossibleSetting(f"goes with one of the targets {allowed}; add 'target'", f"{key}.start")
    if table.start is not None and table.end is None and table.target != "vector":
        raise ImpossibleSetting("needs the column where rows end; add 'end'", f"{key}.start")
    if table.loss is not None and table.target != "vector":
        raise ImpossibleSetting("goes with target: vector; others have one loss each", f"{key}.loss")
    timed = table.start is not None or table.from_ in ("jams", "mirdata")
    if table.gaps == "negative" and (table.target != "labels" or not timed):
        raise ImpossibleSetting("'negative' goes with labels that have 'start' and 'end'", f"{key}.gaps")


def _check_file(key: str, table: LabelTable) -> None:
    if table.path is None:
        raise ImpossibleSetting(
            "is missing; name a table, or say from: tags, from: jams or from: mirdata", f"{key}.path"
        )
    if table.optional:
        raise ImpossibleSetting("goes with 'from', not with a table; remove it", f"{key}.optional")


def _check_jams(key: str, source: str, table: LabelTable) -> None:
    del source
    if table.item is None:
        raise ImpossibleSetting("is missing; name a namespace such as tag_open", f"{key}.item")
    if table.target not in ("labels", "classes", "number"):
        raise ImpossibleSetting(f"'{table.target}' cannot be made of observations", f"{key}.target")


def _check_mirdata(key: str, source: str, table: LabelTable) -> None:
    del source
    for name, value, example in (("dataset", table.dataset, "gtzan_genre"), ("item", table.item, "genre")):
        if value is None:
            raise ImpossibleSetting(f"is missing; name it, such as {example}", f"{key}.{name}")
    if table.target == "vector":
        raise ImpossibleSetting("'vector' cannot be made of words and numbers", f"{key}.target")


def _check_tags(key: str, source: str, table: LabelTable) -> None:
    field = table.field_of(source)
    if field not in TAG_TARGETS:
        fields = ", ".join(TAG_TARGETS)
        raise ImpossibleSetting(f"tags have no field '{field}'; name one as item: {fields}", f"{key}.item")
    number = field in ("date", "bpm")
    if table.target == "vector" or (table.target in ("number", "mixture") and not number):
        raise ImpossibleSetting(f"'{table.target}' cannot be made of the tag '{field}'", f"{key}.target")


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
