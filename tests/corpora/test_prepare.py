"""One prepared folder for all recipes on a corpus: complete or absent, the same whoever makes it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from kerasrep.api import prepare
from kerasrep.cli import prepare as command_line
from kerasrep.corpora.preview import preview
from kerasrep.corpora.report import describe
from kerasrep.data import shard_decoding
from kerasrep.data.shards import load_index
from kerasrep.errors import DataError, RunError
from kerasrep.recipe.schema import Recipe
from kerasrep.runtime import extras
from kerasrep.sources.target_files import load_targets
from kerasrep.sources.targets import build_targets
from kerasrep.storage import run_directory


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Twelve tracks in six groups, a short one and a broken one; labels for bpm and tag."""
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    folder = tmp_path / "music"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        soundfile.write(folder / f"t{number:02d}.wav", 0.1 * rng.normal(size=(60_000 + number, 1)), 22_050)
    soundfile.write(folder / "short.wav", np.zeros(100), 22_050)
    (folder / "broken.wav").write_text("no audio")
    rows = range(12)
    (folder / "bpm.csv").write_text("track,value\n" + "".join(f"t{n:02d},{60 + 5 * n}\n" for n in rows))
    (folder / "tag.csv").write_text("track,item\n" + "".join(f"t{n:02d},tag{n % 3}\n" for n in rows))
    (folder / "groups.csv").write_text("track,group\n" + "".join(f"t{n:02d},g{n // 2}\n" for n in rows))
    with (folder / "groups.csv").open("a") as file:  # a group that is in training
        file.write("short,g0\nbroken,g0\n")
    return folder


def recipe_for(root, sources=("bpm", "tag"), seed=0, **sections):
    tables = {"bpm": "bpm.csv", "tag": "tag.csv"}
    corpus = {"name": "folder", "root": str(root), "tables": tables, "groups": "groups.csv"}
    corpus |= {"validation_fraction": 0.2, "evaluation_fraction": 0.2} | sections.pop("corpus", {})
    sections = {"targets": {"size": 4}, "batches": {"size": 8}} | sections
    return Recipe.model_validate(
        {"name": "test", "strategy": "mss-cr", "sources": sources, "corpus": corpus, "seed": seed, **sections}
    )


def contents(folder):
    """All but the log, which tells times."""
    paths = [path for path in sorted(folder.iterdir()) if path.name != "log.jsonl"]
    return {path.name: path.read_bytes() for path in paths}


def test_every_file_is_there_and_they_agree(root):
    prepared = prepare(recipe_for(root), progress=False)
    index, targets = load_index(prepared), load_targets(prepared.targets)
    manifest = json.loads(prepared.manifest.read_text())
    assert set(targets) == {"bpm", "tag"}
    for source in targets.values():
        assert source.track_ids.tolist() == index.track_ids.tolist()
    assert manifest["tracks"]["train"] == len(index.rows("train"))
    assert manifest["tracks"]["validation"] == len(index.rows("validation"))
    assert sum(manifest["tracks"].values()) + manifest["skipped"] == 14
    assert manifest["sources"]["self"]["train"] == len(index.rows("train"))
    assert manifest["sources"]["tag"]["size"] == 3  # three tags span no more
    assert set(json.loads(prepared.topics.read_text())) == {"bpm", "tag"}
    assert not list(prepared.root.glob("*.part.json"))


def test_evaluation_tracks_have_neither_audio_nor_targets_here(root):
    prepared = prepare(recipe_for(root), progress=False)
    with prepared.tracks.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    reserved = {row["track_id"] for row in rows if row["split"] == "evaluation"}
    assert reserved
    assert not reserved & set(load_index(prepared).track_ids.tolist())
    for targets in load_targets(prepared.targets).values():
        assert not reserved & set(targets.track_ids.tolist())


def test_skipped_files_are_listed_with_the_reason(root):
    prepared = prepare(recipe_for(root), progress=False)
    with prepared.skipped.open() as file:
        reasons = {row["path"].rsplit("/", 1)[-1]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"broken.wav", "short.wav"}
    assert "no audio" in reasons["broken.wav"] and "shorter than a segment" in reasons["short.wav"]


