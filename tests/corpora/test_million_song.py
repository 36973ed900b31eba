"""The Million Song corpus: what is found, how it is split, and that planted groups come out as targets."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3

import numpy as np
import pytest
import soundfile
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import adjusted_mutual_info_score

from kerasrep import constants
from kerasrep.api import prepare
from kerasrep.cli import prepare as prepare_command
from kerasrep.corpora import million_song, open_corpus, stored_labels
from kerasrep.corpora.preview import preview
from kerasrep.data import shard_decoding
from kerasrep.data.shards import load_index
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import MillionSongCorpus
from kerasrep.recipe.schema import Recipe, TargetSettings
from kerasrep.sources.target_files import load_targets
from kerasrep.sources.targets import build_targets
from kerasrep.storage import run_directory

COUNT_SOURCES = constants.COUNT_SOURCES


def settings(root, **changes):
    return MillionSongCorpus(name="million_song", root=str(root), validation_fraction=0.2, **changes)


def recipe_for(root, **sections):
    corpus = {"name": "million_song", "root": str(root), "validation_fraction": 0.2}
    values = {"name": "t", "strategy": "mss-cr", "sources": list(constants.SOURCES), "corpus": corpus}
    return Recipe.model_validate(values | {"batches": {"size": 8}, "targets": {"size": 3}} | sections)


@pytest.fixture
def copied(small_root, tmp_path, monkeypatch):
    """The small root, to be changed, and a home of its own."""
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    shutil.copytree(small_root.root, tmp_path / "msd")
    return tmp_path / "msd"


def agreement(labels, planted, source):
    """Adjusted mutual information of each track's likeliest topic with its planted group."""
    made = build_targets({source: labels}, planted.track_ids, TargetSettings(size=planted.n_groups), 0)
    group = dict(zip(planted.track_ids, planted.groups[source], strict=True))
    targets = made.sources[source]
    assert len(targets.track_ids) == len(planted.track_ids)
    found = targets.target.argmax(axis=1)
    return adjusted_mutual_info_score([group[track] for track in targets.track_ids], found)


def test_planted_groups_are_recovered_from_every_count_source(planted_root):
    labels = open_corpus(settings(planted_root.root)).labels
    for source in COUNT_SOURCES:
        assert agreement(labels[source], planted_root, source) > 0.9, source


def test_nothing_is_recovered_where_nothing_was_planted(tmp_path, make_million_song_root):
    control = make_million_song_root(tmp_path / "control", n_tracks=2000, with_audio=10, planted=False)
    labels = open_corpus(settings(control.root)).labels
    for source in COUNT_SOURCES:
        assert abs(agreement(labels[source], control, source)) < 0.03, source


def test_labels_are_those_that_were_written(planted_root):
    labels = open_corpus(settings(planted_root.root)).labels
    row = {track: number for number, track in enumerate(planted_root.track_ids)}
    for source, written in (("year", planted_root.years), ("bpm", planted_root.bpm)):
        assert labels[source].values.tolist() == [written[row[t]] for t in labels[source].track_ids]
    taste = labels["taste"]
    for number in (0, 7, 4999):
        track = planted_root.track_ids[number]
        document = taste.documents[list(taste.track_ids).index(track)]
        found = taste.counts[document].tocoo()
        plays = {int(taste.terms[user], 16): count for user, count in zip(found.col, found.data, strict=True)}
        assert plays == planted_root.draws["taste"][number]


def test_the_artist_source_adds_up_the_tags_of_an_artists_tracks(small_root):
    labels = open_corpus(settings(small_root.root)).labels
    tags, artist = labels["tag"], labels["artist"]
    by_artist = {}
    for row, track in enumerate(tags.track_ids):
        who = small_root.artists[list(small_root.track_ids).index(track)]
        by_artist[who] = by_artist.get(who, 0) + tags.counts[row].toarray()[0]
    assert len(artist.track_ids) == len(small_root.track_ids)
    assert artist.counts.shape[0] == len(by_artist)
    for track, document in zip(artist.track_ids, artist.documents, strict=True):
        who = small_root.artists[list(small_root.track_ids).index(track)]
        np.testing.assert_allclose(artist.counts[document].toarray()[0], by_artist[who])


