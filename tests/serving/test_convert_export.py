"""Exports that become files for other runtimes."""

import json
import shutil

import numpy as np
import pytest

import kerasrep
from kerasrep.cli import command, export
from kerasrep.storage.export_directory import ServingFolder, default_model

SEGMENT = 55_125


def run_export(capsys, *arguments):
    code = command.run(export.main, export.PROG, list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


@pytest.fixture
def exported(plain_export, tmp_path):
    """A copy of an export, as version 7."""
    return shutil.copytree(plain_export, tmp_path / "exported" / "mss" / "7").parent


@pytest.fixture(scope="module")
def track():
    return np.random.default_rng(5).normal(0, 0.1, (int(2.3 * SEGMENT), 2)).astype(np.float32)


def test_an_export_converts_under_its_number_into_one_folder(exported, tmp_path, track, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    there = exported.relative_to(tmp_path) / "runtimes" / "7"
    for model, form, file in (("mss", "keras", "model.keras"), ("mss/7", "frozen", "frozen.pb")):
        outcome = run_export(capsys, f"exported/{model}", "--format", form)
        assert outcome == (0, [f"exported {there}/{file}"], [])
    assert {path.name for path in there.iterdir()} == {"card.json", "model.keras", "frozen.pb"}
    assert sorted(path.name for path in exported.iterdir()) == ["7", "runtimes"]
    card = json.loads((there / "card.json").read_text())
    assert set(card["formats"]) == set(card["signatures"]) == {"keras", "frozen"}
    assert all(found["largest_difference"] <= 1e-4 for found in card["formats"].values())
    assert ServingFolder(exported).next_number() == 8
    by_keras = kerasrep.load(there / "model.keras").embed(track, 22_050)
    np.testing.assert_allclose(by_keras, kerasrep.load(exported).embed(track, 22_050), atol=1e-4)


def test_the_card_names_what_the_files_take_and_give(small_runtimes, track):
    import tensorflow as tf

    card = json.loads((small_runtimes / "card.json").read_text())
    signatures = card["signatures"]["tflite"]
    assert signatures["serving_default"]["inputs"] == {"waveform": "float32 [1, 55125, 2]"}
    assert signatures["embed_track"]["inputs"] == {"waveform": "float32 [samples, 2]"}
    assert card["audio"]["sample_rate_hz"] == 22_050
    assert {"resampler", "channels", "last_segment", "pooling", "vector"} <= set(card["audio"])
    assert "REST" not in " ".join(card["how_to_call"])
    interpreter = tf.lite.Interpreter(model_path=str(small_runtimes / "model.tflite"))
    found = interpreter.get_signature_runner("embed_track")(waveform=track)
    shapes = {name: f"float32 [{len(values)}]" for name, values in found.items()}
    assert shapes == signatures["embed_track"]["outputs"]


@pytest.mark.parametrize("samples", [0, 1, 20_000, SEGMENT, int(2.3 * SEGMENT)])
def test_recordings_have_the_vector_of_the_saved_model(recording_files, track, samples):
    embed, version = recording_files
    expected = kerasrep.load(version).embed(track[:samples], 22_050) if samples else None
    found = embed(track[:samples])
    if samples:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        np.testing.assert_allclose(found, kerasrep.load(version).embed(np.zeros(SEGMENT), 22_050), atol=1e-5)


def test_a_feature_that_does_not_vary_has_a_deviation_of_zero(recording_files, track):
    embed, _ = recording_files
    vector = embed(np.tile(track[:SEGMENT], (5, 1)))
    assert (vector[len(vector) // 2 :] == 0).all()
    assert np.abs(vector).max() > 0.1


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def recording_files(request, small_export, plain_export):
    """A function, waveform -> vector by the file's own runtime; and its SavedModel (two branches; one)."""
    if request.param == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        path = request.getfixturevalue("plain_runtimes") / "track.onnx"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda waveform: session.run(["vector"], {"waveform": waveform})[0], plain_export
    import tensorflow as tf

    path = request.getfixturevalue("small_runtimes") / "model.tflite"
    runner = tf.lite.Interpreter(model_path=str(path)).get_signature_runner("embed_track")
    return lambda waveform: runner(waveform=waveform)["vector"], small_export


def test_onnx_files_name_their_dimensions_and_carry_the_card(plain_runtimes):
    onnx = pytest.importorskip("onnx")
    for name, shape in (("model.onnx", ["batch", SEGMENT, 2]), ("track.onnx", ["samples", 2])):
        model = onnx.load(plain_runtimes / name)
        onnx.checker.check_model(model, full_check=True)
        (waveform,) = model.graph.input
        assert [d.dim_param or d.dim_value for d in waveform.type.tensor_type.shape.dim] == shape
        for output in model.graph.output:
            first = output.type.tensor_type.shape.dim[0]
            assert first.dim_param == ("batch" if name == "model.onnx" else "")
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert facts["sample_rate_hz"] == "22050"
        assert {"name", "pooling", "resampler", "channels", "last_segment", "licence"} <= set(facts)


def test_the_shipped_trunk_converts_by_its_bare_name(tmp_path, track, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_export(capsys, "starter", "--format", "tflite")
    there = f"exported/starter/runtimes/{default_model().name}/model.tflite"
    assert (code, out, err) == (0, [f"exported {there}"], [])
    import tensorflow as tf

    runner = tf.lite.Interpreter(model_path=there).get_signature_runner("embed_track")
    found, expected = runner(waveform=track)["vector"], kerasrep.load("starter").embed(track, 22_050)
    assert np.abs(found - expected).max() <= 1e-4 * expected.max()
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) >= 0.99999


def test_another_folder_can_be_chosen_and_tensorflow_says_nothing(exported, tmp_path, capfd):
    place = ("--directory", tmp_path / "there", "--name", "other")
    printed = run_export(capfd, exported, *place, "--format", "frozen")
    assert printed == (0, [f"exported {tmp_path}/there/other/runtimes/7/frozen.pb"], [])
    assert not (exported / "runtimes").exists()


@pytest.mark.parametrize("kind", ["version", "files"])
def test_a_number_that_means_another_model_is_refused(exported, small_export, tmp_path, capsys, kind):
    from kerasrep.serving.runtimes.convert import convert_export

    there = tmp_path / "there" / "mss"
    other = shutil.copytree(small_export, there / "7")
    if kind == "files":
        convert_export(other, there, ("frozen",))
        shutil.rmtree(other)
    before = sorted(path for path in there.rglob("*") if not path.is_dir())
    code, out, err = run_export(capsys, exported, "--directory", there.parent, "--format", "frozen")
    assert (code, out, len(err)) == (1, [], 1)
    assert "7: is not of " in err[0] and "--directory" in err[0]
    assert sorted(path for path in there.rglob("*") if not path.is_dir()) == before


def test_what_lies_where_files_shall_go_is_named(exported, tmp_path, capsys):
    for blocked in ("runtimes", "runtimes/7/model.keras"):
        if blocked == "runtimes":
            (exported / blocked).touch()
        else:
            (exported / "runtimes").unlink()
            assert run_export(capsys, exported, "--format", "keras")[0] == 0
            (exported / blocked).unlink()
            (exported / blocked).mkdir()
        code, out, err = run_export(capsys, exported, "--format", "keras")
        assert (code, out, len(err)) == (1, [], 1)
        assert f"{exported / blocked}: cannot be written" in err[0]


def test_a_version_without_a_number_is_refused(exported, capsys):
    (exported / "7").rename(exported / "best")
    code, out, err = run_export(capsys, exported / "best", "--format", "frozen")
    assert (code, out, len(err)) == (1, [], 1)
    assert "has no number" in err[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "is a SavedModel already"),
        (("--format", "savedmodel,onnx"), "is a SavedModel already"),
        (("--format", "frozen", "--weights", "float16"), "--weights: is of runs"),
        (("--format", "frozen", "--layers", "last"), "--layers: is of runs"),
        (("--format", "frozen", "--default-layers", "last"), "--default-layers: is of runs"),
    ],
)
def test_what_only_runs_have_is_refused_of_an_export(exported, capsys, arguments, said):
    code, out, err = run_export(capsys, exported, *arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert said in err[0]
    assert not (exported / "runtimes").exists()


def test_a_damaged_export_is_not_converted(exported, capsys):
    path = exported / "7" / "fingerprint.pb"
    path.write_bytes(path.read_bytes() + b"x")
    code, out, err = run_export(capsys, exported, "--format", "frozen")
    assert (code, out, len(err)) == (1, [], 1)
    assert "fingerprint.pb: is not the one that its card describes" in err[0]
