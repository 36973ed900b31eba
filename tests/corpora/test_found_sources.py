"""Recipes that learn from whatever tags there are, on folders with some, none, and useless ones."""

import mutagen
import numpy as np
import pytest
import soundfile

from kerasrep.corpora.folder import open_folder
from kerasrep.corpora.found_sources import with_found_sources
from kerasrep.corpora.preview import preview
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import FolderCorpus
from kerasrep.recipe.schema import BatchSettings, Recipe

N_FILES = 40


def write_folder(root, tags=lambda number: {}, folder=lambda number: ""):
    for number in range(N_FILES):
        path = root / folder(number) / f"{number:02d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(3 * 8000, 0.01 * number), 8000)
        file = mutagen.File(path)
        file.update(tags(number))
        file.save()
    return root


def recipe_of(root, sources=("self", "year", "tag", "artist", "composer"), **corpus):
    optional = {"from": "tags", "optional": True}
    return Recipe.model_validate(
        {
            "name": "own",
            "strategy": "ms-sr@fc",
            "sources": sources,
            "corpus": {
                "name": "folder",
                "root": str(root),
                "tables": {source: dict(optional) for source in sources if source != "self"},
                "groups": {"from": "tags", "by": ["artist", "album", "folder"]},
                "evaluation_fraction": 0.1,
                **corpus,
            },
            "batches": {"size": 16},
            "training": {"source_weights": {sources[-1]: 0.5}},
            "augment": {"leave_out": {sources[-1]: ["gain"]}},
        }
    )


def test_without_any_tag_the_audio_alone_is_learnt_and_the_reasons_are_said(tmp_path):
    lines = []
    found = with_found_sources(recipe_of(write_folder(tmp_path)), lines.append)
    assert (found.sources, found.strategy, found.corpus.tables) == (("self",), "ss-r", {})
    assert (found.training.source_weights, found.augment.leave_out) == ({}, {})
    assert lines[0] == "learns: self (same)"
    assert lines[1].startswith(
        "left out: year (no file has the tag 'date'), tag (no file has the tag 'genre'),"
    )


def test_tags_that_tell_tracks_apart_are_learnt_and_others_left_out(tmp_path):
    def tags(number):
        about = {"artist": f"band {number // 5}", "genre": "rock", "date": str(1970 + number)}
        return about | ({"composer": f"one {number}"} if number < 6 else {})

    recipe, lines = recipe_of(write_folder(tmp_path, tags)), []
    found = with_found_sources(recipe, lines.append)
    assert (found.sources, found.strategy) == (("self", "year", "artist"), "ms-sr@fc")
    assert set(found.corpus.tables) == {"year", "artist"}
    assert "artist (classes, 6 different, 30 training tracks)" in lines[0]
    assert "tag (all tracks that have it say the same)" in lines[1]
    assert "composer (0 of 6 classes have 4 training tracks or more" in lines[1]
    assert with_found_sources(found, lines.append) is found and len(lines) == 2


def test_what_no_validation_track_has_is_left_out(tmp_path):
    root = write_folder(tmp_path, lambda number: {"artist": f"band {number // 5}"})
    splits = {t.track_id: t.split for t in open_folder(recipe_of(root).corpus).tracks}
    for track, split in splits.items():
        if split == "train":
            file = mutagen.File(root / track)
            file.update({"date": str(1950 + int(track[:2]))})
            file.save()
    lines = []
    assert with_found_sources(recipe_of(root), lines.append).sources == ("self", "artist")
    assert "year (no validation track has it)" in lines[1]


def test_nothing_that_can_be_learnt_is_an_error(tmp_path):
    recipe = recipe_of(write_folder(tmp_path), ("year", "artist"))
    with pytest.raises(DataError, match="none of year, artist can be learnt from the tags; add 'self'"):
        with_found_sources(recipe, print)


def corpus_of(root):
    return open_folder(recipe_of(root).corpus)


def test_groups_are_artists_else_albums_else_folders_and_those_kept_apart_are_named(tmp_path):
    def tags(number):
        return {"artist": f"a{number // 4}"} if number < 20 else {"album": "b"} if number < 30 else {}

    corpus = corpus_of(write_folder(tmp_path, tags, lambda number: f"f{number % 2}" if number > 34 else ""))
    by_group = {}
    for track in corpus.tracks:
        by_group.setdefault(track.label, set()).add(track.split)
    assert set(by_group) == {*(f"artist a{n}" for n in range(5)), "album b", "folder f0", "folder f1", ""}
    assert all(len(splits) == 1 for group, splits in by_group.items() if group)
    kept = [track for track in corpus.tracks if track.split == "evaluation"]
    (line,) = [notice for notice in corpus.notices if "kept apart for evaluation" in notice]
    assert f"{len(kept)} track" in line and all(track.label in line for track in kept)


