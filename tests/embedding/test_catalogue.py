import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from kerasrep.data.audio import decode
from kerasrep.embedding import decoding, models, named
from kerasrep.embedding.catalogue import job, parts, writing
from kerasrep.embedding.catalogue.job import Settings, embed_catalogue
from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.embedder import load
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.representations import model_fingerprint
from kerasrep.errors import DataError, ExportError, RecipeError, RunError
from kerasrep.storage.folder_lock import held

RATE_HZ, SEGMENT = 22_050, 55_125


def features(segments):
    """Two branches of 256 that tell segments apart, without a network."""
    level = np.abs(segments).mean(axis=(1, 2))
    ramp = np.arange(512, dtype=np.float32)
    return (level[:, None] * (1 + ramp) + segments[:, 100, 0, None]).astype(np.float32)


@pytest.fixture
def quick(monkeypatch, small_export):
    """The model replaced by `features`; a list of the batches that it saw."""
    seen = []

    def embed_segments(segments):
        seen.append(segments.shape)
        return features(segments)

    model = SegmentModel(embed_segments, RATE_HZ, SEGMENT, ("year", "tag"))
    monkeypatch.setattr(named, "find_model", lambda path: (lambda found: model, small_export))
    return seen


def write(path, seconds, seed, rate_hz=RATE_HZ):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, (max(1, int(seconds * rate_hz)), 2))
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "audio"
    for number, seconds in enumerate((3.0, 0.5, 50.0, 7.6, 0.0, 2.5, 9.0)):
        write(root / f"d{number % 3}" / f"{number}.wav", seconds, number)
    return root


