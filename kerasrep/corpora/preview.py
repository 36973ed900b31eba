"""What `prepare` would find, without making anything."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kerasrep.corpora import open_corpus
from kerasrep.corpora.base import Corpus
from kerasrep.corpora.prepare import check_labels, folders_of, items_of
from kerasrep.data.audio import read_header, require_decoder
from kerasrep.data.shard_decoding import MAX_TRACK_SECONDS
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import FolderCorpus
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime.native_messages import silenced
from kerasrep.sources.labels import StretchLabels
from kerasrep.storage.run_directory import PreparedDirectory

#: Files whose lengths stand for those of all.
SAMPLED_FILES = 30


@dataclass(frozen=True)
class Preview:
    """What there is, and what can be expected.

    Attributes:
        prepared: The folder, where it is complete already.
        training_tracks: How many to expect otherwise; `None` where only reading the corpus could tell.
        notices: What people must know of the labels.
        seconds: Of the audio that will be decoded, estimated from some of its files; `None` where none tells.
        sizes: Source -> dimension of its target, where the labels say it by themselves.
    """

    prepared: PreparedDirectory | None
    training_tracks: int | None
    notices: Sequence[str] = ()
    seconds: float | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)


def preview(recipe: Recipe) -> Preview:
    """Say what `prepare` would find, without building a corpus or decoding audio.

    Raises:
        DataError: Where the corpus cannot be used, or lacks a source of the recipe.
    """
    require_decoder(recipe.audio.decoder)
    corpus_settings = recipe.corpus
    if corpus_settings.name == "demo":
        from kerasrep.corpora.demo import demo_is_cached

        if not demo_is_cached(corpus_settings):
            learning = corpus_settings.tracks * 2 / 3
            training = round(learning * (1 - corpus_settings.validation_fraction))
            return Preview(None, training, seconds=learning * corpus_settings.track_seconds)
    corpus = open_corpus(corpus_settings, progress=False)
    check_labels(corpus, recipe.sources)
    directory = folders_of(corpus, recipe.audio, recipe.targets, recipe.seed).directory
    if directory.manifest.exists():
        return Preview(directory, None, corpus.notices)
    sizes = {}
    if isinstance(corpus_settings, FolderCorpus):  # whose labels are read by now
        labels = [(source, corpus.labels[source]) for source in recipe.sources if source != "self"]
        sizes = {source: raw.stretches.size for source, raw in labels if isinstance(raw, StretchLabels)}
    return Preview(None, corpus.n_training, corpus.notices, _expected_seconds(corpus), sizes)


def _expected_seconds(corpus: Corpus) -> float | None:
    """Length of all audio that will be decoded, as some of its files say."""
    items = items_of(corpus)
    lengths = []
    with silenced():
        for item in items[:: max(1, len(items) // SAMPLED_FILES)]:
            with contextlib.suppress(DataError, OSError):
                lengths.append(min(read_header(item.path).seconds, MAX_TRACK_SECONDS))
    return float(np.mean(lengths)) * len(items) if lengths else None
