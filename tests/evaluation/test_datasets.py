"""Each data set of the paper, in miniature and in its published layout, and what can be wrong with each."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath

import miniatures
import numpy as np
import pytest
import soundfile

from kerasrep.errors import DataError
from kerasrep.evaluation import registry
from kerasrep.evaluation.datasets import gtzan
from kerasrep.evaluation.probing.folds import folds
from kerasrep.evaluation.readers.split_list import locator

LABELLED = [name for name, task in registry.TASKS.items() if task.kind != "recommendation"]


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data sets")
    miniatures.write_all(root)
    return root


@pytest.fixture
def copied(data_root, tmp_path):
    """A function that copies one data set, to damage it."""

    def copy(folder):
        shutil.copytree(data_root / folder, tmp_path / folder)
        return tmp_path / folder

    return copy


def opened(name, root):
    return registry.open_task(registry.TASKS[name], root)


def rewrite(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("name", registry.TASKS)
def test_every_item_has_audio_that_can_be_decoded(data_root, name):
    data = opened(name, data_root)
    assert registry.missing_audio(data) == []
    for path in (data.paths[0], data.paths[-1]):
        samples, rate = soundfile.read(path)
        assert rate == miniatures.RATE_HZ and len(samples) == pytest.approx(rate / 2, rel=0.2)
    assert len(set(data.item_ids)) == len(data.item_ids) == len(set(data.paths))


@pytest.mark.parametrize("name", LABELLED)
def test_every_labelled_task_can_be_split(data_root, name):
    data = opened(name, data_root)
    found = folds(data, registry.TASKS[name].kind)
    assert len(found) == (5 if data.splits is None else 1)
    if data.groups is not None:
        for fold in found:
            assert not set(data.groups[fold.train]) & set(data.groups[fold.test])


@pytest.mark.parametrize("name", ["jam", "lastfm1k", "demo_recommendation"])
def test_plays_are_those_that_were_written(data_root, name):
    """Against the pairs from which the files were made: once each, in the ways of the data set."""
    data = opened(name, data_root)
    expected = Counter()
    for number, (user, item) in enumerate(miniatures.played()):
        expected[user, item] = {"jam": 1, "lastfm1k": 1 + number % 2, "demo_recommendation": 1 + item % 3}[
            name
        ]
    found = data.plays.tocoo()
    users = [int("".join(filter(str.isdigit, user))) for user in data.user_ids]
    items = [
        int(item[5:7] if name == "jam" else item.removeprefix("t")[:8].partition("-")[0])
        for item in data.item_ids
    ]
    pairs = [(users[row], items[column]) for row, column in zip(found.row, found.col, strict=True)]
    assert dict(zip(pairs, found.data, strict=True)) == expected


def test_fma_has_the_tracks_of_small_and_medium_with_their_split_and_artists(data_root):
    data = opened("fma", data_root)
    assert data.item_ids[:2] == ("000002", "000139")
    assert data.paths[8] == data_root / "fma/fma_medium/001/001098.mp3"
    assert Counter(data.labels.tolist()) == dict.fromkeys(miniatures.FMA_GENRES, 7)
    assert Counter(data.splits.tolist()) == {"train": 16, "validation": 4, "test": 8}
    assert data.groups[:3].tolist() == ["artist 0", "artist 0", "artist 1"]


def test_fma_artists_on_both_sides_are_said_but_do_not_stop_it(copied):
    folder = copied("fma")
    rewrite(folder / "fma_metadata/tracks.csv", ",6,test,", ",0,test,")
    data = opened("fma", folder.parent)
    assert data.groups is None and "artist 0" in data.notices[0]


def test_gtzan_reads_the_fault_filtered_lists(data_root):
    data = opened("gtzan", data_root)
    assert Counter(data.splits.tolist()) == {"train": 30, "validation": 10, "test": 10}
    assert data.item_ids[0] == "blues.00000" and data.notices == ()
    assert all(path.suffix == ".au" for path in data.paths)


def test_gtzan_reads_lists_of_numbers(copied):
    """disco is the fourth class, so that number 339 is disco.00038 (as in the list of paths)."""
    folder = copied("gtzan")
    for name, numbers in {"train": (1, 302, 901), "valid": (2, 303), "test": (3, 304, 1_000)}.items():
        text = "".join(f"{number:12d}\n" for number in numbers)
        (folder / f"{name}_filtered.txt").write_text(text)
    data = opened("gtzan", folder.parent)
    assert data.item_ids == (
        *("blues.00000", "disco.00001", "rock.00000", "blues.00001", "disco.00002"),
        *("blues.00002", "disco.00003", "rock.00099"),
    )
    assert data.labels.tolist() == [item.partition(".")[0] for item in data.item_ids]
    assert data.splits.tolist() == ["train"] * 3 + ["validation"] * 2 + ["test"] * 3
    assert [item for item, _ in registry.missing_audio(data)] == ["rock.00099"]


def test_gtzan_without_lists_is_cross_validated_with_a_notice(copied):
    folder = copied("gtzan")
    for name in gtzan.FILTERED_LISTS.values():
        (folder / name).unlink()
    data = opened("gtzan", folder.parent)
    assert len(data.item_ids) == 60 and data.splits is None
    assert "fault-filtered" in data.notices[0]


def test_gtzan_is_found_in_the_layout_of_mirrors(copied):
    folder = copied("gtzan")
    (folder / "genres").rename(folder / "genres_original")
    for path in sorted((folder / "genres_original").rglob("*.au")):
        soundfile.write(path.with_suffix(".wav"), *soundfile.read(path))
        path.unlink()
    data = opened("gtzan", folder.parent)
    assert registry.missing_audio(data) == [] and data.paths[0].name == "blues.00000.wav"


def test_ext_ballroom_repetitions_share_a_group(data_root):
    data = opened("ext_ballroom", data_root)
    groups = dict(zip(data.item_ids, data.groups.tolist(), strict=True))
    assert groups["Chacha/100000"] == groups["Chacha/100005"] == "track 100000"
    assert groups["Chacha/100001"] == "item Chacha/100001"
    assert set(data.labels) == set(miniatures.DANCES)


def test_ext_ballroom_repetitions_of_repetitions_share_a_group(copied):
    folder = copied("ext_ballroom")
    rewrite(folder / "extendedballroom_v1.1.xml", 'id="100001"', 'id="100001" exact="100005" time="x, 999"')
    rewrite(folder / "extendedballroom_v1.1.xml", 'id="100102"', 'id="100102" karaoke="100001"')
    groups = opened("ext_ballroom", folder.parent).groups
    assert Counter(groups.tolist())["track 100000"] == 4


def test_irmas_songs_are_the_groups(data_root):
    data = opened("irmas", data_root)
    groups = dict(zip(data.item_ids, data.groups.tolist(), strict=True))
    assert groups["cel/[cel][pop_roc]0001__1"] == groups["cel/[cel][pop_roc]0001__2"] == "song 0001"
    assert groups["cel/004__[cel][nod][cla]0005__1"] == "song 0005"
    assert len(set(groups.values())) == 55


def test_irmas_names_without_a_song_are_songs_of_their_own(copied):
    folder = copied("irmas")
    (folder / "IRMAS-TrainingData/cel/solo.wav").touch()
    (folder / "IRMAS-TrainingData/cel/._hidden.wav").touch()
    data = opened("irmas", folder.parent)
    assert data.groups[data.item_ids.index("cel/solo")] == "item cel/solo"
    (notice,) = data.notices
    assert "1 names give no song, such as 'cel/solo.wav'" in notice


def test_emotion_has_two_ratings_and_the_split_of_the_task(data_root):
    arousal, valence = opened("emotion_arousal", data_root), opened("emotion_valence", data_root)
    assert arousal.item_ids == valence.item_ids and arousal.item_ids[:2] == ("2", "5")
    np.testing.assert_allclose(arousal.labels, 1 + np.arange(24) / 3, atol=1e-4)
    np.testing.assert_allclose(valence.labels, 9 - np.arange(24) / 3, atol=1e-4)
    assert Counter(arousal.splits.tolist()) == {"train": 18, "test": 6}


def test_jam_and_lastfm_say_what_was_left_out(data_root):
    jam = " ".join(opened("jam", data_root).notices)
    assert "1 malformed lines" in jam and "1 plays of tracks without audio" in jam
    lastfm = " ".join(opened("lastfm1k", data_root).notices)
    assert "1 plays of tracks without a MusicBrainz id" in lastfm and "'other-track'" in lastfm


def test_lastfm_takes_audio_from_a_table_as_well(copied):
    folder = copied("lastfm1k")
    names = [path.relative_to(folder).as_posix() for path in sorted((folder / "audio").rglob("*.mp3"))][:10]
    miniatures.write_table(folder / "items.tsv", [("item", "path"), *((Path(n).stem, n) for n in names)])
    (folder / "lastfm-dataset-1K").mkdir()
    (folder / miniatures.EVENTS).rename(folder / "lastfm-dataset-1K" / miniatures.EVENTS)
    data = opened("lastfm1k", folder.parent)
    assert len(data.item_ids) == 10 and registry.missing_audio(data) == []


@pytest.mark.parametrize("name", ["jam", "lastfm1k"])
def test_plays_of_the_users_own_come_first(copied, name):
    folder = copied(name)
    miniatures.write_table(
        folder / "items.tsv", [("item", "path"), ("a", "audio/a.mp3"), ("b", "audio/b.mp3")]
    )
    miniatures.write_table(folder / "plays.tsv", [("user", "item"), ("u", "a"), ("v", "b")])
    data = opened(name, folder.parent)
    assert data.item_ids == ("a", "b") and data.held_out_fraction == 0.05


def test_the_demo_holds_out_a_fifth_and_keeps_tunes_together(data_root):
    data = opened("demo_recommendation", data_root)
    assert data.held_out_fraction == 0.2
    assert data.groups.tolist() == [f"tune {number // 4}" for number in range(40)]
    assert opened("demo_tempo", data_root).labels.dtype == np.float64


def test_the_demo_takes_absolute_paths(copied, data_root):
    folder = copied("demo")
    path = data_root / "demo/audio/t00.wav"
    rewrite(folder / "dance.tsv", "audio/t00.wav", str(path))
    rewrite(folder / "items.tsv", "audio/t00.wav", str(path))
    assert opened("demo_dance", folder.parent).paths[0] == path
    assert opened("demo_recommendation", folder.parent).paths[0] == path


#: Rows as the authors of the paper list them, for the miniatures: index, path, split, label.
PUBLISHED = {
    "fma": [
        ("fma_medium_22k/000/000002.mp3", "train", "Folk"),
        ("fma_medium_22k/001/001098.mp3", "valid", "Jazz"),
        ("fma_medium_22k/000/000139.mp3", "test", "Folk"),
    ],
    "gtzan": [
        ("/genres/disco/disco.00003.au", "test", "disco"),
        ("/genres/disco/disco.00001.au", "train", "disco"),
        ("/genres/pop/pop.00001.au", "valid", "pop"),
    ],
    "ext_ballroom": [
        ("data/Tango/100900.mp3", "", "Tango"),
        ("data/Tango/100905.mp3", "", "Tango"),
        ("data/Tango/100902.mp3", "", "Tango"),
        ("data/Waltz/101100.mp3", "", "Waltz"),
        ("data/Waltz/101101.mp3", "", "Waltz"),
    ],
    "irmas": [
        ("pia/[pia][pop_roc]0031__2.mp3", "train", "pia"),
        ("pia/[pia][pop_roc]0032__1.mp3", "test", "pia"),
        ("cel/004__[cel][nod][cla]0005__1.mp3", "train", "cel"),
    ],
    "emotion_arousal": [
        ("/audio/clips_45seconds/2.mp3", "train", "3.1000"),
        ("/audio/clips_45seconds/5.mp3", "test", "3.5000"),
        ("/audio/clips_45seconds/8.mp3", "train", "5.7000"),
    ],
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("in_folder", [True, False])
def test_the_lists_of_the_papers_authors_find_the_published_audio(copied, tmp_path, name, in_folder):
    folder = copied(registry.TASKS[name].folder)
    list_name = {"emotion_arousal": "split_arousal.tsv"}.get(name, "split.tsv") if in_folder else "own.info"
    table = (folder if in_folder else tmp_path) / list_name
    rows = PUBLISHED[name]
    with table.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([i, *row] for i, row in enumerate(rows))
    task = registry.TASKS[name]
    data = registry.open_task(task if in_folder else registry.with_split_list(task, table), tmp_path)
    assert registry.missing_audio(data) == []
    assert [path.stem for path in data.paths] == [Path(row[0]).stem for row in rows]
    assert len(data.labels) == len(rows)


def test_a_list_of_ext_ballroom_gets_its_groups_from_the_metadata(copied):
    folder = copied("ext_ballroom")
    with (folder / "split.tsv").open("w") as file:
        csv.writer(file, delimiter="\t").writerows(
            [i, *row] for i, row in enumerate(PUBLISHED["ext_ballroom"])
        )
    groups = opened("ext_ballroom", folder.parent).groups
    assert groups.tolist()[:2] == ["track 100900"] * 2 and len(set(groups)) == 4


def test_a_users_table_may_have_one_emotion_only(copied):
    folder = copied("emotion")
    (folder / "split_arousal.tsv").write_text(
        "path\tlabel\nclips_45seconds/2.mp3\t1\nclips_45seconds/5.mp3\t2\n"
    )
    assert len(opened("emotion_arousal", folder.parent).item_ids) == 2
    assert len(opened("emotion_valence", folder.parent).item_ids) == 24


def test_audio_that_is_nowhere_is_looked_for_in_the_published_place(tmp_path):
    path = locator("fma_medium")(tmp_path, PurePosixPath("fma_medium_22k/000/000002.mp3"))
    assert path == tmp_path / "fma_medium/000/000002.mp3"


def removed(path):
    return lambda folder: (folder / path).unlink()


def replaced(path, old, new):
    return lambda folder: rewrite(folder / path, old, new)


def written(path, content):
    return lambda folder: (folder / path).write_bytes(content)


TRACKS = "fma_metadata/tracks.csv"
XML = "extendedballroom_v1.1.xml"
SONGS, RATINGS = "annotations/songs_info.csv", "annotations/static_annotations.csv"
WRONG = [
    (
        "fma",
        removed(TRACKS),
        "has no fma_metadata/tracks.csv or tracks.csv; the data set is described at https://",
    ),
    ("fma", replaced(TRACKS, "genre_top", "genre"), "name no column 'track' over 'genre_top'"),
    ("fma", written(TRACKS, b""), "name no column 'set' over 'subset'"),
    ("fma", replaced(TRACKS, "\n139,", "\none,"), "track_id has 'one', a number was expected"),
    ("fma", replaced(TRACKS, "\n139,", "\n2,"), "item '000002' is there already"),
    ("fma", replaced(TRACKS, "training,small", "learning,small"), "column 'split' has 'learning'"),
    (
        "fma",
        replaced(TRACKS, "training,small,Folk", "training,small"),
        "has 5 fields, the first lines name 6",
    ),
    ("gtzan", removed("test_filtered.txt"), "has train_filtered.txt but no test_filtered.txt"),
    (
        "gtzan",
        written("test_filtered.txt", b"dub/dub.00001.wav\n"),
        "'dub/dub.00001.wav' is in none of the folders",
    ),
    ("gtzan", written("test_filtered.txt", b"1001\n"), "test_filtered.txt, line 1: '1001' is in none of"),
    (
        "gtzan",
        written("test_filtered.txt", b"../../x\n"),
        "test_filtered.txt, line 1: path '../../x' leads out",
    ),
    ("gtzan", written("test_filtered.txt", b"pop/pop.00000.au\n"), "item 'pop.00000' is there already"),
    ("ext_ballroom", removed(XML), f"has no {XML}; the data set is described at"),
    ("ext_ballroom", written(XML, b"<a><b>"), "is not a valid XML file"),
    ("ext_ballroom", written(XML, b"\xff\xfe\x00"), "is not a valid XML file"),
    ("ext_ballroom", written(XML, b'<!DOCTYPE a [<!ENTITY b "b">]><a/>'), "defines entities"),
    ("ext_ballroom", written(XML, b"<a/>"), "has 0 items"),
    ("ext_ballroom", replaced(XML, 'id="100001"', 'id="../100001"'), "Chacha 2: has the id '../100001'"),
    ("ext_ballroom", replaced(XML, 'id="100001"', ""), "Chacha 2: has the id ''"),
    ("ext_ballroom", replaced(XML, 'id="100001"', 'id="100000"'), "item 'Chacha/100000' is there already"),
    (
        "irmas",
        lambda folder: shutil.rmtree(folder / "IRMAS-TrainingData"),
        "has no IRMAS-TrainingData; the data",
    ),
    ("irmas", lambda folder: shutil.rmtree(folder / "IRMAS-TrainingData/tru"), "has no tru; the data set is"),
    ("emotion", removed(SONGS), f"has no {SONGS} or songs_info.csv; the data set is described at"),
    ("emotion", removed(RATINGS), f"has no {RATINGS} or static_annotations.csv"),
    ("emotion", replaced(RATINGS, "\n5,", "\n4,"), "line 3: song '4' is not in annotations/songs_info.csv"),
    (
        "emotion",
        replaced(SONGS, "development", "training"),
        "line 2: column 'Mediaeval 2013 set' has 'training'",
    ),
    ("emotion", replaced(RATINGS, "mean_arousal", "arousal"), "line 1: lacks the column 'mean_arousal'"),
    ("jam", removed("items.tsv"), "has no items.tsv"),
    ("jam", removed("jam_to_msd.tsv"), "has no jam_to_msd.tsv or archive/jam_to_msd.tsv; the data set is"),
    ("jam", removed("archive/likes.tsv"), "has no archive/likes.tsv or likes.tsv"),
    (
        "jam",
        written("jam_to_msd.tsv", b"jam_id\ttrack_id\njam-1-1\tTRX\n"),
        "maps no jam to a track of items.tsv",
    ),
    ("jam", written("jam_to_msd.tsv", b"jam-1-1 TRX\n"), "line 1: has 1 fields; expected jam and track"),
    (
        "jam",
        replaced("archive/likes.tsv", "user_id", "user"),
        "likes.tsv, line 1: lacks the column 'user_id'",
    ),
    ("lastfm1k", removed(miniatures.EVENTS), f"has no {miniatures.EVENTS} or lastfm-dataset-1K/"),
    (
        "lastfm1k",
        lambda folder: shutil.rmtree(folder / "audio"),
        "has no items.tsv or audio; the data set is",
    ),
    (
        "lastfm1k",
        written(miniatures.EVENTS, b"user\titem\n" * 200),
        "line 1: 200 of 200 lines have not 6 fields",
    ),
    ("lastfm1k", written(miniatures.EVENTS, b""), "0 items with audio were played"),
    ("demo_dance", removed("dance.tsv"), "dance.tsv; the data set is described at docs/demo-corpus.md"),
    ("demo_recommendation", removed("plays.tsv"), "has no plays.tsv"),
]


@pytest.mark.parametrize(
    ("name", "damage", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_missing_or_malformed_is_said_in_one_line(copied, name, damage, message):
    task = registry.TASKS.get(name) or registry.TASKS["emotion_arousal"]
    folder = copied(task.folder)
    damage(folder)
    with pytest.raises(DataError) as caught:
        registry.open_task(task, folder.parent)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_two_files_of_one_lastfm_track_are_refused(copied):
    folder = copied("lastfm1k")
    path = next((folder / "audio").rglob("*.mp3"))
    shutil.copy(path, folder / "audio" / f"{path.stem}.wav")
    with pytest.raises(DataError, match="is there already"):
        opened("lastfm1k", folder.parent)


def test_a_few_malformed_lastfm_lines_are_counted(copied):
    folder = copied("lastfm1k")
    with (folder / miniatures.EVENTS).open("ab") as file:
        file.write(b"no tabs\n")
    data = opened("lastfm1k", folder.parent)
    assert any("1 malformed lines are left out, line" in notice for notice in data.notices)
