"""A folder of audio with tables: ids, splits, labels, and one line for each thing that can be wrong."""

from __future__ import annotations

import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.corpora.folder import open_folder, split_groups
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import FolderCorpus, LabelTable
from kerasrep.storage import limits
from kerasrep.storage.tables import read_table

TRACKS = ["a/one.wav", "a/two.flac", "b/deep/three.MP3", "b/two.wav", "four.ogg"]


@pytest.fixture
def root(tmp_path):
    """Five empty audio files (nothing here decodes), and things that are none."""
    folder = tmp_path / "music"
    for name in [*TRACKS, "notes.txt", ".hidden.wav", ".git/x.wav"]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def settings(root, **changes):
    return FolderCorpus(name="folder", root=str(root), **changes)


def with_table(root, text, source="tag", name="table.csv"):
    content = text if isinstance(text, bytes) else text.encode()
    (root / name).write_bytes(content)
    return open_folder(settings(root, tables={source: name}))


def test_tracks_are_the_audio_files_at_any_depth_in_order(root):
    corpus = open_folder(settings(root))
    assert [track.track_id for track in corpus.tracks] == TRACKS
    assert all(track.path.is_file() for track in corpus.tracks)
    assert not corpus.labels and not corpus.notices


def test_values_are_keyed_by_path_or_by_a_stem_of_one_file(root):
    corpus = with_table(root, "value,track\n120,a/one.wav\n90.5,three\n-1e2,./four.ogg\n", "year")
    labels = corpus.labels["year"]
    assert list(labels.track_ids) == ["a/one.wav", "b/deep/three.MP3", "four.ogg"]
    assert labels.values.tolist() == [120, 90.5, -100]


def test_counts_add_up_and_default_to_one(root):
    corpus = with_table(
        root, "track\titem\tweight\nfour\tjazz\t2\none\trock\t\nfour\tjazz\t1.5\n", name="t.tsv"
    )
    labels = corpus.labels["tag"]
    assert list(labels.track_ids) == ["a/one.wav", "four.ogg"]
    assert list(labels.terms) == ["jazz", "rock"]
    np.testing.assert_array_equal(labels.counts.toarray()[labels.documents], [[0, 1], [3.5, 0]])
    assert corpus.notices == [
        f"{root / 't.tsv'}: of 3 rows 1 have no weight (1 is taken)",
        f"{root / 't.tsv'}: 1 rows repeat a track and item (weights are added)",
    ]


def test_weights_of_zero_say_nothing_and_are_counted(root):
    corpus = with_table(root, "track,item,weight\nfour,jazz,2\nfour,rock,0\none,rock,0\n")
    labels = corpus.labels["tag"]
    assert list(labels.track_ids) == ["four.ogg"] and list(labels.terms) == ["jazz"]
    assert corpus.notices == [f"{root / 'table.csv'}: of 3 rows 2 have weight 0, which says nothing"]


def test_quoted_fields_blank_lines_extra_columns_and_a_byte_order_mark_are_read(root):
    text = '\ufefftrack,note,item\r\n"a/one.wav",x,"folk, ""old"""\r\n\r\nfour,y,folk\r\n'
    labels = with_table(root, text).labels["tag"]
    assert list(labels.terms) == ['folk, "old"', "folk"]


def test_tempi_of_zero_or_less_are_counted(root):
    corpus = with_table(root, "track,value\nfour,120\none,0\nthree,-1\n", "bpm")
    assert corpus.notices == [f"{root / 'table.csv'}: of 3 rows 2 say 0 or less, which is unknown"]


