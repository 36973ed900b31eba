import numpy as np
import pytest
from catalogues import read_tracks, write_catalogue

from kerasrep.cli import command
from kerasrep.cli import map as cli
from kerasrep.embedding.listening.tracks import Labels, Names
from kerasrep.errors import DataError, RecipeError


def test_labels_are_found_by_path_of_the_index_and_relative_to_the_table(tmp_path):
    tracks = read_tracks(tmp_path, n=12)
    by_index = Names(tracks).labels(f"mood:{tmp_path / 'labels.csv'}")
    assert by_index.values == tuple(f"mood {i % 3}" for i in range(12)) and by_index.notes == ()
    (tmp_path / "group1" / "own.csv").parent.mkdir()
    (tmp_path / "group1" / "own.csv").write_text("path,x\n01 é.wav,a\n05 é.wav,b\n05 é.wav,c\nno.wav,d\n")
    labels = Names(tracks).labels(f"x:{tmp_path / 'group1' / 'own.csv'}")
    assert {i: value for i, value in enumerate(labels.values) if value} == {1: "a", 5: "b"}
    assert len(labels.notes) == 2 and "1 rows name no track" in labels.notes[0]


def test_folders_group_and_wrong_names_are_refused(tmp_path):
    names = Names(read_tracks(tmp_path, n=8))
    assert names.labels("folder").values[:2] == ("group0", "group1")
    with pytest.raises(RecipeError, match="give artist"):
        names.labels("mood")
    with pytest.raises(DataError, match=f"mood: cannot .* did you mean 'mood:{tmp_path}/labels.csv'"):
        names.labels(f"{tmp_path}/labels.csv:mood")
    with pytest.raises(DataError, match=r"table: cannot be read, .*; give COLUMN:TABLE\.csv$"):
        names.labels("mood:table")
    (tmp_path / "other.csv").write_text("track,x\nno.wav,1\n")
    with pytest.raises(DataError, match="names no track of the index"):
        names.labels(f"x:{tmp_path / 'other.csv'}")


def test_a_legend_has_the_most_frequent_values_and_one_for_the_others():
    values = (*(f"v{i}" for i in range(40) for _ in range(i + 1)), "")
    legend, codes, ordered = Labels("x", values).legend()
    assert legend[0] == "v39" and legend[-1] == "other (17)" and not ordered
    assert codes[-1] == -1 and np.sum(codes == 23) == sum(range(1, 18))


def test_many_numbers_become_ranges_of_equally_many():
    legend, codes, ordered = Labels("year", ("", *(str(1900 + i) for i in range(80)))).legend()
    assert ordered and len(legend) == 8 and legend[0] == "1900 to 1909.88"
    assert codes[0] == -1 and np.bincount(codes[1:]).tolist() == [10] * 8


def test_a_page_of_ten_thousand_tracks_stays_small(tmp_path, monkeypatch, capsys):
    n = 10_000
    rng = np.random.default_rng(0)
    vectors = rng.uniform(0, 1, (n, 32)).astype(np.float32)
    paths = np.array(
        [f"Artist {i % 900}/Album {i % 1700}/{i:05d} {rng.bytes(12).hex()}.mp3" for i in range(n)]
    )
    many = {"paths": paths, "embeddings": vectors, "seconds": rng.uniform(60, 400, n)}
    index = write_catalogue(tmp_path, **many, typical_seconds=many["seconds"] / 3)
    monkeypatch.setattr("kerasrep.embedding.listening.page.plane", lambda unit: (unit[:, :2].copy(), ""))
    assert command.run(cli.main, cli.PROG, [str(index), "-o", str(tmp_path / "map.html")]) == 0
    assert "10,000 tracks of 10,000 have no audio" in capsys.readouterr().out
    assert (tmp_path / "map.html").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-o", "x.png"], 2, "ends with .html"),
        (["-o", "x.html", "--color", "mood"], 2, "give artist"),
        (["-o", "x.html", "--color", "mood:none.csv"], 1, "cannot be read"),
        (["-o", "x.html", "--color", "none:labels.csv"], 1, "lacks the column 'none'"),
    ],
)
def test_what_is_wrong_with_a_map_is_told_in_one_line(tmp_path, monkeypatch, capsys, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    index = write_catalogue(tmp_path, 12, 3)
    assert command.run(cli.main, cli.PROG, [str(index), *arguments]) == code
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and said in err[0]
    assert not (tmp_path / "x.html").exists()