def test_recipes_that_differ_in_sources_or_training_share_the_folder(root):
    first = prepare(recipe_for(root), progress=False)
    shared = recipe_for(root, sources=("self", "tag"), training={"epochs": 3}, model={"dropout": 0.1})
    assert prepare(shared, progress=False) == first


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"targets": {"size": 5}},
        {"audio": {"sample_rate_hz": 16_000}},
        {"audio": {"segment_seconds": 2.0}},
        {"corpus": {"validation_fraction": 0.4}},
    ],
    ids=str,
)
def test_what_changes_the_files_changes_the_folder(root, change):
    assert prepare(recipe_for(root, **change), progress=False) != prepare(recipe_for(root), progress=False)


@pytest.mark.parametrize("change", [{"seed": 1}, {"targets": {"size": 5}}, {"tags": True}], ids=str)
def test_other_targets_seeds_or_labels_decode_nothing_again(root, monkeypatch, change):
    first = prepare(recipe_for(root), progress=False)
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)  # would raise if anything were decoded
    monkeypatch.setattr(shard_decoding, "read_header", None)
    if change.pop("tags", False):
        (root / "tag.csv").write_text("track,item\n" + "".join(f"t{n:02d},tag{n % 4}\n" for n in range(12)))
    second = prepare(recipe_for(root, **change), progress=False)
    assert second != first
    (shard,) = second.root.glob("*.tfrecord")
    assert shard.samefile(first.root / shard.name)  # one file on the disk
    np.testing.assert_array_equal(load_index(second).read(3), load_index(first).read(3))
    assert load_index(second).split.tolist() == load_index(first).split.tolist()
    skipped = (second.skipped.read_text(), first.skipped.read_text())
    assert skipped[0] == skipped[1]


def test_prepared_folders_stay_whole_when_the_store_of_shards_is_deleted(root):
    first = prepare(recipe_for(root), progress=False)
    shutil.rmtree(run_directory.home() / "shards")
    assert len(load_index(first)) == 10
    second = prepare(recipe_for(root, seed=1), progress=False)  # decodes again
    np.testing.assert_array_equal(load_index(second).read(0), load_index(first).read(0))


def test_a_damaged_store_is_decoded_again(root):
    first = prepare(recipe_for(root), progress=False)
    (shard,) = (run_directory.home() / "shards").glob("*/*.tfrecord")
    expected = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(expected[:1000])
    second = prepare(recipe_for(root, seed=1), progress=False)
    assert next(second.root.glob("*.tfrecord")).read_bytes() == expected
    assert next(first.root.glob("*.tfrecord")).read_bytes() == expected


def test_where_the_disk_has_no_hard_links_shards_are_copied(root, monkeypatch):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    prepared = prepare(recipe_for(root), progress=False)
    assert len(load_index(prepared)) == 10


def test_the_report_counts_overlaps_between_sources(root):
    (root / "bpm.csv").write_text("track,value\n" + "".join(f"t{n:02d},{60 + n}\n" for n in range(9)))
    (root / "tag.csv").write_text("track,item\n" + "".join(f"t{n:02d},x{n % 3}\n" for n in range(4, 12)))
    prepared = prepare(recipe_for(root), progress=False)
    reserved = {
        line.split("\t")[0] for line in prepared.tracks.read_text().splitlines() if "evaluation" in line
    }
    bpm = {f"t{n:02d}.wav" for n in range(9)} - reserved
    tag = {f"t{n:02d}.wav" for n in range(4, 12)} - reserved
    assert json.loads(prepared.manifest.read_text())["overlaps"] == {
        "bpm": {"bpm": len(bpm), "tag": len(bpm & tag)},
        "tag": {"bpm": len(bpm & tag), "tag": len(tag)},
    }
    report = prepared.report.read_text()
    assert f"    tag     {len(bpm & tag):9}{len(tag):9}\n" in report
    assert report in describe(prepared) + "\n"
    page = prepared.page.read_text()
    answer = page.index(f'<p class="answer">{report.splitlines()[0]}.</p>')
    assert answer < page.index('<p class="note">') < page.index("<img ") < page.index("<table>")
    assert f'<th scope="row">tag</th><td class="number">{len(bpm & tag)}</td>' in page