def test_unknown_ambiguous_and_repeated_tracks_are_counted(root):
    text = "track,value\nfour,1\nfour,2\ntwo,3\nnine,4\nten,5\n"
    corpus = with_table(root, text, "bpm")
    assert corpus.labels["bpm"].values.tolist() == [1]
    (notice,) = corpus.notices
    assert "of 5 rows" in notice
    assert "2 name no track" in notice and "1 name several tracks" in notice
    assert "1 repeat a track (the first one counts)" in notice
    assert notice.endswith(
        "('nine', 'ten' against files such as 'a/one.wav', 'a/two.flac', 'b/deep/three.MP3')"
    )


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("", "tag", "line 1: lacks the column 'track'; columns expected: track, item [, weight]"),
        ("track,tag\n", "tag", "line 1: lacks the column 'item'"),
        (
            "track,item\n",
            "tag",
            "no row names a track of the folder (files such as 'a/one.wav', 'a/two.flac',",
        ),
        ("track,item\nnine,x\n", "tag", "no row names a track"),
        ("track,item\nfour,x\nfour\n", "tag", "line 3: has 1 fields, the first line names 2"),
        ("track,item\nfour,x,y\n", "tag", "line 2: has 3 fields"),
        ("track,item\n,x\n", "tag", "line 2: column 'track' is empty"),
        ("track,item\nfour,\n", "tag", "no row says anything of a track: all values are unknown"),
        ("track,item,item\nfour,x,y\n", "tag", "line 1: has 2 columns 'item'; rename all but one"),
        ("track,item,weight\nfour,x,-1\n", "tag", "line 2: column 'weight' has '-1'"),
        ("track,item,weight\nfour,x,0\n", "tag", "no row says anything of a track"),
        ("track,value\nfour,fast\n", "bpm", "line 2: column 'value' has 'fast', a number was expected"),
        ("track,value\nfour,inf\n", "bpm", "line 2: column 'value' has 'inf'"),
        ("track,value\nfour,1_0\n", "bpm", "line 2: column 'value' has '1_0'"),
        ("track,value\nfour,\n", "bpm", "no row says anything of a track"),
        ("track;value\nfour;1,5\n", "bpm", "line 2: column 'value' has '1,5', a number was expected (with a"),
        ('track,item\nfour,"x\n', "tag", "line 2: has a quote that is not closed"),
        ('track,item\nfour,"x" y\n', "tag", "line 2: is not a valid table row ("),
        ('track,item\none,"x\nfour,x\nfour,12"\n', "tag", "line 2: has a quote that is closed in line 4"),
        ("track,item\nfour,\0\n", "tag", "line 2: has a NUL character"),
        (b"track,item\nfour,\xff\xfe\n", "tag", "line 2: is not UTF-8 text"),
        ("track,item\nfour,x\n".encode("utf-16-le"), "tag", "line 1: has a NUL character; save the table as"),
        ("track,item\nfour," + "x" * limits.LINE_CHARACTERS.default, "tag", "line 2: is longer than"),
        ("track,item\nfour," + "x" * 200_000, "tag", "line 2: is not a valid table row (field larger"),
        ("track,item\nfour,x\n", "self", "source 'self' needs no table"),
    ],
    ids=lambda value: None if len(value) > 60 else str(value),
)
def test_a_wrong_table_is_refused_in_one_line_that_names_it(root, text, source, message):
    with pytest.raises(DataError) as caught:
        with_table(root, text, source)
    assert str(caught.value).startswith(str(root / "table.csv"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_tables_that_are_no_files_are_refused(root):
    os.mkfifo(root / "fifo.csv")
    for name, message in (
        ("missing.csv", "cannot be read"),
        ("a", "not a regular"),
        ("fifo.csv", "not a regular"),
    ):
        with pytest.raises(DataError, match=message):
            open_folder(settings(root, tables={"tag": name}))


def test_rows_are_read_one_at_a_time(tmp_path):
    """A wrong line far down is not reached by a reader that stops before it."""
    path = tmp_path / "t.csv"
    path.write_text("track,item\n" + "a,b\n" * 50_000 + "broken\n")
    rows = read_table(path, ("track", "item"))
    assert next(rows) == (f"{path}, line 2", ["a", "b"])


def test_tracks_of_a_group_share_a_split(root):
    for number in range(40):
        (root / f"x{number}.wav").touch()
    lines = [f"x{number}\tband {number // 4}" for number in range(40)]
    (root / "groups.tsv").write_text("track\tgroup\n" + "\n".join(lines) + "\n")
    corpus = open_folder(settings(root, groups="groups.tsv", evaluation_fraction=0.3))
    splits = {}
    for track in corpus.tracks:
        if track.label:
            splits.setdefault(track.label, set()).add(track.split)
    assert len(splits) == 10 and all(len(names) == 1 for names in splits.values())


def test_a_track_of_two_groups_is_refused(root):
    (root / "g.csv").write_text("track,group\nfour,a\nfour,b\n")
    with pytest.raises(DataError, match=r"line 3: 'four\.ogg' is in group 'a' already"):
        open_folder(settings(root, groups="g.csv"))


@given(
    st.integers(5, 300),
    st.floats(0.01, 0.4, exclude_min=True),
    st.floats(0, 0.4),
)
def test_fractions_of_groups_are_as_asked_and_no_split_is_empty(n_groups, validation, evaluation):
    groups = {f"track {number}": f"group {number // 2}" for number in range(2 * n_groups)}
    splits = split_groups(groups, validation, evaluation, "here")
    counts = {name: list(splits.values()).count(name) / 2 for name in ("train", "validation", "evaluation")}
    assert counts["validation"] == max(1, round(validation * n_groups))
    assert counts["evaluation"] == (max(1, round(evaluation * n_groups)) if evaluation else 0)
    assert counts["train"] >= 1 and sum(counts.values()) == n_groups


def test_splits_never_change():
    """The order of SHA-256, worked out with sha256sum: d < c < b < a by first digits 18, 2e, 3e, ca."""
    groups = {f"track {name}{number}": name for name in "abcd" for number in (1, 2)}
    split = {"a": "train", "b": "train", "c": "validation", "d": "evaluation"}
    expected = {f"track {name}{number}": split[name] for name in "abcd" for number in (1, 2)}
    assert split_groups(groups, 0.25, 0.25, "here") == expected


def test_two_tracks_are_validated_on_at_least():
    groups = {f"track {name}": name for name in "abcd"}
    split = {"track a": "train", "track b": "validation", "track c": "validation", "track d": "evaluation"}
    assert split_groups(groups, 0.25, 0.25, "here") == split


def test_too_few_groups_for_training_are_refused(root):
    with pytest.raises(DataError, match=r"leave none for training .* set corpus\.evaluation_fraction=0"):
        open_folder(settings(root, validation_fraction=0.6, evaluation_fraction=0.5))


def test_the_fingerprint_changes_with_audio_tables_and_splits_alone(root):
    (root / "t.csv").write_text("track,item\nfour,x\n")
    base = settings(root, tables={"tag": "t.csv"})
    first = open_folder(base).fingerprint
    assert open_folder(base).fingerprint == first
    assert open_folder(base.model_copy(update={"evaluation_fraction": 0.2})).fingerprint != first
    (root / "t.csv").write_text("track,item\nfour,y\n")
    second = open_folder(base).fingerprint
    assert second != first
    (root / "four.ogg").write_text("other audio")
    assert open_folder(base).fingerprint not in {first, second}


def test_a_folder_that_is_missing_or_has_no_audio_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        open_folder(settings(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="holds no audio file"):
        open_folder(settings(tmp_path))


def test_names_that_are_not_utf8_are_skipped_with_the_reason(root):
    (root / os.fsdecode(b"bad\xff.wav")).touch()
    (root / "line\nend.wav").touch()
    corpus = open_folder(settings(root))
    assert [track.track_id for track in corpus.tracks] == TRACKS
    assert len(corpus.skipped) == 2 and "not printable UTF-8" in next(iter(corpus.skipped.values()))


def with_columns(root, name, **columns):
    table = LabelTable(path=name, **columns)
    return open_folder(settings(root, tables={"tag": table})).labels["tag"]


def test_columns_may_have_names_of_their_own(root):
    (root / "t.csv").write_text("song,who,genre,n\nfour,x,jazz,2\none,y,rock,3\n")
    labels = with_columns(root, "t.csv", track="song", item="genre", weight="n")
    assert list(labels.track_ids) == ["a/one.wav", "four.ogg"]
    assert labels.counts.toarray().tolist() == [[0, 3], [2, 0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": "tag"}, "line 1: lacks the column 'tag'"),
        ({"weight": "plays"}, "line 1: lacks the column 'plays'"),  # named, so it must be there
        ({"item": "note"}, "all values are unknown"),
    ],
)
def test_a_column_that_was_named_must_be_there(root, columns, message):
    (root / "t.csv").write_text("track,item,note\nfour,jazz,\n")
    with pytest.raises(DataError, match=re.escape(message)):
        with_columns(root, "t.csv", **columns)


def test_parquet_gives_the_labels_of_the_same_csv(root):
    frame = {"track": ["four", "one", "four"], "item": ["jazz", "rock", "folk"], "weight": [2, 1, 0.5]}
    (root / "t.csv").write_text(
        "track,item,weight\n" + "".join(f"{a},{b},{c}\n" for a, b, c in zip(*frame.values(), strict=True))
    )
    as_dictionary = pa.array(frame["item"]).dictionary_encode()
    pq.write_table(pa.table(frame | {"item": as_dictionary, "more": [[1], [2], [3]]}), root / "t.parquet")
    ours, theirs = with_columns(root, "t.parquet"), with_columns(root, "t.csv")
    assert (list(ours.terms), list(ours.track_ids)) == (list(theirs.terms), list(theirs.track_ids))
    assert (ours.counts != theirs.counts).nnz == 0


def test_parquet_without_weights_and_with_nulls(root):
    pq.write_table(pa.table({"track": ["four", "one"], "item": ["jazz", "rock"]}), root / "t.parquet")
    assert with_columns(root, "t.parquet").counts.sum() == 2
    pq.write_table(pa.table({"track": ["four", None], "item": ["jazz", "rock"]}), root / "t.parquet")
    with pytest.raises(DataError, match="row 2: column 'track' is empty"):
        with_columns(root, "t.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"track": ["four"], "tag": ["x"]},
            "lacks the column 'item'; columns expected: track, item [, weight]",
        ),
        ({"track": ["four"], "item": [["x"]]}, "column 'item' has type list<element: string>"),
        ({"track": ["four"], "item": ["x\0"]}, "row 1: column 'item' has a NUL character"),
        ({"track": ["four"], "item": ["x"], "weight": [-1]}, "row 1: column 'weight' has '-1'"),
        (b"PAR1 no table PAR1", "cannot be read as Parquet"),
        (b"", "cannot be read as Parquet"),
        (b"\x80\x04\x95cposix\nsystem\n", "cannot be read as Parquet"),
    ],
    ids=str,
)
def test_a_wrong_parquet_table_is_refused_in_one_line(root, content, message):
    if isinstance(content, bytes):
        (root / "t.parquet").write_bytes(content)
    else:
        pq.write_table(pa.table(content), root / "t.parquet")
    with pytest.raises(DataError) as caught:
        with_columns(root, "t.parquet")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(root / "t.parquet"))


