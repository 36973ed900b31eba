"""One recording under several names stands in one split, whatever its encoding."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile
from tones import piece

from kerasrep import api
from kerasrep.api import prepare
from kerasrep.corpora import copies
from kerasrep.data import shard_decoding
from kerasrep.data.audio import decode
from kerasrep.data.identity import Identity
from kerasrep.data.recordings import Identities, read_identities
from kerasrep.data.shards import load_index
from kerasrep.recipe.schema import Recipe
from kerasrep.storage import run_directory

RATE_HZ = 22_050
#: Copy -> what it is a copy of.
COPIES = {"z0.mp3": "t0.wav", "z1.ogg": "t1.wav", "z2.flac": "t2.wav"}


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Nine pieces, and three of them again in other encodings; albums of two pieces."""
    root = tmp_path_factory.mktemp("music")
    pieces = [piece(seed, 14) for seed in range(9)]
    for number, samples in enumerate(pieces):
        soundfile.write(root / f"t{number}.wav", samples, RATE_HZ)
    soundfile.write(root / "z0.mp3", pieces[0], RATE_HZ)
    soundfile.write(root / "z1.ogg", pieces[1], RATE_HZ)
    soundfile.write(root / "z2.flac", 0.3 * pieces[2], RATE_HZ)
    albums = {"t3.wav": "one", "z0.mp3": "one", "t4.wav": "two", "t5.wav": "two"}
    rows = "".join(f"{track},{group}\n" for track, group in albums.items())
    (root / "groups.csv").write_text(f"track,group\n{rows}")
    return root


@pytest.fixture
def recipe(music, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))

    def make(seed=0, **corpus):
        corpus = {"validation_fraction": 0.3, "evaluation_fraction": 0.3, "groups": "groups.csv"} | corpus
        return Recipe.model_validate(
            {
                **{"name": "test", "strategy": "ss-r", "sources": ["self"], "seed": seed},
                "corpus": {"name": "folder", "root": str(music), **corpus},
                "batches": {"size": 2},
            }
        )

    return make


def splits_of(prepared):
    with prepared.tracks.open() as file:
        return {row["track_id"]: row["split"] for row in csv.DictReader(file, delimiter="\t")}


def contents(prepared):
    paths = [path for path in sorted(prepared.root.iterdir()) if path.name != "log.jsonl"]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("fractions", [(0.1, 0.0), (0.3, 0.3), (0.2, 0.5)])
def test_copies_and_their_groups_share_a_split(recipe, fractions, capsys):
    validation, evaluation = fractions
    made = recipe(validation_fraction=validation, evaluation_fraction=evaluation)
    prepared = prepare(made, progress=True)
    split = splits_of(prepared)
    assert len(split) == 12
    assert set(split.values()) == {"train", "validation", *(["evaluation"] if evaluation else [])}
    for copy, original in COPIES.items():
        assert split[copy] == split[original]
    assert split["z0.mp3"] == split["t3.wav"] and split["t4.wav"] == split["t5.wav"]
    said = "3 tracks are the same recording as another one, such as 'z0.mp3' and 't0.wav'"
    assert said in capsys.readouterr().out
    assert any(said in line for line in json.loads(prepared.manifest.read_text())["corpus"]["notices"])
    index = load_index(prepared)
    assert {str(t) for t in index.track_ids} == {t for t, s in split.items() if s != "evaluation"}
    for part in ("train", "validation"):
        assert {split[track] for track in index.track_ids[index.rows(part)].tolist()} == {part}


def test_shards_hold_the_decoded_audio_and_identities_are_of_their_tracks(recipe, music):
    prepared = prepare(recipe(), progress=False)
    index, identities = load_index(prepared), read_identities(prepared.identities)
    assert len(identities) == len(index)
    for row, track in enumerate(index.track_ids.tolist()):
        expected = shard_decoding.to_int16(decode(music / track, RATE_HZ))
        np.testing.assert_array_equal(index.read(row), expected)
        own = Identities.of([shard_decoding.identity_of([expected], RATE_HZ)])
        assert identities.digests[row] == own.digests[0]


def test_what_is_known_is_neither_decoded_nor_looked_for_again(recipe, monkeypatch):
    first = prepare(recipe(), progress=False)
    before = contents(first)
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)
    monkeypatch.setattr(copies, "first_of_each", None)
    assert prepare(recipe(), progress=False) == first
    other = prepare(recipe(seed=1, validation_fraction=0.2), progress=False)
    assert other != first and splits_of(other)["z0.mp3"] == splits_of(other)["t0.wav"]
    monkeypatch.undo()
    monkeypatch.setenv("KERASREP_HOME", str(first.root.parents[1]))
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)
    for lost in ("recordings", "prepared"):
        shutil.rmtree(run_directory.home() / lost)
    again = prepare(recipe(), progress=False)
    assert again == first and contents(again) == before


def test_a_call_that_ends_before_the_tracks_are_split_again_is_gone_on_with(recipe, monkeypatch, tmp_path):
    whole = contents(prepare(recipe(), progress=False))
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "other"))
    opened = api.open_corpus

    def once(*arguments):
        monkeypatch.setattr(api, "open_corpus", None)
        return opened(*arguments)

    monkeypatch.setattr(api, "open_corpus", once)
    with pytest.raises(TypeError):
        prepare(recipe(), progress=False)
    assert list((tmp_path / "other" / "recordings").iterdir())
    monkeypatch.setattr(api, "open_corpus", opened)
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)
    assert contents(prepare(recipe(), progress=False)) == whole


def test_part_files_keep_the_identities(recipe, monkeypatch):
    first = prepare(recipe(), progress=False)
    before = contents(first)
    store = next((run_directory.home() / "shards").glob("[0-9a-f]*"))
    for path in (store / "identities.npz", store / "manifest.json"):
        path.unlink()
    shutil.rmtree(first.root)
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)
    assert contents(prepare(recipe(), progress=False)) == before
    (first.root / "identities.npz").write_bytes(b"damaged")
    assert contents(prepare(recipe(), progress=False)) == before


def test_groups_of_copies_are_joined_and_told_once():
    notices = []
    groups = {"a": "x", "b": "y", "c": "y", "d": "z"}
    joined = copies.with_copies_together(groups, {"b": "a", "gone": "a"}, {"b": "a"}, notices)
    assert joined == {"a": "x", "b": "x", "c": "x", "d": "z"}
    assert notices == [
        "1 track is the same recording as another one, such as 'b' and 'a': copies share a split "
        "(3 groups became 2)"
    ]
    assert copies.with_copies_together(groups, {}, {}, notices) == groups and len(notices) == 1


def test_copies_are_looked_for_once(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    assert copies.known_copies("f") is None
    none = np.zeros(0, np.uint16)
    identities = Identities.of([Identity(b"1" * 8, none), Identity(b"2" * 8, none), Identity(b"1" * 8, none)])
    assert copies.find_copies("f", ["a", "b", "c"], identities) == {"c": "a"} == copies.known_copies("f")
    monkeypatch.setattr(copies, "first_of_each", None)
    assert copies.find_copies("f", ["a", "b", "c"], identities) == {"c": "a"}