def test_a_second_call_touches_nothing(root, monkeypatch):
    prepared = prepare(recipe_for(root), progress=False)
    before = {path: path.stat().st_mtime_ns for path in prepared.root.iterdir()}
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)  # would raise if anything were decoded
    assert prepare(recipe_for(root), progress=False) == prepared
    assert {path: path.stat().st_mtime_ns for path in prepared.root.iterdir()} == before


def test_an_interrupted_call_has_no_manifest_and_the_next_ends_with_the_same_bytes(root, monkeypatch):
    recipe = recipe_for(root)
    whole = prepare(recipe, progress=False)
    expected = contents(whole.root)
    monkeypatch.setenv("KERASREP_HOME", str(root.parent / "second"))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kerasrep.corpora.prepare.build_targets", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe, progress=False)
    second = run_directory.home() / "prepared" / whole.root.name
    assert second.is_dir() and not (second / "manifest.json").exists()
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)  # the finished shard must be taken as it is
    assert contents(prepare(recipe, progress=False).root) == expected


def test_targets_of_a_finished_source_are_not_made_again(root, monkeypatch):
    recipe = recipe_for(root)
    expected = contents(prepare(recipe, progress=False).root)
    shutil.rmtree(run_directory.home())
    made = []

    def build_and_stop_at_tag(labels, *rest):
        (source,) = labels
        if source == "tag" and "tag" not in made:
            made.append(source)
            raise KeyboardInterrupt
        made.append(source)
        return build_targets(labels, *rest)

    monkeypatch.setattr("kerasrep.corpora.prepare.build_targets", build_and_stop_at_tag)
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, progress=False)
    assert contents(prepare(recipe, progress=False).root) == expected
    assert made == ["bpm", "tag", "tag"]


def test_what_a_killed_process_left_is_removed(root):
    recipe = recipe_for(root)
    prepared = prepare(recipe, progress=False)
    prepared.manifest.unlink()
    left = prepared.root / ".shard-00000-of-00001-abc.tfrecord"
    left.write_bytes(b"half")
    assert prepare(recipe, progress=False) == prepared
    assert prepared.manifest.exists() and not left.exists()


def test_the_summary_says_where_labels_span_fewer_dimensions_than_asked(root):
    lines = describe(prepare(recipe_for(root), progress=False)).splitlines()
    (tag,) = (line for line in lines if line.startswith("  tag "))
    (bpm,) = (line for line in lines if line.startswith("  bpm "))
    assert tag.endswith("3 targets (the labels have no more dimensions; 4 asked for)")
    assert bpm.endswith("4 targets")


SCRIPT = """
import sys
from kerasrep.cli.prepare import main
sys.exit(main([sys.argv[1], "--quiet"]))
"""


def write_recipe_file(root, **sections):
    path = root.parent / "recipe.yaml"
    path.write_text(json.dumps(recipe_for(root, **sections).as_dict()))  # JSON is YAML
    return path