def test_lyrics_of_the_database_and_of_the_text_are_the_same_tf_idf(small_root, tmp_path):
    database = open_corpus(settings(small_root.root)).labels["lyrics"]
    text = "text/mxm_dataset_train.txt"
    from_text = open_corpus(settings(small_root.root, files={"lyrics": text})).labels["lyrics"]
    assert list(database.track_ids) == list(from_text.track_ids) == list(small_root.track_ids)
    np.testing.assert_allclose(database.counts.toarray(), from_text.counts.toarray())
    counts = np.zeros(database.counts.shape)
    for row, drawn in enumerate(small_root.draws["lyrics"]):
        for term, count in drawn.items():
            counts[row, term] = count
    np.testing.assert_allclose(
        database.counts.toarray(), TfidfTransformer().fit_transform(counts).toarray(), rtol=1e-5
    )


def test_one_artist_never_stands_on_both_sides(small_root):
    corpus = open_corpus(settings(small_root.root))
    splits = {}
    for track in corpus.tracks:
        splits.setdefault(small_root.artists[list(small_root.track_ids).index(track.track_id)], set()).add(
            track.split
        )
    assert all(len(found) == 1 for found in splits.values())
    held_out = [artist for artist, found in splits.items() if found == {"validation"}]
    assert len(held_out) == round(0.2 * len(splits))
    again = {t.track_id: t.split for t in open_corpus(settings(small_root.root)).tracks}
    assert again == {t.track_id: t.split for t in corpus.tracks}
    other = {t.track_id: t.split for t in open_corpus(settings(small_root.root, seed=1)).tracks}
    assert other != again


def test_tracks_are_the_audio_named_by_track_id_with_title_and_artist(small_root):
    tracks = open_corpus(settings(small_root.root)).tracks
    assert [track.track_id for track in tracks] == sorted(small_root.track_ids[:60])
    number = list(small_root.track_ids).index(tracks[0].track_id)
    assert (tracks[0].title, tracks[0].artist) == (f"Title {number}", f"Artist {small_root.artists[number]}")


def test_audio_of_other_names_or_there_twice_is_skipped_with_the_reason(copied, small_root):
    first = next(copied.glob("audio/*/*/*.mp3"))
    shutil.copy(first, copied / "audio" / "song.mp3")
    shutil.copy(first, copied / f"{first.stem}.clip.mp3")
    corpus = open_corpus(settings(copied))
    assert len(corpus.tracks) == 60
    reasons = {path.rsplit("/", 1)[-1]: reason for path, reason in corpus.skipped.items()}
    assert reasons["song.mp3"] == "name is not a track id"
    assert sum("track is there already" in reason for reason in reasons.values()) == 1


def test_names_stand_in_where_no_file_gives_artist_ids(copied, small_root):
    (copied / "track_metadata.db").unlink()
    corpus = open_corpus(settings(copied))
    splits = {}
    for track in corpus.tracks:
        splits.setdefault(track.artist, set()).add(track.split)
    assert all(len(found) == 1 for found in splits.values()) and "" not in splits
    assert set(corpus.labels) == set(constants.SOURCES) - {"self"}


def test_without_any_list_of_artists_tracks_are_split_singly_and_that_is_said(copied):
    (copied / "track_metadata.db").unlink()
    (copied / "unique_tracks.txt").unlink()
    corpus = open_corpus(settings(copied))
    assert sum(track.split == "validation" for track in corpus.tracks) == 12
    assert any("60 of 60 tracks have no known artist" in notice for notice in corpus.notices)
    assert set(corpus.missing) == {"taste", "artist"}


def test_a_missing_file_is_said_and_refused_only_where_a_source_needs_it(copied):
    (copied / "CDR_genre.zip").unlink()
    (copied / "mxm_dataset.db").unlink()
    shutil.rmtree(copied / "text")
    corpus = open_corpus(settings(copied))
    assert set(corpus.labels) == {"bpm", "year", "taste", "tag", "artist"}
    assert any("no labels for lyrics, cdr_tag" in notice for notice in corpus.notices)
    with pytest.raises(DataError, match=r"source 'lyrics' has no.*looked for mxm_dataset\.db or mxm_data"):
        prepare(recipe_for(copied), progress=False)
    prepare(recipe_for(copied, sources=["self", "tag", "year"]), progress=False)


