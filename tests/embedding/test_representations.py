import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import kerasrep
from kerasrep.embedding import embedder as embedder_module
from kerasrep.embedding.baselines import untrained
from kerasrep.embedding.representations import (
    FORMS,
    ModelRepresentation,
    open_representation,
    open_representations,
    path_names,
)
from kerasrep.errors import ExportError, KerasrepError, RecipeError, RunError
from kerasrep.storage.run_directory import RunDirectory


def waveform(seed=0, samples=80_000):
    return np.random.default_rng(seed).normal(0, 0.1, (samples, 2)).astype(np.float32)


def test_every_form_of_a_model_is_what_load_gives(small_run, small_export, small_model):
    expected = small_model.embed(waveform(), 22_050)
    for path in (small_export, small_export.parent, small_run.run.root, small_run.run.model):
        representation = open_representation(str(path))
        assert representation.dimension == 1024
        if path in (small_export, small_run.run.model):
            np.testing.assert_allclose(representation.embed(waveform(), 22_050), expected, atol=1e-5)


def test_files_are_embedded_as_their_waveforms(tmp_path, small_export):
    paths = [tmp_path / "a.wav", tmp_path / "text.wav", tmp_path / "b.wav"]
    for number, path in enumerate(paths):
        soundfile.write(path, waveform(number), 22_050, subtype="FLOAT")
    paths[1].write_text("no audio")
    representation = open_representation(str(small_export))
    first, bad, last = representation.embed_files(paths)
    assert (first.path, bad.path, last.path) == tuple(paths)
    np.testing.assert_allclose(last.embedding, representation.embed(waveform(2), 22_050), atol=1e-6)
    assert list(representation.embed_files([])) == []


@pytest.mark.parametrize("spec", ["mfcc", "random:3"])
def test_every_representation_keeps_to_the_interface(small_export, spec):
    representation = open_representation(spec, reference=small_export)
    found = representation.embed(waveform(), 22_050)
    assert representation.name == spec
    assert found.dtype == np.float32
    assert found.shape == (representation.dimension,)
    assert np.isfinite(found).all()
    assert int(representation.fingerprint, 16) >= 0


def test_random_takes_the_network_of_the_first_model(small_run, small_export):
    trained, seed_0, seed_7 = open_representations([str(small_run.run.root), "random", "random:7"])
    expected = untrained.load_untrained(small_run.run.root, 7)
    segments = waveform(samples=2 * 55_125).reshape(2, 55_125, 2)
    features = expected.embed_segments(segments)
    np.testing.assert_allclose(
        seed_7.embed(segments.reshape(-1, 2), 22_050),
        np.concatenate([features.mean(axis=0), features.std(axis=0)]),
        atol=1e-6,
    )
    assert len({one.fingerprint for one in (trained, seed_0, seed_7)}) == 3
    assert {one.dimension for one in (trained, seed_0, seed_7)} == {1024}
    # Whichever reference is named has precedence over the first path.
    (other,) = open_representations(["random"], reference=small_export)
    (alone,), (starter, beside) = (
        open_representations(["random"]),
        open_representations(["starter", "random"]),
    )
    assert alone.fingerprint == beside.fingerprint and alone.dimension == starter.dimension
    assert other.fingerprint != seed_0.fingerprint


def test_names_are_the_last_parts_of_the_path_and_unique(tmp_path, small_run, small_export):
    copies = [tmp_path / owner / "exported" / "small" / "1" for owner in ("ann", "bob")]
    for copy in copies:
        shutil.copytree(small_export, copy)
    specs = [str(copies[0].parent), "mfcc", str(copies[1]), str(small_run.run.root)]
    names = [one.name for one in open_representations(specs)]
    root = small_run.run.root
    run = f"{root.parent.name}/{root.name}"
    assert names == ["ann/exported/small/1", "mfcc", "bob/exported/small/1", run]
    assert ModelRepresentation(copies[0]).name == "small/1"


def test_path_names_are_as_short_as_can_be():
    paths = [Path(p) for p in ("/a/x/m/1", "/b/x/m/1", "/b/x/m/2", "/m/1", "/a/x/m/1")]
    assert path_names(paths) == ["a/x/m/1", "b/x/m/1", "m/2", "/m/1", "a/x/m/1"]


@pytest.mark.parametrize("again", ["{path}", "{path}/../1", "{path}/.."])
def test_one_model_named_twice_is_told(small_export, again):
    with pytest.raises(RecipeError, match="stands twice"):
        open_representations([str(small_export), again.format(path=small_export)])