def test_a_table_reads_the_same_after_its_recipe_was_written_and_read_again(root):
    (root / "t.csv").write_text("song,item\nfour,jazz\n")
    first = settings(root, tables={"tag": LabelTable(path="t.csv", track="song")})
    again = FolderCorpus.model_validate(first.model_dump(mode="json"))
    assert again == first and open_folder(again).labels["tag"].counts.sum() == 1


POOLED = "track,kind\n" + "".join(f"{track},{'real' if track[0] == 'a' else 'made'}\n" for track in TRACKS)


def test_tracks_say_their_pool_and_the_shares_prepare_nothing_anew(root):
    (root / "p.csv").write_text(POOLED)
    corpora = [
        open_folder(
            settings(root, pools={"path": "p.csv", "column": "kind", "shares": {"real": s, "made": 1 - s}})
        )
        for s in (0.5, 0.6)
    ]
    assert [track.pool for track in corpora[0].tracks] == ["real", "real", "made", "made", "made"]
    assert corpora[0].fingerprint == corpora[1].fingerprint != open_folder(settings(root)).fingerprint


@pytest.mark.parametrize(
    ("text", "shares", "message"),
    [
        (POOLED, {"real": 1.0}, "is in pool 'made', corpus.pools.shares has real; correct either"),
        (POOLED, {"real": 0.3, "made": 0.3, "live": 0.4}, "no training track is in pool 'live'; remove it"),
        (POOLED.split("a/two")[0], {"real": 1.0}, "is in no pool"),
        (POOLED + "four,real\n", {"real": 0.5, "made": 0.5}, "line 7: 'four.ogg' is in kind 'made' already"),
    ],
)
def test_pools_that_do_not_fit_the_tracks_are_refused(root, text, shares, message):
    (root / "p.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_folder(settings(root, pools={"path": "p.csv", "column": "kind", "shares": shares}))
    assert str(caught.value).startswith(str(root / "p.csv"))


def test_files_of_the_same_bytes_share_a_split_and_are_told(root):
    for number in range(20):
        (root / f"x{number}.wav").write_bytes(f"audio {number:02d}".encode())
        (root / "b" / f"copy{number}.wav").write_bytes(f"audio {number:02d}".encode())
    corpus = open_folder(settings(root, validation_fraction=0.3, evaluation_fraction=0.3))
    split = {track.track_id: track.split for track in corpus.tracks}
    assert all(split[f"x{n}.wav"] == split[f"b/copy{n}.wav"] for n in range(20))
    assert set(split.values()) == {"train", "validation", "evaluation"}
    notice, kept = corpus.notices
    assert "kept apart for evaluation" in kept
    assert notice.startswith(
        "20 files have the same bytes as another one, such as 'x0.wav' and 'b/copy0.wav'"
    )