def test_two_processes_at_once_make_one_complete_folder(root, monkeypatch):
    recipe_file = write_recipe_file(root)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(recipe_file)],
            env=os.environ | {"PYTHONHASHSEED": str(number)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    printed = [process.communicate(timeout=100)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert printed[0] == printed[1]
    made = contents(run_directory.home() / "prepared" / printed[0].rsplit("/", 1)[-1])
    monkeypatch.setenv("KERASREP_HOME", str(root.parent / "alone"))
    assert made == contents(prepare(recipe_for(root), progress=False).root)


def test_a_source_without_labels_is_refused_before_decoding(root, monkeypatch):
    monkeypatch.setattr(shard_decoding, "decode_blocks", None)
    with pytest.raises(DataError, match=r"source 'year' has no labelled.*sources it has: self, bpm, tag$"):
        prepare(recipe_for(root, sources=("tag", "year")), progress=False)
    assert not (run_directory.home() / "prepared").exists()


def test_a_source_whose_labels_are_all_outside_training_is_refused(root):
    splits = prepare(recipe_for(root), progress=False).tracks.read_text().splitlines()
    held_out = next(line.split("\t")[0] for line in splits if "\tvalidation\t" in line)
    (root / "bpm.csv").write_text(f"track,value\n{held_out},100\n")
    with pytest.raises(DataError, match=r"source 'bpm' has no labelled.*sources it has: self, tag$"):
        prepare(recipe_for(root), progress=False)


def test_a_source_that_all_training_tracks_have_alike_is_refused_and_reported(root):
    (root / "tag.csv").write_text(
        "track,item\n" + "".join(f"t{n:02d},rock\nt{n:02d},live\n" for n in range(12))
    )
    with pytest.raises(DataError, match=r"source 'tag': all \d+ training tracks have the same label"):
        prepare(recipe_for(root), progress=False)
    prepared = prepare(recipe_for(root, sources=("bpm", "self")), progress=False)
    (line,) = [line for line in prepared.report.read_text().splitlines() if line.startswith("  tag")]
    assert line.endswith("; all training tracks have the same label")


def test_labels_behind_the_end_of_their_tracks_are_counted_and_refused_where_there_are_no_others(root):
    table = {"path": "timed.csv", "target": "labels", "start": "start", "end": "end", "gaps": "negative"}
    recipe = recipe_for(root, sources=("self", "timed"), corpus={"tables": {"timed": table}, "groups": None})

    def write(starts):
        rows = "".join(f"t{n:02d},x,{start},{start + 2000}\n" for n, start in enumerate(starts))
        (root / "timed.csv").write_text(f"track,item,start,end\n{rows}")

    write([0.0] * 9 + [1000.0] * 3)  # milliseconds
    prepared = prepare(recipe, progress=False)
    tracks = load_index(prepared).track_ids.tolist()
    behind = sum(track >= "t09" for track in tracks)
    said = (
        f"{1 - behind / len(tracks):.0%} of their time labelled; {behind} of {len(tracks)} rows begin after"
    )
    assert behind and said in prepared.report.read_text()

    write([1000.0] * 12)
    with pytest.raises(DataError, match=r"corpus\.tables\.timed: all \d+ rows begin after their track's end"):
        prepare(recipe, progress=False)


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])  # libsndfile's MPEG decoder likes to talk
def test_a_corpus_of_broken_files_is_one_line_and_leaves_nothing(root, capfd, suffix):
    for path in root.glob("*.wav"):
        path.write_bytes(b"\xff\xfb no audio" * 1000 + path.name.encode())
        path.rename(path.with_suffix(suffix))
    recipe_file = write_recipe_file(root)
    assert command_line.command.run(command_line.main, "kerasrep-prepare", [str(recipe_file), "--quiet"]) == 1
    message = capfd.readouterr().err
    assert "train tracks can be used; the first" in message and "is no audio" in message
    assert message.count("\n") == 1
    assert [p for p in (run_directory.home() / "prepared").iterdir() if p.suffix != ".lock"] == []


def test_the_command_prints_the_summary(root, capsys):
    recipe_file = write_recipe_file(root)
    assert command_line.main([str(recipe_file), "targets.size=2"]) == 0
    printed = capsys.readouterr().out
    prepared = prepare(recipe_for(root, targets={"size": 2}), progress=False)
    assert describe(prepared) in printed
    assert str(prepared.root) in printed and "skipped: 2 files" in printed and "self" in printed
    train = json.loads(prepared.manifest.read_text())["sources"]["tag"]["train"]
    assert f"has labels of {train} training tracks, as many as any other source." in prepared.page.read_text()


@pytest.mark.parametrize("check", [False, True])
def test_no_cluster_is_asked_where_the_audio_is_decoded_already(root, check):
    prepared = prepare(recipe_for(root), progress=False)
    nobody = "127.0.0.1:1"
    assert prepare(recipe_for(root), False, check, nobody).root == prepared.root
    other = prepare(recipe_for(root, targets={"size": 3}), False, check, nobody)
    assert other.root != prepared.root
    assert load_index(other).shard_bytes.tolist() == load_index(prepared).shard_bytes.tolist()


@pytest.mark.parametrize("begin", [prepare, preview])
def test_a_decoder_that_is_not_installed_is_refused_before_anything_is_read(tmp_path, monkeypatch, begin):
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    recipe = recipe_for(tmp_path / "nowhere", audio={"decoder": "tensorflow-io"})
    with pytest.raises(RunError, match=r"^audio\.decoder: tensorflow-io: needs tensorflow_io; .*\[io\]'$"):
        begin(recipe)