def by_hand(path, hop=SEGMENT):
    stereo = decode(path, RATE_HZ)
    count = 1 + max(0, -(-(len(stereo) - SEGMENT) // hop))
    padded = np.zeros((count * hop + SEGMENT, 2), np.float32)
    padded[: len(stereo)] = stereo
    return features(np.stack([padded[k * hop : k * hop + SEGMENT] for k in range(count)]))


def embed(folder, output, model=Path("any"), restart=False, **settings):
    return embed_catalogue(model, [folder], output, Settings(**settings), restart)


def test_every_batch_is_full_and_files_share_them(folder, tmp_path, quick):
    summary = embed(folder, tmp_path / "x.parquet")
    assert (summary.files, summary.bad, summary.kept) == (7, 0, 0)
    n_segments = sum(len(by_hand(path)) for path in folder.rglob("*.wav"))
    assert quick == [(16, SEGMENT, 2)] * -(-n_segments // 16)


def test_a_table_that_is_text_is_not_read_back_and_says_which_are(folder, tmp_path, quick):
    embed(folder, tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"x\.csv: CSV is written for other programs; give a \.parquet"):
        read_embeddings(tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_pooled_rows_are_those_of_each_file_alone_in_the_order_of_the_files(folder, tmp_path, quick, suffix):
    embed(folder, tmp_path / f"x{suffix}")
    table = read_embeddings(tmp_path / f"x{suffix}")
    paths = sorted(folder.rglob("*.wav"))
    assert table.paths == tuple(map(str, paths))
    assert table.start_seconds is None
    for path, row, seconds in zip(paths, table.embeddings, table.seconds, strict=True):
        expected = by_hand(path).astype(np.float64)
        np.testing.assert_allclose(row, [*expected.mean(axis=0), *expected.std(axis=0)], rtol=1e-5, atol=1e-5)
        assert seconds == soundfile.info(path).frames / RATE_HZ
    assert table.columns[:1] + table.columns[-1:] == ("mean/year/0", "sd/tag/255")


def test_only_means_are_kept_where_asked(folder, tmp_path, quick):
    embed(folder, tmp_path / "both.npz")
    embed(folder, tmp_path / "mean.npz", pool="mean")
    both, mean = (read_embeddings(tmp_path / f"{name}.npz") for name in ("both", "mean"))
    np.testing.assert_array_equal(mean.embeddings, both.embeddings[:, :512])
    assert mean.columns == both.columns[:512]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_rows_over_time_carry_the_time_they_begin(folder, tmp_path, quick, suffix):
    hop_seconds = 0.3
    embed(folder, tmp_path / f"x{suffix}", hop_seconds=hop_seconds)
    table = read_embeddings(tmp_path / f"x{suffix}")
    assert table.columns[256] == "tag/0"
    paths = sorted(folder.rglob("*.wav"))
    expected = [by_hand(path, hop=round(hop_seconds * RATE_HZ)) for path in paths]
    assert table.paths == tuple(str(path) for path, rows in zip(paths, expected, strict=True) for _ in rows)
    np.testing.assert_allclose(table.embeddings, np.concatenate(expected), rtol=1e-6)
    starts = np.concatenate([np.arange(len(rows)) * hop_seconds for rows in expected])
    np.testing.assert_allclose(table.start_seconds, starts, atol=1e-9)


@pytest.mark.parametrize("kind", ["export", "run"])
def test_segments_that_a_network_cuts_itself_are_those_that_are_copied(
    folder, tmp_path, monkeypatch, small_run, small_export, kind
):
    model, real, cut = small_export if kind == "export" else small_run.run.root, models._Forward.windows, []

    def windows(forward, stretch, starts):
        cut.append(len(starts))
        return real(forward, stretch, starts)

    monkeypatch.setattr(models._Forward, "windows", windows)
    embed_catalogue(model, [folder], tmp_path / "x.npz", Settings(hop_seconds=0.5))
    paths = sorted(folder.rglob("*.wav"))
    copied = [load(model).embed_file_timed(path, 0.5).embeddings for path in paths]
    found = read_embeddings(tmp_path / "x.npz").embeddings
    np.testing.assert_allclose(found, np.concatenate(copied), rtol=1e-4, atol=1e-5)
    assert cut == [16] * -(-len(found) // 16)


@pytest.mark.parametrize("hop_seconds", [None, 0.3, 7.0])
def test_the_audio_that_is_counted_is_that_of_the_files_whatever_the_hop(
    folder, tmp_path, quick, hop_seconds
):
    (folder / "d0" / "bad.wav").write_text("no audio")
    summary = embed(folder, tmp_path / "x.npz", hop_seconds=hop_seconds)
    frames = [soundfile.info(path).frames for path in folder.rglob("[0-9].wav")]
    assert len(frames) == summary.files == 7
    assert summary.audio_seconds == pytest.approx(sum(frames) / RATE_HZ)


def test_a_hop_and_pooling_go_together(folder, tmp_path, quick):
    embed(folder, tmp_path / "x.npz", hop_seconds=0.5, pool="mean")
    path = sorted(folder.rglob("*.wav"))[0]
    found = read_embeddings(tmp_path / "x.npz").embeddings[0]
    np.testing.assert_allclose(found, by_hand(path, hop=11_025).mean(axis=0), rtol=1e-5, atol=1e-6)


def test_kept_sources_stand_in_the_order_of_the_model(folder, tmp_path, quick):
    embed(folder, tmp_path / "all.npz")
    embed(folder, tmp_path / "tag.npz", sources=("tag",))
    embed(folder, tmp_path / "both.npz", sources=("tag", "year"))
    every, tag, both = (read_embeddings(tmp_path / f"{name}.npz") for name in ("all", "tag", "both"))
    kept = [number for number, column in enumerate(every.columns) if "/tag/" in column]
    assert tag.columns == tuple(every.columns[number] for number in kept)
    np.testing.assert_array_equal(tag.embeddings, every.embeddings[:, kept])
    assert both.columns == every.columns
    assert tag.about.branches == ("tag",)


def test_sources_of_a_model_that_shares_everything_are_refused(folder, tmp_path, monkeypatch, small_export):
    model = SegmentModel(features, RATE_HZ, SEGMENT, ("shared",))
    monkeypatch.setattr(named, "find_model", lambda path: (lambda found: model, small_export))
    with pytest.raises(RecipeError, match="shares everything"):
        embed(folder, tmp_path / "x.npz", sources=("tag",))


def test_a_table_says_what_made_it(folder, tmp_path, small_export):
    embed_catalogue(small_export.parent, [folder], tmp_path / "x.parquet", Settings(hop_seconds=5.0))
    schema = parquet.read_schema(tmp_path / "x.parquet")
    assert schema.names == ["path", "seconds", "start_seconds", "embedding"]
    about = read_embeddings(tmp_path / "x.parquet").about
    assert About.from_json(schema.metadata[b"kerasrep"]) == about
    assert Path(about.model) == small_export
    assert about.model_fingerprint == model_fingerprint(small_export)
    assert about.branches == about.model_branches == ("year", "tag")
    assert (about.pool, about.hop_seconds, about.segment_seconds) == ("none", 5.0, 2.5)
    assert about.folder == str(Path.cwd())


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_pooled_rows_say_where_the_segment_nearest_to_their_mean_begins(
    folder, tmp_path, small_export, suffix
):
    table = embed_catalogue(
        small_export, [folder], tmp_path / f"x{suffix}", Settings(hop_seconds=0.5, pool="mean")
    )
    pooled = read_embeddings(tmp_path / f"x{suffix}")
    embed_catalogue(small_export, [folder], tmp_path / "segments.npz", Settings(hop_seconds=0.5))
    single = read_embeddings(tmp_path / "segments.npz")
    assert single.typical_seconds is None and table.files == len(pooled.paths)
    for path, mean, typical in zip(pooled.paths, pooled.embeddings, pooled.typical_seconds, strict=True):
        rows = [row for row, name in enumerate(single.paths) if name == path]
        distances = np.linalg.norm(single.embeddings[rows] - mean, axis=1)
        assert typical == pytest.approx(single.start_seconds[rows[int(np.argmin(distances))]])


def test_the_real_model_gives_what_it_gives_alone(folder, tmp_path, small_export, small_model):
    embed_catalogue(small_export, [folder], tmp_path / "x.npz", Settings())
    table = read_embeddings(tmp_path / "x.npz")
    assert table.columns == small_model.columns
    for path, row in zip(table.paths, table.embeddings, strict=True):
        np.testing.assert_allclose(row, small_model.embed_file(path), atol=1e-6)


def test_shards_hold_equal_numbers_of_rows_and_read_as_one_table(folder, tmp_path, quick):
    embed(folder, tmp_path / "one.parquet", hop_seconds=1.0)
    embed(folder, tmp_path / "many", hop_seconds=1.0, shard_rows=10)
    one, many = read_embeddings(tmp_path / "one.parquet"), read_embeddings(tmp_path / "many")
    np.testing.assert_array_equal(many.embeddings, one.embeddings)
    assert many.paths == one.paths
    sizes = [parquet.read_metadata(file).num_rows for file in sorted((tmp_path / "many").iterdir())]
    assert sizes[:-1] == [10] * (len(sizes) - 1) and 0 < sizes[-1] <= 10
    assert len(parquet.read_table(tmp_path / "many")) == len(one.paths)
    with pytest.raises(RecipeError, match="exists already"):
        embed(folder, tmp_path / "many", shard_rows=10)


class Killed(BaseException):
    """As sudden as an exception can be."""


def killed_after(n_batches, monkeypatch, small_export):
    calls = []

    def embed_segments(segments):
        calls.append(1)
        if len(calls) > n_batches:
            raise Killed
        return features(segments)

    model = SegmentModel(embed_segments, RATE_HZ, SEGMENT, ("year", "tag"))
    monkeypatch.setattr(named, "find_model", lambda path: (lambda found: model, small_export))


@pytest.mark.parametrize("hop_seconds", [None, 0.7])
def test_stopped_work_goes_on_without_doing_a_file_again(
    folder, tmp_path, quick, monkeypatch, small_export, hop_seconds
):
    embed(folder, tmp_path / "clean.npz", hop_seconds=hop_seconds)
    quick.clear()
    with monkeypatch.context() as patch:
        killed_after(1, patch, small_export)
        patch.setattr(decoding, "WAITING_FILES", 1)  # in their order
        with pytest.raises(Killed):
            embed(folder, tmp_path / "x.npz", hop_seconds=hop_seconds, workers=1)
    assert not (tmp_path / "x.npz").exists()
    write(folder / "d0" / "new.wav", 3.0, 99)
    summary = embed(folder, tmp_path / "x.npz", hop_seconds=hop_seconds)
    (folder / "d0" / "new.wav").unlink()
    assert 0 < summary.kept < 7
    found, clean = read_embeddings(tmp_path / "x.npz"), read_embeddings(tmp_path / "clean.npz")
    old = [number for number, path in enumerate(found.paths) if not path.endswith("new.wav")]
    assert tuple(found.paths[number] for number in old) == clean.paths
    np.testing.assert_array_equal(found.embeddings[old], clean.embeddings)
    assert not parts.parts_folder(tmp_path / "x.npz").exists()


def test_what_changed_vanished_or_was_bad_meanwhile_is_seen(folder, tmp_path, quick, monkeypatch):
    bad = folder / "d0" / "0-bad.wav"
    bad.write_text("no audio")
    with monkeypatch.context() as patch:
        patch.setattr(job, "_write", killed)
        with pytest.raises(Killed):
            embed(folder, tmp_path / "x.npz")
    paths = sorted(folder.rglob("*.wav"))
    write(bad, 1.0, 5)
    write(paths[2], 4.0, 77)
    paths[3].unlink()
    size = paths[4].stat().st_size
    write(paths[4], soundfile.info(paths[4]).duration, 78)
    assert paths[4].stat().st_size == size
    kept = []
    with monkeypatch.context() as patch:
        patch.setattr(job, "_write", lambda *arguments: killed(kept.append(arguments[-1].kept)))
        with pytest.raises(Killed):
            embed(folder, tmp_path / "x.npz")
    assert kept == [4]
    assert embed(folder, tmp_path / "x.npz").kept == 7
    table = read_embeddings(tmp_path / "x.npz")
    assert table.paths == tuple(map(str, sorted(folder.rglob("*.wav"))))
    for path, row in zip(table.paths, table.embeddings, strict=True):
        np.testing.assert_allclose(row[:512], by_hand(Path(path)).mean(axis=0), rtol=1e-4, atol=1e-5)


def killed(*_arguments):
    raise Killed


def test_work_of_other_settings_is_refused_until_it_is_given_up(folder, tmp_path, quick, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(job, "_write", killed)
        with pytest.raises(Killed):
            embed(folder, tmp_path / "x.npz")
    with pytest.raises(RecipeError, match=r"another pool \(mean-std, now mean\).*--restart"):
        embed(folder, tmp_path / "x.npz", pool="mean")
    assert embed(folder, tmp_path / "x.npz", pool="mean", restart=True).kept == 0


@pytest.fixture
def begun(folder, tmp_path, quick, monkeypatch):
    """`x.npz`, whose work is done but for the table."""
    with monkeypatch.context() as patch:
        patch.setattr(job, "_write", killed)
        with pytest.raises(Killed):
            embed(folder, tmp_path / "x.npz")
    return tmp_path / "x.npz"


def test_a_restart_that_cannot_be_keeps_what_was_done(folder, begun):
    with pytest.raises(RecipeError, match="did you mean 'tag'"):
        embed(folder, begun, sources=("tga",), restart=True)
    with pytest.raises(RecipeError, match="hop of"):
        embed(folder, begun, hop_seconds=-1.0, restart=True)
    assert embed(folder, begun).kept == 7


def test_a_restart_with_a_model_that_is_none_keeps_what_was_done(folder, begun, monkeypatch):
    def damaged(_path):
        raise ExportError("damaged")

    with monkeypatch.context() as patch:
        patch.setattr(named, "find_model", lambda path: (damaged, begun))
        patch.setattr(named, "model_fingerprint", lambda path: "0")
        with pytest.raises(ExportError, match="damaged"):
            embed(folder, begun, restart=True)
    assert embed(folder, begun).kept == 7


def test_two_processes_do_not_work_on_one_output_even_with_a_restart(folder, begun):
    with held(parts.parts_folder(begun)):
        for restart in (False, True):
            with pytest.raises(RunError, match="another process works on this output"):
                embed(folder, begun, restart=restart)
    assert embed(folder, begun).kept == 7


def test_a_restart_forgets_the_work_of_the_same_settings_and_of_other_formats(folder, begun, quick):
    (part,) = parts.parts_in(parts.parts_folder(begun))
    quick.clear()
    settings, entries, _ = parts.read_part(part)
    other = writing.described(
        files=json.dumps(entries), kerasrep=settings.replace('"format": 1', '"format": 99')
    )
    parquet.write_table(parquet.read_table(part).replace_schema_metadata(other), part)
    with pytest.raises(DataError, match=r"format 99.*--restart"):
        embed(folder, begun)
    summary = embed(folder, begun, restart=True)
    assert (summary.kept, summary.files) == (0, 7) and quick


def test_what_an_earlier_version_left_is_not_used_and_goes_in_the_end(folder, tmp_path, quick):
    place = parts.parts_folder(tmp_path / "x.npz")
    place.mkdir()
    for name in ("journal.sqlite", "0123.part", ".part-abcd1234.parquet", "x.parquet"):
        (place / name).write_bytes(b"of an earlier version")
    summary = embed(folder, tmp_path / "x.npz")
    assert (summary.kept, summary.files) == (0, 7)
    assert not place.exists()


def test_a_damaged_part_is_told_in_one_line_and_its_files_are_done_again(
    folder, tmp_path, begun, quick, capsys
):
    embed(folder, tmp_path / "clean.npz")
    quick.clear()
    (part,) = parts.parts_in(parts.parts_folder(begun))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 4
    part.write_bytes(content)
    summary = embed(folder, begun)
    assert (summary.kept, summary.files) == (0, 7) and quick
    said = capsys.readouterr().out
    assert said.startswith(f"{part}: is damaged (") and said.count("\n") == 1
    assert begun.read_bytes() == (tmp_path / "clean.npz").read_bytes()


def test_a_part_that_breaks_while_the_table_is_written_is_told_and_done_again(folder, begun, monkeypatch):
    with monkeypatch.context() as patch:
        real = writing.write_skipped

        def spoil(*arguments):
            real(*arguments)
            (part,) = parts.parts_in(parts.parts_folder(begun))
            part.write_bytes(part.read_bytes()[:-1])

        patch.setattr(writing, "write_skipped", spoil)
        with pytest.raises(DataError, match=r"is damaged .*; give the same command again"):
            embed(folder, begun)
    assert not begun.exists()
    assert embed(folder, begun).files == 7


def test_parts_that_are_damaged_as_soon_as_they_are_written_end_the_work(
    folder, tmp_path, quick, monkeypatch
):
    real = parts.parquet.write_table

    def spoil(table, path, **options):
        real(table, path, **options)
        path.write_bytes(path.read_bytes()[:-1])

    monkeypatch.setattr(parts.parquet, "write_table", spoil)
    with pytest.raises(RunError, match="damaged as soon as they are written; check the disk"):
        embed(folder, tmp_path / "x.npz")


@pytest.fixture
def many_parts(folder, tmp_path, quick, monkeypatch):
    """`x.parquet`, a row a segment, done but for the table, its files in several parts; and the parts."""
    with monkeypatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", 1)
        patch.setattr(job, "_write", killed)
        with pytest.raises(Killed):
            embed(folder, tmp_path / "x.parquet", hop_seconds=0.3)
    return tmp_path / "x.parquet", parts.parts_in(parts.parts_folder(tmp_path / "x.parquet"))


def test_rows_of_a_file_that_spans_parts_stand_together(folder, tmp_path, many_parts):
    output, found = many_parts
    assert len(found) > 14 and max(len(parts.read_part(part).entries) for part in found) > 1
    embed(folder, tmp_path / "clean.parquet", hop_seconds=0.3)
    assert embed(folder, output, hop_seconds=0.3).kept == 7
    assert output.read_bytes() == (tmp_path / "clean.parquet").read_bytes()


def test_a_file_one_of_whose_parts_is_damaged_is_done_again_whole(folder, tmp_path, many_parts, quick):
    output, found = many_parts
    embed(folder, tmp_path / "clean.parquet", hop_seconds=0.3)
    spoilt = {entry.path for part in found[3:5] for entry in parts.read_part(part).entries}
    found[3].unlink()
    found[4].write_bytes(b"damaged")
    assert embed(folder, output, hop_seconds=0.3).kept == 7 - len(spoilt) > 0
    assert output.read_bytes() == (tmp_path / "clean.parquet").read_bytes()


@pytest.mark.io
def test_files_are_decoded_by_what_was_asked_for(tmp_path, quick):
    soundfile.write(tmp_path / "a.aiff", np.zeros((500, 2)), RATE_HZ)
    summary = embed(tmp_path, tmp_path / "x.npz", decoder="tensorflow-io")
    assert (summary.bad, summary.files) == (1, 0)
    ((_, reason),) = job.read_skipped(tmp_path / "x.npz")
    assert "tensorflow-io does not decode AIFF" in reason
    summary = embed(tmp_path, tmp_path / "x.npz", decoder="soundfile")
    assert (summary.bad, summary.files) == (0, 1)


def test_a_file_named_twice_stands_once(folder, tmp_path, quick):
    path = sorted(folder.rglob("*.wav"))[0]
    embed_catalogue(Path("any"), [path, folder, folder, path], tmp_path / "x.npz", Settings())
    table = read_embeddings(tmp_path / "x.npz")
    assert len(set(table.paths)) == len(table.paths) == 7


def test_what_cannot_be_written_is_told_and_the_work_kept(folder, tmp_path, quick, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_npz", full)
        with pytest.raises(RunError, match=r"the disk is full.*what is done is kept"):
            embed(folder, tmp_path / "x.npz")
    assert embed(folder, tmp_path / "x.npz").kept == 7


def test_a_table_of_skipped_files_that_cannot_be_written_leaves_the_work(
    folder, tmp_path, quick, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(job, "check_output", lambda *_arguments: None)
        (tmp_path / "x.npz.skipped.csv").mkdir()
        with pytest.raises(RunError, match=r"x\.npz\.skipped\.csv: cannot be written.*what is done is kept"):
            embed(folder, tmp_path / "x.npz")
    (tmp_path / "x.npz.skipped.csv").rmdir()
    assert embed(folder, tmp_path / "x.npz").kept == 7


def test_tables_that_are_none_are_refused_in_one_line(tmp_path):
    np.savez(tmp_path / "a.npz", paths=np.array(["x"]))
    np.savez(tmp_path / "b.npz", paths=np.array(["x"]), embeddings=np.zeros((2, 3), "f4"), columns=["a"])
    np.savez(tmp_path / "c.npz", paths=np.array(["x"]), embeddings=np.full((1, 1), np.nan), columns=["a"])
    np.savez(tmp_path / "d.npz", paths=["x"], embeddings=np.ones((1, 1)), columns=["a"], about="{}")
    (tmp_path / "e.parquet").write_text("no table")
    (tmp_path / "f").mkdir()
    for name in (
        "a.npz",
        "b.npz",
        "c.npz",
        "d.npz",
        "e.parquet",
        "f",
        "missing.npz",
        "n" * 300,
        "n" * 300 + "/x.npz",
    ):
        with pytest.raises(DataError, match=name) as caught:
            read_embeddings(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_csv_table_has_the_same_numbers(folder, tmp_path, quick):
    embed(folder, tmp_path / "x.npz", hop_seconds=0.5)
    embed(folder, tmp_path / "x.csv", hop_seconds=0.5)
    table = read_embeddings(tmp_path / "x.npz")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["path", "seconds", "start_seconds", *table.columns]
    assert [row[0] for row in rows] == list(table.paths)
    np.testing.assert_array_equal(np.array([row[3:] for row in rows], np.float32), table.embeddings)
    np.testing.assert_array_equal([float(row[2]) for row in rows], table.start_seconds)


def add(folder, output, **settings):
    return embed_catalogue(Path("any"), [folder], output, Settings(**settings), append=True)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_what_is_new_or_changed_is_added_to_a_table(folder, tmp_path, quick, suffix):
    output = tmp_path / f"x{suffix}"
    paths = sorted(folder.rglob("*.wav"))
    embed(folder, output, hop_seconds=0.5)
    before = output.read_bytes()
    summary = add(folder, output, hop_seconds=0.5)
    assert (summary.files, summary.kept, summary.bad) == (len(paths), len(paths), 0)
    assert output.read_bytes() == before
    soundfile.write(folder / "new.wav", np.ones((RATE_HZ, 2)) / 7, RATE_HZ)
    soundfile.write(paths[0], np.ones((RATE_HZ, 2)) / 5, RATE_HZ)
    paths[1].unlink()
    summary = add(folder, output, hop_seconds=0.5)
    assert (summary.files, summary.kept) == (len(paths) + 1, len(paths) - 2)
    table = read_embeddings(output)
    assert list(dict.fromkeys(table.paths))[-2:] == [str(paths[0]), str(folder / "new.wav")]
    embed(folder, tmp_path / f"all{suffix}", hop_seconds=0.5)
    everything = read_embeddings(tmp_path / f"all{suffix}")
    for path in set(everything.paths):
        mine, theirs = ([one == path for one in each.paths] for each in (table, everything))
        np.testing.assert_array_equal(table.embeddings[mine], everything.embeddings[theirs])
        np.testing.assert_array_equal(table.start_seconds[mine], everything.start_seconds[theirs])
    assert str(paths[1]) in table.paths  # nobody asked for its removal


def test_rows_of_a_file_that_was_spoilt_are_not_kept(folder, tmp_path, quick):
    output, paths = tmp_path / "x.npz", sorted(folder.rglob("*.wav"))
    embed(folder, output)
    paths[0].write_bytes(b"no audio any more")
    summary = add(folder, output)
    assert (summary.files, summary.bad) == (len(paths) - 1, 1)
    assert str(paths[0]) not in read_embeddings(output).paths


def test_a_table_of_other_settings_is_not_added_to(folder, tmp_path, quick):
    embed(folder, tmp_path / "x.npz")
    with pytest.raises(RecipeError, match=r"x\.npz: was made with another pool \(mean-std, now mean\)"):
        add(folder, tmp_path / "x.npz", pool="mean")
    assert not (tmp_path / ".x.npz.parts").exists()
    with np.load(tmp_path / "x.npz") as arrays:
        np.savez(tmp_path / "z.npz", **{name: arrays[name] for name in arrays if name != "about"})
    with pytest.raises(RecipeError, match=r"z\.npz: does not say what made it"):
        add(folder, tmp_path / "z.npz")
    assert add(folder, tmp_path / "y.npz").files == 7


def test_a_table_of_relative_paths_is_added_to_from_its_own_folder_alone(
    folder, tmp_path, quick, monkeypatch
):
    output, music = tmp_path / "x.npz", Path("music")
    for name in ("one", "other"):
        shutil.copytree(folder, tmp_path / name / music)
    monkeypatch.chdir(tmp_path / "one")
    embed(music, output)
    assert add(music, output).kept == 7
    before = output.read_bytes()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(RecipeError, match=rf"x\.npz: its relative paths begin in {tmp_path / 'one'};"):
        add(music, output)
    assert output.read_bytes() == before
    shutil.rmtree(tmp_path / "other")
    (tmp_path / "one").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert add(music, output).files == 7