def test_the_fingerprint_changes_with_audio_splits_and_label_files(copied):
    seen = [open_corpus(settings(copied)).fingerprint]
    assert open_corpus(settings(copied)).fingerprint == seen[0]
    seen.append(open_corpus(settings(copied, seed=3)).fingerprint)
    for path in (next(copied.glob("audio/*/*/*.mp3")), copied / "tracks_per_year.txt"):
        with path.open("ab") as file:
            file.write(b"\n")
        seen.append(open_corpus(settings(copied)).fingerprint)
    (copied / "sid_mismatches.txt").unlink()
    seen.append(open_corpus(settings(copied)).fingerprint)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"tags": "nowhere.db"}}, r"nowhere\.db: does not exist; correct corpus\.files\.tags"),
        ({"audio": "nowhere"}, r"nowhere: is not a folder; set corpus\.audio"),
        ({"audio": "text"}, r"text: holds no audio named by track id, such as TR"),
    ],
    ids=str,
)
def test_what_is_not_there_is_told_in_one_line(copied, change, message):
    with pytest.raises(DataError, match=message):
        open_corpus(settings(copied, **change))


def test_a_label_file_that_stands_twice_is_refused_unless_one_is_named(copied):
    (copied / "old").mkdir()
    shutil.copy(copied / "lastfm_tags.db", copied / "old")
    with pytest.raises(DataError, match=r"stands at .*old/lastfm_tags\.db as well.*corpus\.files\.tags"):
        open_corpus(settings(copied))
    open_corpus(settings(copied, files={"tags": "lastfm_tags.db"}))


def test_label_files_are_read_once_and_again_when_they_change(copied, monkeypatch):
    before = open_corpus(settings(copied))
    before.labels.read_all()
    with monkeypatch.context() as patch:
        patch.setattr(million_song.labels, "read_plays", None)
        again = open_corpus(settings(copied)).labels["taste"]
    assert (again.counts != before.labels["taste"].counts).nnz == 0
    assert list(again.terms) == list(before.labels["taste"].terms)
    with (copied / "tracks_per_year.txt").open("a") as file:
        file.write("1955<SEP>TRZZZZZ128F0000000<SEP>a<SEP>b\n")
    skipped, notices = open_corpus(settings(copied)).labels.read_all()
    assert skipped == {str(copied / "tracks_per_year.txt"): {"name an unknown track": 1}}
    assert notices == [
        f"{copied / 'tracks_per_year.txt'}: not used as they stand: "
        "1 lines that name an unknown track (first: line 81)"
    ]


def test_what_the_lists_of_tracks_repeat_is_counted_once(copied, small_root):
    with (copied / "unique_tracks.txt").open("a") as file:
        file.write(f"{small_root.track_ids[0]}<SEP>SOAAAAA12AB0000000<SEP>a<SEP>b\n")
    prepared = prepare(recipe_for(copied), progress=False)
    corpus = json.loads(prepared.manifest.read_text())["corpus"]
    path = copied / "unique_tracks.txt"
    assert corpus["skipped_labels"] == {str(path): {"repeat a track (the first counts)": 1}}
    assert sum(str(path) in notice for notice in corpus["notices"]) == 1


def test_the_lack_of_the_list_of_mismatches_is_said(copied):
    (copied / "sid_mismatches.txt").unlink()
    (notice,) = open_corpus(settings(copied)).notices
    assert "no sid_mismatches.txt was found" in notice


def test_a_damaged_store_of_labels_is_told(copied):
    open_corpus(settings(copied)).labels.read_all()
    for path in (run_directory.home() / "labels").glob("*/labels.npz"):
        path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match=r"labels\.npz: is not a usable NPZ file .*delete it"):
        open_corpus(settings(copied)).labels["tag"]


