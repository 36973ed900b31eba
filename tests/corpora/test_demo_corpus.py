import json
import os
import subprocess
import sys
import wave
from collections import Counter

import numpy as np
import pytest

from kerasrep.constants import COUNT_SOURCES, SAMPLE_RATE_HZ, SOURCES, VALUE_SOURCES
from kerasrep.corpora.demo import building, labels, opening, pieces, selection
from kerasrep.corpora.demo.catalogue import choose
from kerasrep.corpora.demo.opening import open_demo
from kerasrep.errors import DataError, RecipeError
from kerasrep.recipe.corpora import DemoCorpus

SETTINGS = DemoCorpus(tracks=26, track_seconds=5.0)
SCRIPT = """
from kerasrep.corpora.demo import open_demo
from kerasrep.recipe.corpora import DemoCorpus
open_demo(DemoCorpus(tracks=26, track_seconds=5.0), progress=False, workers=2)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The small corpus, opened, and its folder."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    patch.setenv("KERASREP_HOME", str(home))
    corpus = open_demo(SETTINGS, progress=False, workers=1)
    yield corpus, corpus.tracks[0].path.parents[1]
    patch.undo()


def manifest_of(folder):
    return json.loads((folder / building.MANIFEST).read_text())


def test_another_process_with_other_hashing_and_workers_gives_the_same_bytes(built, tmp_path):
    environment = {**os.environ, "KERASREP_HOME": str(tmp_path), "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=120)
    (other,) = (tmp_path / "corpora").iterdir()
    assert other.name == built[1].name
    assert (other / building.MANIFEST).read_bytes() == (built[1] / building.MANIFEST).read_bytes()
    for record in manifest_of(other)["tracks"]:
        assert (other / record["audio"]).read_bytes() == (built[1] / record["audio"]).read_bytes()


def test_tracks_sound_on_both_channels_without_clipping(built):
    for track in built[0].tracks:
        with wave.open(str(track.path)) as file:
            assert (file.getframerate(), file.getnchannels()) == (SAMPLE_RATE_HZ, 2)
            assert file.getnframes() == 5 * SAMPLE_RATE_HZ
            audio = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(float)
        rms = np.sqrt(np.mean(audio**2, axis=0))
        assert rms.min() > 100 and np.abs(audio).max() < 32_000
        assert np.abs(audio[:, 0] - audio[:, 1]).max() > 50


def test_a_third_is_reserved_and_no_label_is_given_for_it(built):
    corpus, _ = built
    splits = {track.track_id: track.split for track in corpus.tracks}
    counts = Counter(splits.values())
    assert len(splits) == 26 and 7 <= counts["evaluation"] <= 11 and counts["validation"] >= 1
    assert set(corpus.labels) == set(SOURCES) - {"self"}
    for name, raw in corpus.labels.items():
        assert {splits[one] for one in raw.track_ids} <= {"train", "validation"}, name


def test_versions_of_one_tune_share_a_split(built):
    corpus, folder = built
    group_of = {record["track_id"]: record["group"] for record in manifest_of(folder)["tracks"]}
    splits = {}
    for track in corpus.tracks:
        splits.setdefault(group_of[track.track_id], set()).add(track.split)
    assert all(len(found) == 1 for found in splits.values())


def test_labels_agree_with_the_manifest(built):
    corpus, folder = built
    records = {record["track_id"]: record for record in manifest_of(folder)["tracks"]}
    for name in VALUE_SOURCES:
        raw = corpus.labels[name]
        assert list(raw.values) == [records[one][name] for one in raw.track_ids]
    for name in COUNT_SOURCES:
        raw = corpus.labels[name]
        assert raw.counts.shape == (raw.documents.max() + 1, len(raw.terms))
        assert len(raw.documents) == len(raw.track_ids)
        assert raw.counts.sum(axis=1).min() > 0
    taste = corpus.labels["taste"]
    first = dict(zip(taste.terms, taste.counts[taste.documents[0]].toarray()[0], strict=True))
    assert {term: count for term, count in first.items() if count} == records[taste.track_ids[0]]["plays"]


def test_an_artists_document_sums_the_tags_of_its_tracks(built):
    corpus, folder = built
    raw = corpus.labels["artist"]
    records = {record["track_id"]: record for record in manifest_of(folder)["tracks"]}
    artist = records[raw.track_ids[0]]["artist"]
    own = [records[one]["tags"] for one in raw.track_ids if records[one]["artist"] == artist]
    column = raw.terms.index("metre 4/4")
    expected = sum(tags.get("metre 4/4", 0) for tags in own)
    assert raw.counts[raw.documents[0], column] == expected


def test_the_cache_is_used_and_another_validation_fraction_renders_nothing_anew(built, monkeypatch):
    corpus, _ = built
    monkeypatch.setattr(building, "build", lambda *_: pytest.fail("built again"))
    again = open_demo(SETTINGS, progress=False)
    more = open_demo(SETTINGS.model_copy(update={"validation_fraction": 0.5}), progress=False)
    assert again.fingerprint == corpus.fingerprint != more.fingerprint
    assert Counter(track.split for track in more.tracks)["validation"] > 5


def test_a_build_that_stops_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    monkeypatch.setattr(building, "_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        open_demo(DemoCorpus(tracks=24, track_seconds=5.0, collections=("fife",)), progress=False, workers=1)
    assert list((tmp_path / "corpora").iterdir()) == []


def test_a_build_that_comes_second_takes_the_first_ones_result(built, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    target = tmp_path / "corpora" / built[1].name

    def slower(settings, folder, progress, workers):
        target.mkdir()
        (target / "audio").symlink_to(built[1] / "audio")
        (target / building.MANIFEST).write_bytes((built[1] / building.MANIFEST).read_bytes())
        (folder / "mine").write_text("late")

    monkeypatch.setattr(building, "build", slower)
    corpus = open_demo(SETTINGS, progress=False)
    assert len(corpus.tracks) == 26
    assert [path.name for path in (tmp_path / "corpora").iterdir()] == [target.name]


@pytest.mark.parametrize("damage", ["{", "{}", '{"tracks": [{}], "skipped": {}}'])
def test_a_damaged_manifest_is_one_line(tmp_path, monkeypatch, built, damage):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    folder = tmp_path / "corpora" / built[1].name
    folder.mkdir(parents=True)
    (folder / building.MANIFEST).write_text(damage)
    with pytest.raises(DataError, match="manifest") as caught:
        open_demo(SETTINGS, progress=False)
    assert "\n" not in str(caught.value)


def test_missing_packages_and_unknown_collections_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    with pytest.raises(RecipeError, match="did you mean 'monteverdi'"):
        open_demo(DemoCorpus(collections=("montverdi",)), progress=False)
    monkeypatch.setattr(pieces.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "kerasrep\[demo\]"'):
        open_demo(SETTINGS, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_refused_before_work(tmp_path):
    with pytest.raises(DataError, match="are free"):
        building._check_space(DemoCorpus(tracks=20_000, track_seconds=600.0), tmp_path)


def test_the_reserve_is_the_same_for_every_choice_of_collections():
    folder = pieces.score_folder()
    everything = pieces.group_pieces(pieces.find_pieces(choose(None), folder))
    sizes = Counter(name in everything.evaluation for name in set(everything.of_piece.values()))
    assert sizes[True] / sizes.total() == pytest.approx(1 / 3, abs=0.02)
    versions = [key for key, name in everything.of_piece.items() if "sailors hornpipe" in name]
    assert len(versions) > 1


@pytest.mark.parametrize(
    "title", ["The Blackbird (2)", "Blackbird, The", "BLACKBIRD -- Hornpipe", "Blackbird no. 2"]
)
def test_spellings_of_a_title_are_one(title):
    assert pieces.normalise_title(title) == "blackbird"


def test_quotas_add_up_and_validation_groups_are_a_part():
    for n_tracks in (24, 100, 601):
        assert sum(selection.quotas(choose(None), n_tracks).values()) == n_tracks
    groups = {f"group-{number}": "oneill" if number < 60 else "aird" for number in range(100)}
    chosen = selection.validation_groups(groups, 0.15)
    assert len(chosen) == 15
    assert Counter(groups[name] for name in chosen)["oneill"] == 9
    assert len(selection.validation_groups({"a": "x", "b": "x"}, 0.01)) == 1


def test_listeners_play_more_of_what_they_like():
    listener = labels.draw_listeners(0)[0]
    liked = {
        "families": sorted(listener.families),
        "bpm": float(np.exp(listener.log_bpm)),
        "mode": listener.mode,
        "dance": sorted(listener.forms)[0],
        "form": "",
        "n_voices": 1 if listener.solo else 5,
    }
    disliked = {**liked, "families": ["none"], "bpm": 20.0, "dance": ""}
    assert listener.expected_plays(liked) > 5 * listener.expected_plays(disliked)
    assert labels.draw_listeners(0) == labels.draw_listeners(0) != labels.draw_listeners(1)


def test_every_labelled_source_says_where_its_labels_come_from():
    assert set(labels.LABEL_KINDS) == set(SOURCES) - {"self"}
    assert opening.open_demo is open_demo