@pytest.mark.parametrize("specs", [["mfcc", "mfcc"], ["random", "random:0"]])
def test_one_baseline_named_twice_is_told(small_export, specs):
    with pytest.raises(RecipeError, match="stands twice"):
        open_representations(specs, reference=small_export)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mfc", "did you mean 'mfcc'?"),
        ("randon", "did you mean 'random'?"),
        ("Musicnn", "did you mean 'musicnn'?"),
        ("heer:module", "did you mean 'hear'?"),
        ("exported/none", "no such model or baseline; give an export"),
        ("", "no such model"),
        ("x" * 5000, "no such model"),
        ("random:x", "random:x: the seed must be a whole number"),
        ("random:-1", "the seed must be"),
        ("random:", "the seed must be"),
        ("random:2147483648", "the seed must be"),
        ("random:٣", "the seed must be"),
        ("mfcc:20", "no such model or baseline; did you mean 'mfcc'?"),
    ],
)
def test_what_is_no_representation_is_told_in_one_line(monkeypatch, tmp_path, spec, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        open_representation(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_forms_are_named_where_none_fits():
    with pytest.raises(RecipeError) as caught:
        open_representation("nothing")
    assert all(form in str(caught.value) for form in FORMS)


def test_a_path_spelt_like_a_baseline_is_a_path_with_a_dot(monkeypatch, tmp_path, small_export):
    shutil.copytree(small_export, tmp_path / "mfcc")
    monkeypatch.chdir(tmp_path)
    assert open_representation("mfcc").dimension == 120
    assert open_representation("./mfcc").dimension == 1024


def test_a_folder_without_a_model_and_an_untrained_run_are_told(tmp_path):
    with pytest.raises(ExportError, match="holds no model"):
        open_representation(str(tmp_path))
    (tmp_path / "recipe.yaml").write_text("strategy: ss-r\nsources: [tag]\n")
    with pytest.raises(RunError, match="has no trained weights yet"):
        open_representation(str(tmp_path))
    shutil.rmtree(tmp_path)
    with pytest.raises(KerasrepError):
        open_representation(str(tmp_path))


def test_the_fingerprint_follows_the_weights_and_the_code(tmp_path, small_run, small_export, monkeypatch):
    copy = shutil.copytree(small_export, tmp_path / "moved" / "3")
    fingerprint = open_representation(str(small_export)).fingerprint
    assert open_representation(str(copy)).fingerprint == fingerprint
    data = copy / "variables" / "variables.data-00000-of-00001"
    changed = bytearray(data.read_bytes())
    changed[1000] ^= 1
    data.write_bytes(changed)
    assert open_representation(str(copy)).fingerprint != fingerprint
    run = shutil.copytree(small_run.run.root, tmp_path / "run")
    before = open_representation(str(run)).fingerprint
    np.savez(run / "scaler.npz", mean=np.zeros(128, np.float32), sd=np.ones(128, np.float32))
    assert open_representation(str(run)).fingerprint != before
    monkeypatch.setattr("kerasrep.embedding.representations.TRACK_EMBEDDING_VERSION", 2)
    assert embedder_module.TRACK_EMBEDDING_VERSION == 1
    assert open_representation(str(small_export)).fingerprint != fingerprint


def test_opening_imports_no_tensorflow(small_run, small_export):
    code = (
        "import sys\n"
        "from kerasrep.embedding.representations import open_representations\n"
        "opened = open_representations(sys.argv[1:])\n"
        "print([(one.name, one.fingerprint, one.dimension) for one in opened][-1])\n"
        "print(sorted({'tensorflow', 'keras', 'kapre', 'librosa'} & set(sys.modules)))\n"
    )
    root = Path(kerasrep.__file__).parents[1]
    specs = [str(small_export), str(small_run.run.root), "random", "mfcc"]
    result = subprocess.run(
        [sys.executable, "-c", code, *specs],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_run_that_is_not_trained_yet_gives_its_untrained_network(small_run, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(small_run.run.root, root)
    before = open_representation("random:7", reference=root)
    RunDirectory(root).best.unlink()
    after = open_representation("random:7", reference=root)
    assert after.fingerprint == before.fingerprint  # trained weights are not looked at
    waveform = np.random.default_rng(0).normal(0, 0.1, 60_000).astype(np.float32)
    np.testing.assert_array_equal(before.embed(waveform, 22_050), after.embed(waveform, 22_050))
    with pytest.raises(RunError, match="no trained weights yet"):
        open_representation(str(root))