def test_the_command_prepares_a_root_from_end_to_end(copied, small_root, capsys):
    """60 tracks of MP3 with 3 s each, all eight sources; one play of a mismatched song, one unknown."""
    mismatched = small_root.track_ids[3]
    with (copied / "sid_mismatches.txt").open("a") as file:
        file.write(f"ERROR: <{small_root.song_of(mismatched)} {mismatched}> A  -  B  !=  C  -  D\n")
    path = copied.parent / "recipe.yaml"
    path.write_text(json.dumps(recipe_for(copied).as_dict()))
    assert prepare_command.main([str(path)]) == 0
    printed = capsys.readouterr().out
    n_mismatched = len(small_root.draws["taste"][3])
    assert f"{n_mismatched} lines that play a song matched to a wrong track" in printed
    assert "tracks labelled by both:" in printed
    prepared = prepare(recipe_for(copied), progress=False)
    index, targets = load_index(prepared), load_targets(prepared.targets)
    assert sorted(index.track_ids.tolist()) == sorted(small_root.track_ids[:60])
    assert set(targets) == set(constants.SOURCES) - {"self"}
    assert mismatched not in targets["taste"].track_ids.tolist()
    manifest = json.loads(prepared.manifest.read_text())
    assert manifest["corpus"]["skipped_labels"] == {
        str(copied / "train_triplets.txt.zip"): {"play a song matched to a wrong track": n_mismatched}
    }
    assert manifest["overlaps"]["taste"] == dict.fromkeys(targets, 59)
    assert manifest["overlaps"]["tag"]["year"] == 60
    assert manifest["sources"]["tag"]["labelled"] == 80
    with prepared.tracks.open() as file:
        artists = {row["artist"] for row in csv.DictReader(file, delimiter="\t")}
    assert artists <= {f"Artist {number}" for number in small_root.artists}


@pytest.mark.slow
def test_the_command_recovers_planted_groups_of_five_thousand_tracks(
    tmp_path, make_million_song_root, monkeypatch
):
    """Every track has (the same) audio, so that all labels are used; held-out artists are folded in.

    Several starts of EM find all groups; one start alone joins two of them now and then.
    """
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    planted = make_million_song_root(tmp_path / "msd")
    noise = np.random.default_rng(0).normal(0, 0.1, 2500)
    soundfile.write(tmp_path / "any.wav", noise, 4000)
    for track in planted.track_ids:
        (planted.root / f"{track}.wav").hardlink_to(tmp_path / "any.wav")
    audio = {
        "sample_rate_hz": 4000,
        "segment_seconds": 0.5,
        "fft_samples": 64,
        "hop_samples": 16,
        "n_mels": 32,
    }
    recipe = recipe_for(planted.root, audio=audio, targets={"size": planted.n_groups})
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe.as_dict()))
    assert prepare_command.main([str(path), "--quiet"]) == 0
    targets = load_targets(prepare(recipe, progress=False).targets)
    for source in COUNT_SOURCES:
        group = dict(zip(planted.track_ids, planted.groups[source], strict=True))
        wanted = [group[track] for track in targets[source].track_ids]
        assert len(wanted) == len(planted.track_ids)
        found = targets[source].target.argmax(axis=1)
        assert adjusted_mutual_info_score(wanted, found) > 0.9, source
        assert abs(adjusted_mutual_info_score(np.random.default_rng(1).permutation(wanted), found)) < 0.02


def test_a_wrong_label_file_ends_before_anything_is_decoded(copied, monkeypatch):
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)
    (copied / "tracks_per_year.txt").write_text("1999<SEP>TRAAAAA128F0000000\n")
    with pytest.raises(DataError, match=r"tracks_per_year\.txt, line 1: YEAR<SEP>TRACK_ID"):
        prepare(recipe_for(copied), progress=False)


def test_an_interrupted_call_reads_no_label_file_twice(copied, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kerasrep.data.shard_writer.write_shards", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe_for(copied), progress=False)
    monkeypatch.setattr(stored_labels, "_packed", None)  # would raise if anything were read and stored
    assert prepare(recipe_for(copied), progress=False).manifest.exists()


def test_a_preview_counts_the_training_tracks_and_reads_no_labels(copied, monkeypatch):
    monkeypatch.setattr(stored_labels.StoredLabels, "__getitem__", None)
    found = preview(recipe_for(copied))
    corpus = open_corpus(recipe_for(copied).corpus)
    assert found.training_tracks == sum(track.split == "train" for track in corpus.tracks)


def test_nothing_is_written_into_the_root(copied):
    def state():
        return {path: path.stat().st_mtime_ns for path in copied.rglob("*")}

    before = state()
    prepare(recipe_for(copied), progress=False)
    assert state() == before


def test_a_view_in_place_of_a_table_is_refused(copied):
    with sqlite3.connect(copied / "lastfm_tags.db") as database:
        database.execute("ALTER TABLE tid_tag RENAME TO other")
        database.execute("CREATE VIEW tid_tag AS SELECT * FROM other")
    database.close()
    with pytest.raises(DataError, match=r"lastfm_tags\.db: 'tid_tag' is a view; a plain table was expected"):
        prepare(recipe_for(copied), progress=False)
