"""Split lists and play lists: both forms, what they mean, and one line for each thing that can be wrong."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.errors import DataError
from kerasrep.evaluation.readers import play_list
from kerasrep.evaluation.readers.items import path_below
from kerasrep.evaluation.readers.play_list import ItemTable, PlayCounter, read_play_list
from kerasrep.evaluation.readers.split_list import is_plain, read_split_list
from kerasrep.storage import limits
from kerasrep.storage.tables import read_fields, read_unquoted

AUDIO = Path("/music")


def read(folder, text, kind="classification", name="list.tsv", **options):
    table = folder / name
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_split_list(table, AUDIO, kind, **options)


def test_a_users_table_is_read_with_its_columns_in_any_order(tmp_path):
    text = (
        "group,note,label,split,path,item_id\n"
        "A,x,jig,train,a.wav,one\n"
        "B,,reel,TEST,b/c.mp3,two\n"
        "C,,reel,val,d.wav,3\n"
    )
    data = read(tmp_path, text, name="list.csv")
    assert data.item_ids == ("one", "two", "3")
    assert data.paths == (AUDIO / "a.wav", AUDIO / "b/c.mp3", AUDIO / "d.wav")
    assert data.labels.tolist() == ["jig", "reel", "reel"]
    assert data.splits.tolist() == ["train", "test", "validation"]
    assert data.groups.tolist() == ["A", "B", "C"]
    assert data.notices == ()


def test_a_table_of_paths_and_labels_alone_is_cross_validated(tmp_path):
    data = read(tmp_path, "path\tlabel\na.wav\t0.5\nb.wav\t-2e1\n", "regression")
    assert data.item_ids == ("a.wav", "b.wav")
    assert data.labels.dtype == np.float64 and data.labels.tolist() == [0.5, -20]
    assert data.splits is None and data.groups is None


def test_numbers_may_be_names_of_classes(tmp_path):
    assert read(tmp_path, "path\tlabel\na.wav\t3\nb.wav\t4\n").labels.tolist() == ["3", "4"]


def test_an_item_without_group_is_a_group_of_its_own(tmp_path):
    text = "path\tlabel\tgroup\na\tx\tA\nb\ty\tA\nc\tx\t\nd\ty\t\n"
    assert read(tmp_path, text).groups.tolist() == ["A", "A", "item c", "item d"]


PLAIN = (
    "0\t/genres/disco/disco.00038.au\ttest\tdisco\n"
    "1\t/genres/disco/disco.00033.au\ttrain\tdisco\n"
    "2\tgenres/pop/pop.00001.au\tvalid\tpop\n"
    "3\tgenres/pop/pop.00002.au\ttest\tpop\n"
)


@pytest.mark.parametrize("header", ["", "index\tpath\tsplit\tlabel\n"])
@pytest.mark.parametrize("name", ["GTZAN_filtered_dataset.info", "list.tsv", "list.txt"])
def test_a_published_list_is_read_with_and_without_a_line_of_names(tmp_path, header, name):
    text = PLAIN.replace("\t/", "\t") if header else PLAIN
    data = read(tmp_path, header + text, name=name)
    assert data.paths[0] == AUDIO / "genres/disco/disco.00038.au"
    assert data.splits.tolist() == ["test", "train", "validation", "test"]
    assert data.labels.tolist() == ["disco", "disco", "pop", "pop"]
    assert data.item_ids[0] == ("0" if header else "genres/disco/disco.00038.au")


def test_a_published_list_without_splits_is_cross_validated(tmp_path):
    data = read(tmp_path, "0\tdata/Tango/113217.mp3\t\tTango\n1\tdata/Waltz/2.mp3\t\tWaltz\n", name="x.info")
    assert data.splits is None and data.paths[1] == AUDIO / "data/Waltz/2.mp3"


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        (["0", "a.wav", "train", "x"], True),
        (["12", "a.wav", "", "x"], True),
        (["index", "path", "split", "label"], False),
        (["", "path", "split", "label"], False),  # as pandas writes an index
        (["path", "label"], False),
        (["0", "a.wav", "third", "x"], False),
        (["0", "", "train", "x"], False),
        (["0", "a.wav", "train"], False),
        (["-1", "a.wav", "train", "x"], False),
        ([], False),
    ],
)
def test_which_first_lines_belong_to_a_published_list(fields, plain):
    assert is_plain(fields) == plain


def test_an_index_column_without_a_name_does_no_harm(tmp_path):
    data = read(tmp_path, "\tpath\tsplit\tlabel\n0\ta\ttrain\tx\n1\tb\ttrain\ty\n2\tc\ttest\tx\n")
    assert data.item_ids == ("a", "b", "c")


@given(
    st.lists(
        st.tuples(
            st.sampled_from("xyz"),
            st.sampled_from(["train", "Training", "VALID", "validation", "val", "test", "eval"]),
            st.text("abc ,\"'|é/.-0123", max_size=8),
        ),
        min_size=2,
        max_size=30,
    ),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, rows, tabs):
    """Any names, quoted or not; what cannot be evaluated is refused instead."""
    table = tmp_path_factory.mktemp("lists") / ("t.tsv" if tabs else "t.csv")
    paths = [f"{number}/{text.strip()}e.wav" for number, (_, _, text) in enumerate(rows)]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if tabs else ",")
        writer.writerow(["label", "split", "path"])
        writer.writerows([label, split, path] for (label, split, _), path in zip(rows, paths, strict=True))
    train = {label for label, split, _ in rows if split not in {"test", "eval"}}
    test = {label for label, split, _ in rows if split in {"test", "eval"}}
    inside = all(PurePosixPath(os.path.normpath(path)).parts[0] != ".." for path in paths)
    distinct = len({os.path.normpath(path) for path in paths}) == len(paths)
    if not (inside and distinct and len(train) > 1 and test and test <= train):
        with pytest.raises(DataError):
            read_split_list(table, AUDIO, "classification")
        return
    data = read_split_list(table, AUDIO, "classification")
    assert [str(path) for path in data.paths] == [os.path.normpath(f"/music/{path}") for path in paths]
    assert data.labels.tolist() == [label for label, _, _ in rows]
    assert Counter(data.splits.tolist())["test"] == sum(split in {"test", "eval"} for _, split, _ in rows)


HEAD = "path\tlabel\tsplit\tgroup\n"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            "",
            "classification",
            "line 1: lacks the column 'path'; columns expected: path, label [, split] [, group]",
        ),
        ("path\ttag\na\tx\n", "classification", "line 1: lacks the column 'label'"),
        ("a.wav\tx\nb.wav\ty\n", "classification", "line 1: lacks the column 'path'"),
        ("0\ta.wav\tthird\tx\n", "classification", "line 1: lacks the column 'path'"),
        (PLAIN + "4\ta.wav\ttrain\n", "classification", "line 5: has 3 fields; expected index, path, split"),
        (PLAIN + "4\t../a.wav\ttrain\tpop\n", "classification", "line 5: path '../a.wav' leads out of"),
        (PLAIN + "4\t//\ttrain\tpop\n", "classification", "line 5: column 'path' is empty"),
        (
            PLAIN + "9\tgenres/pop/./pop.00002.au\ttest\tpop\n",
            "classification",
            "line 5: item 'genres/pop/pop.0",
        ),
        ("path\tlabel\na\tx\nb\n", "classification", "line 3: has 1 fields, the first line names 2"),
        ("path\tlabel\na\tx\nb\t\n", "classification", "has 1 items (1 have no label); a task needs"),
        ("path\tlabel\na\t1\nb\tfast\n", "regression", "line 3: column 'label' has 'fast', a number was"),
        ("path\tlabel\na\t1\nb\tinf\n", "regression", "line 3: column 'label' has 'inf'"),
        ("path\tlabel\na\tx\na\ty\n", "classification", "line 3: item 'a' is there already"),
        ("item_id\tpath\tlabel\n1\ta\tx\n2\ta\ty\n", "classification", "line 3: item '2' is there already"),
        ("item_id\tpath\tlabel\n1\ta\tx\n1\tb\ty\n", "classification", "line 3: item '1' is there already"),
        ("path\tlabel\n/etc/passwd\tx\nb\ty\n", "classification", "line 2: path '/etc/passwd' leads out of"),
        ("path\tlabel\na/../../b\tx\nb\ty\n", "classification", "line 2: path 'a/../../b' leads out of"),
        ("path\tlabel\n..\tx\nb\ty\n", "classification", "line 2: path '..' leads out of"),
        ("path\tlabel\n\tx\nb\ty\n", "classification", "line 2: column 'path' is empty"),
        (
            'item_id\tpath\tlabel\n1\t"a\nb"\tx\n',
            "classification",
            "line 2: path 'a\\nb' has characters that",
        ),
        (
            "path\tlabel\na\t\x1b[31mx\nb\ty\n",
            "classification",
            "line 2: item 'a' has characters that cannot",
        ),
        ("path\tlabel\n", "classification", "has 0 items; a task needs at least 2"),
        ("path\tlabel\na\tx\n", "classification", "has 1 items"),
        ("path\tlabel\na\tx\nb\tx\n", "classification", "all items have the class 'x'"),
        ("path\tlabel\na\t1\nb\t1.0\n", "regression", "all items have the value 1.0"),
        (
            HEAD + "a\tx\tdev\t\n",
            "classification",
            "line 2: column 'split' has 'dev'; it takes train, training",
        ),
        (HEAD + "a\tx\ttrain\t\nb\ty\t\t\n", "classification", "line 3: some items have a split and others"),
        (HEAD + "a\tx\ttrain\t\nb\ty\tval\t\n", "classification", "no item is for test"),
        (HEAD + "a\tx\ttest\t\nb\ty\teval\t\n", "classification", "no item is for training"),
        (
            HEAD + "a\tx\ttrain\t\nb\ty\ttest\t\n",
            "classification",
            "all items for training have the label 'x'",
        ),
        (
            HEAD + "a\tx\ttrain\t\nb\ty\ttrain\t\nc\tz\ttest\t\n",
            "classification",
            "no item for training has what the test asks for, the classes 'z'",
        ),
        (
            HEAD + "a\tx\ttrain\tA\nb\ty\tval\tB\nc\tx\ttest\tB\n",
            "classification",
            "1 groups are in training and in test, such as 'B'; keep a group on one side",
        ),
        (
            HEAD + "a\tx\t\tx\nb\ty\t\ty\nc\tx\t\tx\n",
            "classification",
            "column 'group' says the same as 'label'",
        ),
        (
            HEAD + "a\tx\t\tA\nb\ty\t\tB\nc\tx\t\tC\nd\tz\t\tB\n",
            "classification",
            "2 are in one group only, so that they could not be learnt without their test items: 'y', 'z'; ",
        ),
        (HEAD + "a\tx\t\tA\nb\ty\t\tA\nc\tx\t\tA\n", "classification", "all items are in the group 'A'"),
        (HEAD + "a\t1\t\tA\nb\t2\t\tA\nc\t3\t\tA\n", "regression", "all items are in the group 'A'"),
        (b"path\tlabel\na\t\xff\n", "classification", "is not UTF-8 text"),
        ('path\tlabel\tsplit\na\t"x\n', "classification", "line 2: has a quote that is not closed"),
        ("path\tlabel\tlabel\na\tx\ty\n", "classification", "line 1: has 2 columns 'label'; rename"),
    ],
    ids=lambda value: None if len(value) > 30 else str(value),
)
def test_a_wrong_list_is_refused_in_one_line_that_names_it(tmp_path, text, kind, message):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text, kind)
    assert str(caught.value).startswith(str(tmp_path / "list.tsv"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_list_is_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.tsv: cannot be read"):
        read_split_list(tmp_path / "nowhere.tsv", AUDIO, "classification")


def test_groups_on_both_sides_of_a_published_split_are_dropped_with_a_notice(tmp_path):
    text = HEAD + "a\tx\ttrain\tA\nb\ty\tval\tB\nc\tx\ttest\tB\n"
    data = read(tmp_path, text, keep_groups=False)
    assert data.groups is None
    (notice,) = data.notices
    assert "1 groups are in training and in test, such as 'B'" in notice


def test_regression_may_test_values_that_were_never_learnt(tmp_path):
    data = read(tmp_path, HEAD + "a\t1\ttrain\t\nb\t2\ttrain\t\nc\t3\ttest\t\n", "regression")
    assert data.splits.tolist() == ["train", "train", "test"]


def test_absolute_paths_are_taken_only_where_the_program_wrote_the_table(tmp_path):
    text = "path\tlabel\n/demo/a.wav\tx\nb.wav\ty\n"
    data = read(tmp_path, text, allow_absolute=True)
    assert data.paths == (Path("/demo/a.wav"), AUDIO / "b.wav")
    assert data.item_ids == ("/demo/a.wav", "b.wav")
    with pytest.raises(DataError, match="leads out"):
        read(tmp_path, text.replace("/demo", "../demo"), allow_absolute=True)


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "...", "~", " "]), max_size=8), st.booleans())
def test_no_path_leaves_its_folder(parts, absolute):
    """Against the resolution of the file system, on a folder without links."""
    written = ("/" if absolute else "") + "/".join(parts)
    try:
        path = path_below(AUDIO, written, "here")
    except DataError:
        assert absolute or not written or os.path.normpath(written).split("/")[0] in {"..", ".", ""}
    else:
        assert path.resolve() == (AUDIO / written).resolve()
        assert path.resolve().is_relative_to(AUDIO) and path != AUDIO


def play_tables(folder, plays, items="item\tpath\na\ta.wav\nb\tsub/b.wav\nc\tc.wav\n"):
    for name, text in (("plays.tsv", plays), ("items.tsv", items)):
        (folder / name).write_text(text)
    return read_play_list(folder / "plays.tsv", folder / "items.tsv")


def test_plays_are_added_up_in_the_order_of_the_item_table(tmp_path):
    data = play_tables(
        tmp_path, "user\titem\tplays\nu\tb\t2\nv\ta\t1\nu\tb\t0.5\nv\tzz\t7\nu\ta\t\nw\ta\t0\n"
    )
    assert data.item_ids == ("a", "b", "c") and data.user_ids == ("u", "v")
    assert data.paths == (tmp_path / "a.wav", tmp_path / "sub/b.wav", tmp_path / "c.wav")
    np.testing.assert_array_equal(data.plays.toarray(), [[1, 2.5, 0], [1, 0, 0]])
    assert data.plays.dtype == np.float64 and data.plays.nnz == 3
    assert data.groups is None and data.held_out_fraction == 0.05
    unknown, unplayed = data.notices
    assert "1 plays of items without audio" in unknown and "'zz'" in unknown
    assert "1 of 3 items were never played" in unplayed


def test_groups_of_items_and_plays_without_a_count_are_read(tmp_path):
    items = "group,path,item\nG,a.wav,a\nG,b.wav,b\n,c.wav,c\n"
    (tmp_path / "items.csv").write_text(items)
    (tmp_path / "plays.csv").write_text("item,user\na,u\nb,u\nb,v\nc,v\n")
    data = read_play_list(tmp_path / "plays.csv", tmp_path / "items.csv", AUDIO, held_out_fraction=0.2)
    assert data.groups.tolist() == ["G", "G", "item c"] and data.held_out_fraction == 0.2
    assert data.paths[0] == AUDIO / "a.wav"
    np.testing.assert_array_equal(data.plays.toarray(), [[1, 1, 0], [0, 1, 1]])


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9), st.integers(0, 3)), max_size=80),
    st.integers(1, 10),
)
def test_the_counter_adds_up_like_a_dictionary_however_often_it_folds(events, folded_at):
    table = ItemTable({f"i{item}": Path(f"{item}.wav") for item in range(8)})
    expected, users = Counter(), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(play_list, "_FOLDED_AT", folded_at)
        counter = PlayCounter(table)
        for user, item, plays in events:
            counter.add(f"u{user}", f"i{item}", plays)
            if item < 8 and plays:
                expected[users.setdefault(f"u{user}", len(users)), item] += plays
    if len(users) < 2 or len({item for _, item in expected}) < 2:
        with pytest.raises(DataError, match="at least 2"):
            counter.finish(Path("here"))
        return
    data = counter.finish(Path("here"))
    assert data.user_ids == tuple(users) and data.plays.shape == (len(users), 8)
    found = data.plays.tocoo()
    pairs = zip(found.row.tolist(), found.col.tolist(), strict=True)
    assert dict(zip(pairs, found.data.tolist(), strict=True)) == dict(expected)
    assert counter.n_unknown == sum(item >= 8 for _, item, _ in events)


@pytest.mark.parametrize(
    ("plays", "items", "message"),
    [
        ("user\titem\nu\ta\n", "item\npath\n", "items.tsv, line 1: lacks the column 'path'"),
        ("user\nu\n", "item\tpath\na\ta\n", "plays.tsv, line 1: lacks the column 'item'"),
        (
            "user\titem\tplays\nu\ta\t-1\n",
            "item\tpath\na\ta\n",
            "line 2: column 'plays' has '-1', a number of at",
        ),
        ("user\titem\n\ta\n", "item\tpath\na\ta\n", "plays.tsv, line 2: column 'user' is empty"),
        ("user\titem\nu\t\n", "item\tpath\na\ta\n", "plays.tsv, line 2: column 'item' is empty"),
        ("user\titem\nu\ta\n", "item\tpath\na\ta\na\tb\n", "items.tsv, line 3: item 'a' is there already"),
        ("user\titem\nu\ta\n", "item\tpath\n\tb\n", "items.tsv, line 2: column 'item' is empty"),
        ("user\titem\nu\ta\n", "item\tpath\na\t\n", "items.tsv, line 2: column 'path' is empty"),
        ("user\titem\nu\ta\n", "item\tpath\na\t../b\n", "items.tsv, line 2: path '../b' leads out of"),
        ("user\titem\nu\ta\n", "item\tpath\na\t/b\n", "items.tsv, line 2: path '/b' leads out of"),
        ("user\titem\nu\ta\n", "item\tpath\na\a\tb\n", "items.tsv, line 2: item 'a\\x07' has characters"),
        ("user\titem\nu\ta\nv\ta\n", "item\tpath\na\ta\nb\tb\n", "1 items with audio were played"),
        ("user\titem\nu\ta\nu\tb\n", "item\tpath\na\ta\nb\tb\n", "1 users have played"),
        ("user\titem\nu\tx\nv\ty\n", "item\tpath\na\ta\nb\tb\n", "plays of unknown items: 2"),
    ],
)
def test_wrong_plays_are_refused_in_one_line_that_names_the_table(tmp_path, plays, items, message):
    with pytest.raises(DataError) as caught:
        play_tables(tmp_path, plays, items)
    assert str(caught.value).startswith(str(tmp_path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_unquoted_lines_keep_quotes_and_bytes_that_are_no_text(tmp_path):
    table = tmp_path / "t.tsv"
    table.write_bytes(b'a\t"b\r\n\xff\tc\x85d\t\n\nlast')
    assert list(read_unquoted(table)) == [
        (1, [b"a", b'"b']),
        (2, [b"\xff", b"c\x85d", b""]),
        (3, [b""]),
        (4, [b"last"]),
    ]
    table.write_bytes(b"x" * (limits.LINE_CHARACTERS.default + 1))
    with pytest.raises(DataError, match="line 1: is longer than"):
        list(read_unquoted(table))


def test_all_rows_of_a_table_are_given_with_the_first(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text('a,"b\nc"\n\n1,2\n')
    assert list(read_fields(table)) == [(f"{table}, line 1", ["a", "b\nc"]), (f"{table}, line 4", ["1", "2"])]


def test_names_with_spaces_of_other_scripts_are_read(tmp_path):
    data = read(tmp_path, "path\tlabel\n\u66f2\u3000\u540d.wav\tDrum\xa0& Bass\nb.wav\tjig\n")
    assert data.paths[0] == AUDIO / "\u66f2\u3000\u540d.wav"
    assert data.labels.tolist() == ["Drum\xa0& Bass", "jig"]