def test_a_group_that_has_most_tracks_is_trained_on_and_one_that_has_all_is_none(tmp_path):
    most = write_folder(tmp_path / "most", lambda number: {"artist": "a" if number > 9 else f"b{number}"})
    assert {t.split for t in corpus_of(most).tracks if t.label == "artist a"} == {"train"}
    corpus = corpus_of(write_folder(tmp_path / "all", folder=lambda number: "music"))
    assert {track.split for track in corpus.tracks} == {"train", "validation", "evaluation"}
    assert any("all files are of one group (folder music)" in notice for notice in corpus.notices)


def test_two_folders_are_too_few_groups_so_that_single_tracks_are_held_out(tmp_path):
    corpus = corpus_of(write_folder(tmp_path, folder=lambda number: f"f{number % 2}"))
    splits = [track.split for track in corpus.tracks]
    assert (splits.count("train"), splits.count("validation"), splits.count("evaluation")) == (32, 4, 4)
    (line,) = [notice for notice in corpus.notices if "single tracks are held out" in notice]
    assert "all files are of 2 groups (folder f0, folder f1)" in line


def test_a_batch_that_is_larger_than_the_training_set_is_halved_until_it_fits(tmp_path):
    recipe, lines = recipe_of(write_folder(tmp_path)), []
    recipe = recipe.model_copy(update={"batches": BatchSettings(size=128)})
    found = with_found_sources(recipe, lines.append)
    assert found.batches.size == 32
    assert lines[-1] == "batches.size: 32 instead of 128, as there are 32 training tracks"


@pytest.mark.parametrize("start", [None, "starter"])
def test_where_no_label_is_found_people_are_told_to_compare_with_the_trunk_it_begins_with(tmp_path, start):
    recipe, lines = recipe_of(write_folder(tmp_path)), []
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"start": start})})
    with_found_sources(recipe, lines.append)
    assert [line for line in lines if "compare with kerasrep-embed --model starter" in line] == lines[2:3] * (
        start is not None
    )
    labelled = write_folder(tmp_path / "labelled", lambda number: {"artist": f"band {number // 5}"})
    recipe = recipe.model_copy(update={"corpus": recipe_of(labelled).corpus})
    with_found_sources(recipe, lines.append)
    assert sum("compare with" in line for line in lines) == (start is not None)


def test_tracks_that_are_too_short_do_not_count_for_the_batch(tmp_path):
    write_folder(tmp_path)
    short = [track for track in corpus_of(tmp_path).tracks if track.split == "train"][:20]
    for number, track in enumerate(short):
        soundfile.write(track.path, np.full(8000, 0.01 * number), 8000)
    lines = []
    found = with_found_sources(recipe_of(tmp_path), lines.append)
    (note,) = [line for line in lines if line.startswith("note:")]
    assert note.startswith("note: 20 training tracks of 32 cannot be used; the first, ")
    assert note.endswith(": 1 s is shorter than a segment of 2.5 s")
    assert found.batches.size == 8 and lines[-1].endswith("8 instead of 16, as there are 12 training tracks")


def test_only_tags_can_be_optional():
    with pytest.raises(ValueError, match=r"corpus\.tables\.tag\.optional: goes with 'from'"):
        FolderCorpus.model_validate(
            {"name": "folder", "root": "x", "tables": {"tag": {"path": "t.csv", "optional": True}}}
        )


def test_a_preview_knows_the_number_of_classes_and_the_length_of_the_audio(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    root = write_folder(tmp_path / "music", lambda number: {"artist": f"band {number // 5}"})
    recipe = with_found_sources(recipe_of(root), lambda line: None)
    (root / "00.mp3").write_bytes(b"ID3\3\0\0\xff\xff\xff\xff" + bytes(2000))  # libmpg123 complains of it
    seen = preview(recipe)
    assert capfd.readouterr().err == ""
    n_tracks = len(open_folder(recipe.corpus).tracks)  # copies may bring those of evaluation into training
    assert (seen.prepared, seen.sizes) == (None, {"artist": 6})
    assert seen.seconds == pytest.approx(n_tracks * 3)
