import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pyarrow import parquet
from sklearn.metrics.pairwise import cosine_similarity

from kerasrep.cli import command
from kerasrep.cli import search as cli
from kerasrep.embedding import search as search_module
from kerasrep.embedding.catalogue.job import Settings, embed_catalogue
from kerasrep.embedding.catalogue.layout import MAX_HOP_SECONDS, MIN_HOP_SECONDS
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.catalogue.writing import path_text
from kerasrep.embedding.listening.tracks import Tracks
from kerasrep.embedding.search import open_model, query_of, search
from kerasrep.errors import DataError, RecipeError

RATE_HZ, SEGMENT, HOP = 22_050, 55_125, 11_025


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Twelve tracks of 3 to 9 s: noise of a colour of its own each."""
    folder = tmp_path_factory.mktemp("songs")
    for number in range(12):
        rng = np.random.default_rng(number)
        samples = rng.normal(0, 0.1, (int((3 + number / 2) * RATE_HZ), 2))
        samples[1:] += (number - 6) / 7 * samples[:-1]
        soundfile.write(folder / f"{number:02d}.wav", samples, RATE_HZ, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def index(songs, small_export, tmp_path_factory):
    """A function that gives the path of a table with these settings."""
    made = {}

    def get(suffix=".parquet", **settings):
        key = (suffix, *settings.items())
        if key not in made:
            output = tmp_path_factory.mktemp("index") / f"index{suffix}"
            embed_catalogue(small_export, [songs], output, Settings(**settings))
            made[key] = output
        return made[key]

    return get


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = command.run(cli.main, cli.PROG, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def neighbours_of(table, paths, model=None, layout=None, n_neighbours=10, **settings):
    """What is near each file; the model is opened where it is needed."""
    tracks = Tracks(table)
    opened = (model, layout) if model is not None else None
    queries = [query_of(tracks, path, lambda: opened or open_model(table, None)) for path in paths]
    return queries, search(tracks, queries, n_neighbours, **settings)


def centred_similarities(vector, table):
    """By scikit-learn, in double precision."""
    mean = table.embeddings.astype(np.float64).mean(axis=0)
    return cosine_similarity(vector[None] - mean, table.embeddings - mean)[0]


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_neighbours_are_those_of_brute_force(index, songs, small_model, suffix):
    table = read_embeddings(index(suffix))
    paths = [songs / "03.wav", songs / "11.wav"]
    _, answers = neighbours_of(table, paths, n_neighbours=5)
    for path, found in zip(paths, answers, strict=True):
        similarities = centred_similarities(small_model.embed_file(path), table)
        order = [row for row in np.argsort(-similarities) if table.paths[row] != str(path)][:5]
        assert [neighbour.row for neighbour in found] == order
        values = [neighbour.similarity for neighbour in found]
        np.testing.assert_allclose(values, similarities[order], atol=1e-5)


def test_percentiles_are_shares_of_all_pairs(index, songs):
    table = read_embeddings(index())
    _, (found,) = neighbours_of(table, [songs / "03.wav"], n_neighbours=11)
    mean = table.embeddings.astype(np.float64).mean(axis=0)
    pairs = cosine_similarity(table.embeddings - mean)[~np.eye(12, dtype=bool)]
    for neighbour in found:
        assert neighbour.percentile == pytest.approx(100 * np.mean(pairs < neighbour.similarity), abs=1.6)
    assert set(found[0].branches) == {"year", "tag"}
    assert found[0].strongest_branch == max(found[0].branches, key=found[0].branches.get)


def test_audio_outside_the_index_finds_its_copy(index, songs, tmp_path, run):
    samples, _ = soundfile.read(songs / "05.wav")
    soundfile.write(tmp_path / "copy.flac", samples, RATE_HZ)
    code, out, err = run(index(), tmp_path / "copy.flac", "-n", 3)
    assert (code, err) == (0, [])
    assert out[0] == f"nearest to {tmp_path / 'copy.flac'}"
    assert out[1].split() == ["rank", "similarity", "nearer", "than", "most", "in", "track"]
    rank, similarity, _, _, path = out[2].split()
    assert (rank, similarity, path) == ("1", "1.0000", str(songs / "05.wav"))
    assert len({line.index("/") for line in out[2:]}) == 1  # columns are aligned
    assert len(out) == 5


def test_of_segments_each_track_is_told_once_at_its_nearest(index, songs, run, monkeypatch):
    settings = {"hop_seconds": HOP / RATE_HZ, "sources": ("tag",)}
    table = read_embeddings(index(**settings))
    model, _ = open_model(table, None)
    monkeypatch.setattr(search_module, "_SEGMENTS_A_TRACK", 1)  # so that more have to be asked for
    (query,), (found,) = neighbours_of(table, [songs / "02.wav"], n_neighbours=11)
    samples = np.pad(soundfile.read(songs / "02.wav", dtype="float32")[0], [(0, SEGMENT), (0, 0)])
    starts = range(0, 4 * RATE_HZ - SEGMENT + HOP, HOP)  # 4 s, and the last segment reaches their end
    segments = np.stack([samples[start : start + SEGMENT] for start in starts])
    np.testing.assert_allclose(query.vectors[0], model.embed_segments(segments).mean(axis=0), atol=1e-5)
    others = {path for path in table.paths if not path.endswith("02.wav")}
    assert {neighbour.path for neighbour in found} == others
    similarities = centred_similarities(query.vectors[0], table)
    for neighbour in found:
        rows = [row for row, path in enumerate(table.paths) if path == neighbour.path]
        assert neighbour.similarity == pytest.approx(similarities[rows].max(), abs=1e-5)
        assert neighbour.start_seconds == table.start_seconds[neighbour.row]
    code, out, _ = run(index(**settings), songs / "02.wav", "-n", 2)
    assert code == 0 and "0:0" in out[2]


@pytest.mark.parametrize("hop_seconds", [MIN_HOP_SECONDS, MAX_HOP_SECONDS])
def test_an_index_of_the_shortest_and_of_the_longest_hop_is_searched(
    small_export, tmp_path, run, hop_seconds
):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, (56_000, 2)), RATE_HZ)
    settings = Settings(hop_seconds=hop_seconds)
    embed_catalogue(small_export, [tmp_path], tmp_path / "x.parquet", settings)
    code, out, err = run(tmp_path / "x.parquet", tmp_path / "a.wav")
    assert (code, err) == (0, [])
    assert str(tmp_path / "b.wav") in out[2]


def test_another_model_than_that_of_the_index_is_refused(
    index, songs, small_run, small_export, tmp_path, run
):
    code, out, err = run(index(), songs / "01.wav", "--model", small_run.run.model)
    assert (code, out, len(err)) == (2, [], 1)
    assert "is not the model that made the index" in err[0]
    moved = shutil.copytree(small_export, tmp_path / "moved")
    assert run(index(), songs / "01.wav", "--model", moved)[0] == 0


def test_a_model_that_is_gone_is_told(songs, small_export, tmp_path, run):
    moved = shutil.copytree(small_export, tmp_path / "moved")
    embed_catalogue(moved, [songs / "01.wav", songs / "02.wav"], tmp_path / "x.npz", Settings())
    shutil.rmtree(moved)
    assert run(tmp_path / "x.npz", songs / "01.wav")[0] == 0  # the table has its vector
    code, _, err = run(tmp_path / "x.npz", songs / "03.wav")
    assert (code, len(err)) == (2, 1)
    assert "was made with a model that is gone" in err[0] and err[0].endswith("; give --model")
    assert run(tmp_path / "x.npz", songs / "01.wav", "--model", small_export)[0] == 0


def test_a_table_without_a_model_needs_one_that_fits(index, songs, small_export, make_run, tmp_path, run):
    with np.load(index(".npz")) as arrays:
        plain = {name: arrays[name] for name in ("paths", "embeddings", "columns")}
    np.savez(tmp_path / "plain.npz", **plain)
    outside = shutil.copy(songs / "01.wav", tmp_path / "outside.wav")
    code, _, err = run(tmp_path / "plain.npz", outside)
    assert code == 2 and "does not say what made it; name the model" in err[0]
    assert run(tmp_path / "plain.npz", songs / "01.wav", "--model", small_export)[0] == 0
    np.savez(
        tmp_path / "short.npz",
        paths=plain["paths"],
        embeddings=plain["embeddings"][:, :7],
        columns=plain["columns"][:7],
    )
    code, _, err = run(tmp_path / "short.npz", songs / "01.wav", "--model", small_export)
    assert code == 2 and "the index has 7" in err[0]


def test_how_a_plain_table_pools_is_told_by_its_width(index, songs, small_export, tmp_path, small_model):
    full = parquet.read_table(index())
    parquet.write_table(full.select(["path", "embedding"]).replace_schema_metadata(), tmp_path / "x.parquet")
    both = read_embeddings(tmp_path / "x.parquet")
    assert both.about is None and both.columns[:2] == ("0", "1")
    vector = small_model.embed_file(songs / "01.wav")
    outside = Path(shutil.copy(songs / "01.wav", tmp_path / "outside.wav"))
    mean = replace(both, columns=both.columns[:512], embeddings=both.embeddings[:, :512])
    starts = replace(mean, start_seconds=np.zeros(len(mean.paths)))
    for table, expected in ((both, vector), (mean, vector[:512]), (starts, vector[:512])):
        (query,), _ = neighbours_of(table, [outside], *open_model(table, small_export))
        np.testing.assert_allclose(query.vectors[0], expected, atol=1e-5)
    with pytest.raises(RecipeError, match="the index has 1024"):
        open_model(replace(both, start_seconds=starts.start_seconds), small_export)


@pytest.mark.io
def test_queries_are_decoded_by_what_decoded_the_index(index, songs, tmp_path):
    table = read_embeddings(index())
    model, layout = open_model(table, None)
    soundfile.write(tmp_path / "a.aiff", soundfile.read(songs / "05.wav")[0], RATE_HZ)
    _, (found,) = neighbours_of(table, [tmp_path / "a.aiff"], model, layout)
    assert found[0].path == str(songs / "05.wav")
    other = replace(table, about=replace(table.about, decoder="tensorflow-io"))
    with pytest.raises(DataError, match="tensorflow-io does not decode AIFF"):
        neighbours_of(other, [tmp_path / "a.aiff"], model, layout)


@pytest.mark.parametrize("name", ["a.wav", os.fsdecode(b"caf\xe9.wav")])
def test_a_query_is_not_its_own_neighbour_whatever_it_is_called(index, songs, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    shutil.copy(songs / "05.wav", Path("folder") / name)
    table = read_embeddings(index())
    model, layout = open_model(table, None)
    inside = [Path("folder") / name, tmp_path / "folder" / name, Path("link") / name]
    for row in inside:
        about = replace(table.about, folder=str(tmp_path))
        own = replace(table, paths=(path_text(row), "a\0b.wav", *table.paths[2:]), about=about)
        for found in neighbours_of(own, inside, model, layout, n_neighbours=12)[1]:
            assert [neighbour.path for neighbour in found].count(str(songs / "05.wav")) == 1
            assert {neighbour.row for neighbour in found} == set(range(1, 12))


def test_what_native_decoders_say_of_a_broken_query_is_not_heard(index, songs, tmp_path, capfd):
    soundfile.write(tmp_path / "whole.mp3", soundfile.read(songs / "05.wav")[0], RATE_HZ)
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    assert command.run(cli.main, cli.PROG, [str(index()), str(tmp_path / "cut.mp3")]) == 1
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 1 and "cut.mp3: ends after" in err[0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-n", "0"], 2, "-n 0"),
        (["--page", "x.jpg"], 2, "ends with .html"),
        (["--page", "n" * 300 + ".html"], 2, "File name too long"),
        (["--m3u", "x.txt"], 2, "ends with .m3u8"),
        (["--at", "1:40-1:23"], 2, "the earlier one first"),
        (["--at", "90-100"], 1, "ends before 90 s"),
        (["--duplicates"], 2, "leave AUDIO"),
        (["--threshold", "0.9"], 2, "with --duplicates"),
        (["--against", "x.npz"], 2, "give --page as well"),
        (["--distinct", "mood"], 2, "give artist"),
        (["--audio-root", "nowhere"], 2, "is not a folder"),
        (["--model", "n" * 300], 2, "File name too long"),
        (["bad.wav"], 1, "is no audio"),
        (["Yesterday"], 1, "Yesterday: is no file here, and the name of no track of the index"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(index, songs, tmp_path, monkeypatch, run, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    Path("bad.wav").write_text("no audio")
    found, out, err = run(index(), songs / "01.wav", *arguments)
    assert (found, out, len(err)) == (code, [], 1)
    assert said in err[0]
    assert run(tmp_path / "bad.wav", songs / "01.wav")[0] == 1
    code, out, err = run("n" * 300, songs / "01.wav")
    assert (code, out, len(err)) == (1, [], 1) and "File name too long" in err[0]


def test_part_of_a_query_is_that_part_alone(index, songs, small_model, tmp_path):
    table = read_embeddings(index())
    samples, _ = soundfile.read(songs / "05.wav", dtype="float32")
    soundfile.write(tmp_path / "part.wav", samples[RATE_HZ : 4 * RATE_HZ], RATE_HZ, subtype="FLOAT")
    opened = open_model(table, None)
    query = query_of(Tracks(table), songs / "05.wav", lambda: opened, (1.0, 4.0))
    np.testing.assert_allclose(query.vectors[0], small_model.embed_file(tmp_path / "part.wav"), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1:23-1:40", (83, 100)), ("5-12.5", (5, 12.5)), ("1:00:01-1:00:02", (3601, 3602))]
)
def test_times_are_written_as_players_show_them(text, seconds):
    assert cli._span_seconds(text) == seconds


def test_several_queries_are_averaged(index, songs, run):
    table = read_embeddings(index())
    code, out, _ = run(index(), songs / "02.wav", songs / "07.wav", "--average", "--json")
    document = json.loads("\n".join(out))
    assert code == 0 and len(document["queries"]) == 1
    vectors = [table.embeddings[table.paths.index(str(songs / name))] for name in ("02.wav", "07.wav")]
    mean = np.mean([vector / np.linalg.norm(vector) for vector in vectors], axis=0)
    length = np.mean([np.linalg.norm(vector) for vector in vectors])
    similarities = centred_similarities(mean * length, table)
    own = {table.paths.index(str(songs / name)) for name in ("02.wav", "07.wav")}
    order = [row for row in np.argsort(-similarities).tolist() if row not in own]
    assert [one["path"] for one in document["queries"][0]["neighbours"]] == [
        table.paths[row] for row in order
    ]


def test_tags_are_shown_and_group_what_is_found(small_export, songs, tmp_path, run, monkeypatch):
    import mutagen

    for number in range(9):
        path = tmp_path / "my music" / f"{number}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, soundfile.read(songs / f"0{number}.wav")[0], RATE_HZ)
        tags = mutagen.File(path)
        tags["artist"], tags["title"] = f"Artist {number % 3}", f"Song {number}"
        tags.save()
    monkeypatch.chdir(tmp_path)
    embed_catalogue(small_export, [Path("my music")], tmp_path / "x.parquet", Settings())
    monkeypatch.chdir(tmp_path / "my music")
    code, out, _ = run(tmp_path / "x.parquet", "3.flac", "--distinct", "artist", "--m3u", tmp_path / "x.m3u8")
    assert code == 0 and len(out) == 2 + 3 + 1
    assert sorted(line.rsplit("  ", 1)[1].split(" – ")[0] for line in out[2:5]) == [
        f"Artist {n}" for n in range(3)
    ]
    playlist = (tmp_path / "x.m3u8").read_text(encoding="utf-8").splitlines()
    assert [Path(line).parent for line in playlist[2::2]] == [tmp_path / "my music"] * 3
    assert all(Path(line).is_file() for line in playlist[2::2])
    assert playlist[1].startswith("#EXTINF:") and ",Artist " in playlist[1]
    paths = [
        one["path"]
        for one in json.loads("\n".join(run(tmp_path / "x.parquet", "3.flac", "--json")[1]))["queries"][0][
            "neighbours"
        ]
    ]
    assert all(Path(path).is_file() for path in paths) and not any("/" in path for path in paths)  # from here


def test_a_query_by_a_relative_path_is_known_from_any_folder(small_export, songs, tmp_path, monkeypatch, run):
    shutil.copytree(songs, tmp_path / "music")
    monkeypatch.chdir(tmp_path)
    embed_catalogue(small_export, [Path("music")], tmp_path / "x.npz", Settings())
    monkeypatch.chdir(tmp_path / "music")
    _, out, _ = run(tmp_path / "x.npz", "05.wav", "-n", 11)
    assert len(out) == 13 and not any(line.endswith(" 05.wav") for line in out[1:])


def test_a_query_by_the_name_of_one_track_alone_is_that_track(
    index, small_export, songs, tmp_path, monkeypatch, run
):
    expected = run(index(), songs / "05.wav")
    monkeypatch.chdir(tmp_path)
    for name in ("05", "05.WAV"):
        assert run(index(), name) == expected
    assert run(index(), "elsewhere/05.wav")[0] == 1
    for folder in ("a", "b"):
        shutil.copytree(songs, tmp_path / folder)
    embed_catalogue(small_export, [Path("a"), Path("b")], tmp_path / "x.npz", Settings())
    code, out, err = run(tmp_path / "x.npz", "05")
    assert (code, out, len(err)) == (1, [], 1)
    assert "05: is the name of 2 tracks of the index (a/05.wav, b/05.wav); give a path" in err[0]


def test_a_second_table_may_lack_tracks_but_not_all(index, songs, small_export, tmp_path, run):
    page, second = tmp_path / "near.html", tmp_path / index().name
    embed_catalogue(small_export, [songs / "01.wav", songs / "02.wav"], second, Settings())
    code, out, err = run(index(), "05", "--page", page, "--against", second)  # it is in the first one alone
    assert (code, err) == (0, [])
    assert f"{second}: its table lacks 10 tracks of the first one" in out
    page.unlink()
    shutil.copy(songs / "01.wav", tmp_path / "other.wav")
    embed_catalogue(small_export, [tmp_path / "other.wav"], tmp_path / "x.npz", Settings())
    code, _, err = run(index(), songs / "05.wav", "--page", page, "--against", tmp_path / "x.npz")
    assert (code, len(err), page.exists()) == (1, 1, False)
    assert "is not in the first table, as no track of the second is" in err[0]


def test_a_second_table_that_does_not_say_its_folder_is_of_the_current_one(
    small_export, songs, tmp_path, run, monkeypatch
):
    monkeypatch.chdir(songs.parent)
    first, second, page = tmp_path / "first.npz", tmp_path / "second.npz", tmp_path / "near.html"
    embed_catalogue(small_export, [Path(songs.name)], first, Settings())
    with np.load(first) as arrays:
        np.savez(second, **{name: arrays[name] for name in arrays if name != "about"})
    assert run(first, "--page", page, "--against", second)[:2] == (0, [f"page: {page}"])
    shutil.copy(songs / "01.wav", tmp_path / "other.wav")
    code, _, err = run(first, tmp_path / "other.wav", "--page", page, "--against", second)
    assert (code, len(err)) == (2, 1)
    assert f"--against {second}: the index does not say what made it" in err[0]


def test_a_copy_in_another_format_is_a_duplicate(small_export, songs, tmp_path, run):
    shutil.copytree(songs, tmp_path / "music")
    soundfile.write(tmp_path / "music" / "copy.flac", soundfile.read(songs / "05.wav")[0], RATE_HZ)
    embed_catalogue(small_export, [tmp_path / "music"], tmp_path / "x.npz", Settings())
    code, out, _ = run(tmp_path / "x.npz", "--duplicates", "--threshold", "0.999", "--json")
    pairs = json.loads("\n".join(out))["pairs"]
    assert code == 0
    names = [{Path(track["path"]).name for track in pair["tracks"]} for pair in pairs]
    assert names == [{"05.wav", "copy.flac"}]
    code, out, _ = run(tmp_path / "x.npz", "--duplicates", "--threshold", "0.999")
    assert code == 0 and len(out) == 3 and "13 tracks, 1 pair" in out[0]


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_a_copy_at_another_level_with_swapped_sides_is_found(index, songs, tmp_path, run, gain):
    samples, _ = soundfile.read(songs / "05.wav")
    soundfile.write(tmp_path / "copy.wav", gain * samples[:, ::-1], RATE_HZ, subtype="FLOAT")
    _, out, _ = run(index(), tmp_path / "copy.wav", "-n", 1, "--any-level")
    assert str(songs / "05.wav") in out[2] and float(out[2].split()[1]) > 0.999
    _, plain, _ = run(index(), tmp_path / "copy.wav", "-n", 1)
    assert float(plain[2].split()[1]) < float(out[2].split()[1])


def test_layers_that_the_index_is_not_of_are_refused_for_its_own_tracks_too(index, songs, run):
    code, out, err = run(index(), songs / "05.wav", "--layers", "all")
    assert (code, out, len(err)) == (2, [], 1) and "--layers all: the index is of last" in err[0]
    assert run(index(), songs / "05.wav", "--layers", "last")[0] == 0


def test_playlists_name_files_as_they_are(small_export, songs, tmp_path, run):
    names = ["\u66f2\u3000\u540d.wav", "tab\there.wav", "nbsp\xa0x.wav", "two\nlines.wav"]
    for name in names:
        shutil.copy(songs / "03.wav", tmp_path / name)
    embed_catalogue(small_export, [tmp_path], tmp_path / "x.npz", Settings())
    code, out, err = run(tmp_path / "x.npz", "--duplicates", "--m3u", tmp_path / "x.m3u8")
    assert (code, err) == (0, [])
    assert out[-1] == f"playlist: {tmp_path / 'x.m3u8'} (without 1 track whose path has a line break)"
    lines = (tmp_path / "x.m3u8").read_text(encoding="utf-8").split("\n")
    assert sorted(lines[2::2]) == sorted(str(tmp_path / name) for name in names[:3])
    assert lines[1::2][:-1] and "\u3000" in "".join(lines[1::2])


def test_a_playlist_of_nothing_found_is_refused(index, run, tmp_path):
    code, out, err = run(index(), "--page", tmp_path / "x.html", "--m3u", tmp_path / "x.m3u8")
    assert (code, out, len(err)) == (2, [], 1) and "--duplicates" in err[0]
