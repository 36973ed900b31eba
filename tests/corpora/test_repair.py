"""Damaged shards are found by their checksums, named, and decoded again alone."""

import json
import os

import numpy as np
import pytest
import soundfile

from kerasrep.api import prepare
from kerasrep.cli import prepare as command_line
from kerasrep.data import shard_decoding, shard_writer
from kerasrep.data.shard_check import sound_index
from kerasrep.data.shards import load_index
from kerasrep.errors import DataError
from kerasrep.recipe.file import write_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.storage import run_directory


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A recipe on twelve tracks in several shards, prepared in a home of its own."""
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 800_000)
    folder = tmp_path / "music"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        soundfile.write(folder / f"t{number:02d}.wav", 0.1 * rng.normal(size=(60_000, 1)), 22_050)
    values = {"name": "folder", "root": str(folder), "validation_fraction": 0.3}
    values = {"name": "test", "strategy": "ss-r", "sources": ["self"], "corpus": values}
    recipe = Recipe.model_validate(values | {"batches": {"size": 4}})
    return recipe, prepare(recipe, progress=False)


def harm(path, how):
    content = bytearray(path.read_bytes())
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    if how == "one bit":
        content[len(content) // 2] ^= 4
    path.write_bytes(content[:-100] if how == "truncated" else content)
    os.utime(path, ns=times)  # as a disk does that forgets, the time of change does not tell


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["one bit", "truncated"])
def test_a_damaged_shard_is_named_and_refused_or_skipped(corpus, how):
    _, prepared = corpus
    whole, faults = sound_index(prepared)
    assert not faults
    harm(whole.shard_paths[1], how)
    with pytest.raises(
        DataError, match=r"shard-00001-of-00004\.tfrecord: .*kerasrep-prepare --check"
    ) as told:
        sound_index(prepared)
    assert "train without its 3 tracks" in str(told.value) and "\n" not in str(told.value)
    index, faults = sound_index(prepared, "skip")
    assert list(faults) == ["shard-00001-of-00004.tfrecord"]
    lost = set(whole.track_ids[whole.shard == 1].tolist())
    left = {index.track_ids[row] for split in ("train", "validation") for row in index.rows(split)}
    assert left == set(whole.track_ids.tolist()) - lost
    if how == "one bit":
        unchecked, faults = sound_index(prepared, "unchecked")
        assert not faults and len(unchecked.rows("train")) == len(whole.rows("train"))


def test_check_decodes_the_tracks_of_the_damaged_shard_alone(corpus, tmp_path, monkeypatch, capsys):
    recipe, prepared = corpus
    expected, index = contents(prepared.root), load_index(prepared)
    harm(prepared.root / "shard-00002-of-00004.tfrecord", "one bit")
    decoded, decode = [], shard_decoding.decode_blocks

    def counted(path, *rest):
        decoded.append(path.name)
        return decode(path, *rest)

    monkeypatch.setattr(shard_decoding, "decode_blocks", counted)
    write_recipe(tmp_path / "recipe.yaml", recipe)
    assert command_line.main([str(tmp_path / "recipe.yaml"), "--check"]) == 0
    said = capsys.readouterr().out
    assert "shard-00002-of-00004.tfrecord: its bytes are not those" in said
    assert "checked: 4 shards, 1 decoded again" in said
    assert sorted(decoded) == sorted(index.track_ids[index.shard == 2].tolist())
    assert contents(prepared.root) == expected
    decoded.clear()
    assert prepare(recipe, progress=False, check=True) == prepared and not decoded


def test_a_shard_whose_audio_decodes_to_other_samples_is_not_taken_for_the_old_one(corpus, monkeypatch):
    recipe, prepared = corpus
    harm(prepared.root / "shard-00000-of-00004.tfrecord", "truncated")
    decode = shard_decoding.decode_blocks
    monkeypatch.setattr(
        shard_decoding, "decode_blocks", lambda *arguments: (0.5 * block for block in decode(*arguments))
    )
    with pytest.raises(DataError, match=r"shard-00000-of-00004\.tfrecord.* decodes to other samples"):
        prepare(recipe, progress=False, check=True)


def test_a_manifest_without_checksums_is_refused(corpus):
    _, prepared = corpus
    manifest = json.loads(prepared.manifest.read_text())
    run_directory.write_json(prepared.manifest, {**manifest, "shards": None})
    with pytest.raises(DataError, match="has no checksums of shards"):
        sound_index(prepared)


@pytest.mark.parametrize("how", ["missing", "truncated", "one bit"])
@pytest.mark.parametrize("name", ["targets.npz", "index.npz", "tracks.tsv", "manifest.json"])
def test_what_is_damaged_beside_the_shards_is_made_again_by_the_same_command(corpus, capsys, name, how):
    recipe, prepared = corpus
    before = contents(prepared.root)
    path = prepared.root / name
    if how == "missing":
        path.unlink()
    elif (name, how) == ("manifest.json", "one bit"):
        path.write_bytes(before[name].replace(b'"corpus"', b'"cmrpus"'))
    else:
        harm(path, how)
    prepare(recipe, progress=True)
    said = capsys.readouterr().out
    assert (f"damaged: {path}: " in said) == ((name, how) != ("manifest.json", "missing"))
    after = contents(prepared.root)
    assert {k: v for k, v in after.items() if k != "log.jsonl"} == {
        k: v for k, v in before.items() if k != "log.jsonl"
    }
    prepare(recipe, progress=True)
    assert "damaged: " not in capsys.readouterr().out
