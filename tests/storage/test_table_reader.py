"""Tables as spreadsheets and scripts write them: read rightly, or refused with line and reason."""

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kerasrep.errors import DataError
from kerasrep.storage.tables import is_unknown, parse_number, read_fields, read_table

ROWS = [["a.wav", "rock"], ["b.wav", "Dvořák"]]


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def fields(path):
    return [row for _, row in read_fields(path)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings_of_spreadsheets_are_read(tmp_path, name, delimiter, encoding):
    text = "".join(f"{delimiter.join(row)}\r\n" for row in [["track", "item"], *ROWS])
    path = written(tmp_path / name, text, encoding)
    assert [row for _, row in read_table(path, ("track", "item"))] == ROWS


def test_quotes_between_tabs_are_text_where_the_line_is_a_row_only_so(tmp_path):
    lines = [
        "track\titem",
        'a\t"Heroes',
        "b\trock",
        'c\tvinyl 12"',
        'd\t"Heroes" live',
        'e\t"say ""hi"""',
        'f\t"x',
    ]
    path = written(tmp_path / "t.tsv", "\n".join(lines) + "\n")
    assert fields(path)[1:] == [
        ["a", '"Heroes'],
        ["b", "rock"],
        ["c", 'vinyl 12"'],
        ["d", '"Heroes" live'],
        ["e", 'say "hi"'],
        ["f", '"x'],
    ]


def test_a_quoted_field_of_several_lines_is_one_field(tmp_path):
    path = written(tmp_path / "t.tsv", 'track\titem\tnote\na\t"one\ntwo\nthree"\tx\nb\trock\ty\n')
    assert list(read_fields(path))[1:] == [
        (f"{path}, line 2", ["a", "one\ntwo\nthree", "x"]),
        (f"{path}, line 5", ["b", "rock", "y"]),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'track,item\na,"x\nb,y\nc,12"\n',
            "line 2: has a quote that is closed in line 4, and the lines between",
        ),
        ('track,item\nb,y\na,"x\n', "line 3: has a quote that is not closed"),
        ('track,item\nb,y\na,"x" y\n', "line 3: is not a valid table row"),
        ("track,item,Item\na,x,y\n", None),
        ("track,Item,ITEM\na,x,y\n", "line 1: has 2 columns 'item'; rename all but one"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_with_its_line(tmp_path, text, message):
    path = written(tmp_path / "t.csv", text)
    if message is None:
        assert [row for _, row in read_table(path, ("track", "item"))] == [["a", "x"]]
        return
    with pytest.raises(DataError) as caught:
        list(read_table(path, ("track", "item")))
    assert str(caught.value).startswith(f"{path}, {message}")


def test_parquet_with_a_column_twice_is_refused(tmp_path):
    pq.write_table(pa.table([["a"], ["x"], ["y"]], names=["track", "item", "item"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: has 2 columns 'item'; rename all but one"):
        list(read_table(tmp_path / "t.parquet", ("track", "item")))


@pytest.mark.parametrize("text", ["", "NaN", "None", "NA", "N/A", "n/a", "null", "NULL", "?", "-"])
def test_words_for_unknown(text):
    assert is_unknown(text) and not is_unknown(f"{text}x")


def test_numbers_whose_square_is_not_finite_are_refused():
    assert parse_number("-1e150", "t.csv, line 2", "label") == -1e150
    for text in ("1e151", "-1e300"):
        with pytest.raises(
            DataError, match=rf"^t\.csv, line 2: column 'label' has '{text}', beyond \+-1e\+150"
        ):
            parse_number(text, "t.csv, line 2", "label")


texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from('",\t;\n\r'), max_size=8)


@example([["", "\t\n", "\t"]], "\t")
@given(st.lists(st.lists(texts, min_size=3, max_size=3), max_size=6), st.sampled_from([",", "\t"]))
def test_what_the_csv_module_writes_is_read_or_refused(tmp_path_factory, rows, delimiter):
    """Never as other rows; only lines that would be rows by themselves are refused."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["one", "two", "three"], *rows])
    path = written(
        tmp_path_factory.mktemp("tables") / ("t.tsv" if delimiter == "\t" else "t.csv"), text.getvalue()
    )
    try:
        found = fields(path)[1:]
    except DataError:
        assert any(mark in field for row in rows for field in row for mark in "\n\r")
        return
    assert found == [row for row in rows if any(field.strip() for field in row)]
