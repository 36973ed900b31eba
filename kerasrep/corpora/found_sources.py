"""Recipes that learn from whatever tags a folder's files have: which sources, and in which batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping

from kerasrep.corpora import open_corpus
from kerasrep.corpora.base import Corpus
from kerasrep.data.shard_decoding import AudioItem, expected_samples
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import FolderCorpus
from kerasrep.recipe.schema import Recipe
from kerasrep.report.wording import counted
from kerasrep.runtime.console import is_quiet
from kerasrep.runtime.native_messages import silenced
from kerasrep.runtime.threads import core_count, in_order
from kerasrep.sources.labels import RawLabels, say_the_same

#: Training tracks that an optional source needs.
LEAST_TRACKS = 8


def with_found_sources(recipe: Recipe, say: Callable[[str], None]) -> Recipe:
    """The recipe without those of its optional sources that the corpus has too few labels of.

    A batch of more segments than there are training tracks is halved until it fits.

    Args:
        recipe: One without optional sources is given back as it is.
        say: Told what will be learnt, what not and why, and whether the batch was halved.

    Returns:
        A recipe none of whose sources is optional.

    Raises:
        DataError: Where the corpus cannot be used, or no source is left.
    """
    if not isinstance(recipe.corpus, FolderCorpus):
        return recipe
    tables = recipe.corpus.tables
    optional = [source for source in tables if recipe.corpus.table(source).optional]
    if not optional:
        return recipe
    corpus = open_corpus(recipe.corpus, progress=not is_quiet())
    reasons = {source: reason for source in optional if (reason := _why_not(source, corpus))}
    found = _without(recipe, reasons)
    learnt = ", ".join(
        f"{source} ({found.kind_of(source)}{_extent(source, corpus)})" for source in found.sources
    )
    say(f"learns: {learnt}")
    if reasons:
        say("left out: " + ", ".join(f"{source} ({reason})" for source, reason in reasons.items()))
    if found.sources == ("self",) and found.model.start is not None:
        say(
            "note: without labels, training may make similar tracks harder to find; compare with "
            f"kerasrep-embed --model {found.model.start}, which needs none"
        )
    return _with_fitting_batch(found, _usable(found, corpus, say), say)


def _usable(recipe: Recipe, corpus: Corpus, say: Callable[[str], None]) -> int:
    """Training tracks that have a segment, as their headers say."""
    items = [AudioItem(one.track_id, one.path, one.split) for one in corpus.tracks if one.split == "train"]
    with silenced():
        found = list(in_order(lambda item: expected_samples(item, recipe.audio), items, core_count()))
    bad = [(item, reason) for item, reason in zip(items, found, strict=True) if isinstance(reason, str)]
    if bad:
        (item, reason), n_bad = bad[0], counted(len(bad), "training track")
        say(f"note: {n_bad} of {len(items):,} cannot be used; the first, {item.path}: {reason}")
    return len(items) - len(bad)


def _with_fitting_batch(recipe: Recipe, n_tracks: int, say: Callable[[str], None]) -> Recipe:
    """The recipe with a batch of at most `n_tracks` segments, where halving leads to one that is possible."""
    values = recipe.as_dict()
    size = asked = recipe.batches.size
    while size > n_tracks and size % 2 == 0:
        size //= 2
    values["batches"] |= {"size": size}
    if size == asked or size > n_tracks:
        return recipe
    with contextlib.suppress(ValueError):  # such as a batch of 2 for `self`; training then says what is wrong
        recipe = Recipe.model_validate(values)
        say(f"batches.size: {size} instead of {asked}, as there are {counted(n_tracks, 'training track')}")
    return recipe


def _why_not(source: str, corpus: Corpus) -> str | None:
    """Why a source cannot be learnt, if so."""
    if source in corpus.missing:
        return corpus.missing[source]
    labels = corpus.labels[source]
    counts = _tracks(labels, corpus)
    if counts["train"] < LEAST_TRACKS:
        return f"{counts['train']} training tracks have it, {LEAST_TRACKS} are needed"
    if not counts["validation"] and getattr(getattr(labels, "stretches", None), "kind", "") != "classes":
        return "no validation track has it"
    return "all tracks that have it say the same" if say_the_same(labels) else None


def _tracks(labels: RawLabels, corpus: Corpus) -> Mapping[str, int]:
    """Split -> labelled tracks."""
    labelled = frozenset(labels.track_ids)
    counts = dict.fromkeys(("train", "validation", "evaluation"), 0)
    for track in corpus.tracks:
        counts[track.split] += track.track_id in labelled
    return counts


def _extent(source: str, corpus: Corpus) -> str:
    """On how much a source is learnt, for people."""
    if source not in corpus.labels:
        return ""
    labels = corpus.labels[source]
    terms = getattr(labels, "terms", ())
    different = f", {len(terms)} different" if terms else ""
    return f"{different}, {_tracks(labels, corpus)['train']} training tracks"


def _without(recipe: Recipe, sources: Collection[str]) -> Recipe:
    """The recipe without some sources, and without what it says of them."""
    kept = [source for source in recipe.sources if source not in sources]
    if not kept:
        raise DataError(
            f"sources: none of {', '.join(recipe.sources)} can be learnt from the tags; add 'self', which "
            "needs none"
        )
    values = recipe.as_dict()
    corpus, training = values["corpus"], values["training"]
    mappings = (corpus["tables"], values["targets"]["sizes"], values["augment"]["leave_out"])
    for by_source in (*mappings, training["source_weights"], training["class_weights"]):
        for source in sources:
            by_source.pop(source, None)
    for table in corpus["tables"].values():
        if isinstance(table, dict):
            table["optional"] = False
    values["sources"] = kept
    if len(kept) == 1:
        values["strategy"] = "ss-r"
    return Recipe.model_validate(values)
