"""Exports for other runtimes, each run in the runtime itself."""

import json
import os
import subprocess

import numpy as np
import pytest

from kerasrep.cli import command, export
from kerasrep.errors import ExportError
from kerasrep.serving import runtimes
from kerasrep.serving.runtimes import tflite_file
from kerasrep.storage.export_directory import ServingFolder

SEGMENT = 55_125
STEMS = ("embedding", *(f"layer_conv{number}" for number in range(1, 8)))
NAMES = {f"{stem}{branch}" for stem in STEMS for branch in ("", "_year", "_tag")}


def run_export(capsys, *arguments):
    code = command.run(export.main, export.PROG, list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


@pytest.fixture(scope="module")
def segments():
    rng = np.random.default_rng(3)
    tone = np.sin(2 * np.pi * rng.uniform(80, 3000, (3, 1, 2)) * np.arange(SEGMENT)[:, np.newaxis] / 22_050)
    return (0.3 * tone + rng.normal(0, 0.05, (3, SEGMENT, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def expected(small_run, segments, with_all_layers):
    outputs = with_all_layers(small_run.network).embedder(segments, training=False)
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.fixture(scope="module")
def source(small_run, small_export, with_all_layers):
    return runtimes.Source(small_export, with_all_layers(small_run.network))


@pytest.fixture(scope="module")
def folder(small_runtimes):
    """All formats that need no extra."""
    about = json.loads((small_runtimes / "card.json").read_text())["formats"]
    assert set(about) == {"keras", "tflite", "frozen"}
    assert all(found["largest_difference"] <= 1e-4 for found in about.values())
    return small_runtimes


def assert_equal(found, expected, batch):
    assert set(found) == NAMES
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name][:batch], atol=1e-4, rtol=1e-4)


def test_tflite_uses_built_in_operations_alone_and_gives_the_same_values(folder, segments, expected):
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(
        model_path=str(folder / "model.tflite"),
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    assert not [d for d in interpreter._get_ops_details() if d["op_name"].startswith(("Flex", "CUSTOM"))]
    runner = interpreter.get_signature_runner("serving_default")
    for number in range(3):
        found = runner(waveform=segments[number : number + 1])
        assert_equal(found, {name: value[number:] for name, value in expected.items()}, 1)


@pytest.mark.parametrize("delegates", [True, False])
def test_tflite_refuses_a_batch_instead_of_giving_wrong_values(folder, segments, delegates):
    import tensorflow as tf

    resolvers = tf.lite.experimental.OpResolverType
    interpreter = tf.lite.Interpreter(
        model_path=str(folder / "model.tflite"),
        experimental_op_resolver_type=resolvers.AUTO
        if delegates
        else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    with pytest.raises((RuntimeError, ValueError)):
        interpreter.get_signature_runner("serving_default")(waveform=segments)


def test_a_frozen_graph_has_nodes_of_the_outputs_names_and_no_variables(folder, segments, expected):
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((folder / "frozen.pb").read_bytes())
    assert not graph.library.function
    assert not {node.op for node in graph.node} & {"VarHandleOp", "ReadVariableOp", "PartitionedCall"}
    assert not [node.name for node in graph.node if node.op == "MatMul" and "grad_a" in node.attr]
    imported = tf.Graph()
    with imported.as_default():
        tf.import_graph_def(graph, name="")
    for batch in (1, 3):
        with tf.compat.v1.Session(graph=imported) as session:
            found = session.run({n: f"{n}:0" for n in NAMES}, {"waveform:0": segments[:batch]})
        assert_equal(found, expected, batch)


def test_a_keras_file_is_a_model_that_embeds(folder, segments, expected):
    import kerasrep

    embedder = kerasrep.load(folder / "model.keras")
    np.testing.assert_allclose(embedder.embed_segments(segments), expected["embedding"], atol=1e-5)


def test_onnx_gives_the_same_values_in_onnx_runtime(source, segments, expected, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    about = runtimes.write_formats(tmp_path, source, ("onnx",), segments)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for batch in (1, 3):
        found = dict(zip(names, session.run(names, {"waveform": segments[:batch]}), strict=True))
        assert_equal(found, expected, batch)
    assert about["onnx"]["largest_difference"] <= 1e-4


@pytest.mark.parametrize("form", ["onnx", "frozen"])
def test_openvino_reads_them(source, segments, expected, tmp_path, form):
    openvino = pytest.importorskip("openvino")
    if form == "onnx":
        pytest.importorskip("tf2onnx")
    runtimes.write_formats(tmp_path, source, (form,), segments)
    path = tmp_path / runtimes.runtime_of(form).SEGMENTS
    model = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in (1, 3):
        found = model(segments[:batch])
        for name in NAMES:
            output = next(o for o in model.outputs if {name, f"{name}:0"} & o.names)
            np.testing.assert_allclose(found[output], expected[name][:batch], atol=1e-4, rtol=1e-4)


def test_onnx_without_its_extra_is_refused_before_any_work(small_run, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(__import__("sys").modules, "tf2onnx", None)
    code, out, err = run_export(
        capsys, small_run.run.root, "--directory", tmp_path / "new", "--format", "onnx"
    )
    assert (code, out, len(err)) == (1, [], 1)
    assert "kerasrep[onnx]" in err[0]
    assert not (tmp_path / "new").exists()


def test_other_weights_are_told_from_the_keras_model(
    make_run, small_export, segments, tmp_path, with_all_layers
):
    other = runtimes.Source(small_export, with_all_layers(make_run(seed=1).network))
    with pytest.raises(ExportError, match=r"frozen: output '.*' at batch 1 differs from the trained model"):
        runtimes.write_formats(tmp_path, other, ("frozen",), segments)


@pytest.mark.parametrize("wrong", ["a NaN", "too many outputs"])
def test_a_file_that_gives_anything_else_does_not_pass(
    source, segments, expected, monkeypatch, tmp_path, wrong
):
    def read(folder, name):
        def embed(waveform):
            found = {name: value[: len(waveform)].copy() for name, value in expected.items()}
            if wrong == "a NaN":
                found["embedding_tag"][0, 7] = np.nan
                return found
            return found | {"embedding_bpm": found["embedding_tag"]}

        return embed

    module = runtimes.runtime_of("frozen")
    monkeypatch.setattr(module, "read", read)
    said = {
        "a NaN": "output 'embedding_tag' at batch 1 differs .* by nan",
        "too many outputs": "embedding_bpm",
    }
    with pytest.raises(ExportError, match=said[wrong]):
        runtimes.write_formats(tmp_path, source, ("frozen",), segments)


def test_a_tflite_file_that_takes_batches_is_not_let_through(folder, monkeypatch):
    monkeypatch.setattr(tflite_file, "read", lambda folder, name: lambda waveform: {})
    with pytest.raises(ExportError, match="a batch of 2 is not refused"):
        tflite_file._check_batch_is_refused(folder, (1, SEGMENT, 2))


def test_formats_share_the_number_of_the_saved_model_and_have_a_card(plain_run, tmp_path, capsys):
    code, out, err = run_export(
        capsys, plain_run.run.root, "--directory", tmp_path, "--format", "savedmodel,frozen"
    )
    assert (code, err) == (0, [])
    assert out[:2] == [f"exported {tmp_path}/small/1", f"exported {tmp_path}/small/runtimes/1/frozen.pb"]
    card = json.loads((tmp_path / "small" / "runtimes" / "1" / "card.json").read_text())
    assert set(card["formats"]) == {"frozen"}
    assert card["sample_rate_hz"] == 22_050
    code, out, err = run_export(capsys, plain_run.run.root, "--directory", tmp_path, "--format", "keras")
    assert (code, out, err) == (0, [f"exported {tmp_path}/small/runtimes/2/model.keras"], [])
    assert not (tmp_path / "small" / "2").exists()
    assert ServingFolder(tmp_path / "small").next_number() == 3


@pytest.mark.parametrize("formats", ["", "tflight", "savedmodel,", "onnx;keras"])
def test_an_unknown_format_is_refused(small_run, tmp_path, capsys, formats):
    code, out, err = run_export(
        capsys, small_run.run.root, "--directory", tmp_path / "new", "--format", formats
    )
    assert (code, out, len(err)) == (2, [], 1)
    assert "savedmodel, keras, tflite, onnx, frozen" in err[0]


def test_scores_of_an_evaluation_go_into_the_card(small_run, tmp_path):
    probe = {"probe": "linear_svm", "mean": 0.5, "low": 0.4, "high": 0.6, "scores": []}
    evaluation = {"task": "t", "metric": "accuracy", "n_items": 9, "representation": "a", "probes": [probe]}
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"evaluations": [evaluation, evaluation | {"representation": "mfcc"}]}))
    score = {"probe": "linear_svm", "mean": 0.5, "low": 0.4, "high": 0.6}
    assert export._headlines(path) == {
        "t": {"metric": "accuracy", "items": 9, "scores": {"a": score, "mfcc": score}}
    }


@pytest.mark.parametrize("content", ["[]", "{}", '{"evaluations": [{}]}', '{"evaluations": 3}', "{"])
def test_a_file_that_is_no_evaluation_is_refused(small_run, tmp_path, capsys, content):
    path = tmp_path / "scores.json"
    path.write_text(content)
    code, _, err = run_export(capsys, small_run.run.root, "--directory", tmp_path / "new", "--scores", path)
    assert (code, len(err)) == (1, 1)
    assert "scores.json" in err[0]


ESSENTIA = """
import sys
import essentia
import essentia.standard
import numpy as np

essentia.log.infoActive = False
outputs = sys.argv[3:]
predict = essentia.standard.TensorflowPredict(
    graphFilename=sys.argv[1], inputs=["waveform"], outputs=outputs, squeeze=True
)
segments = np.load(sys.argv[2])
pool = essentia.Pool()
pool.set("waveform", np.ascontiguousarray(segments[:, np.newaxis]))
found = predict(pool)
np.savez(sys.argv[2] + ".npz", **{name: found[name].reshape(len(segments), -1) for name in outputs})
"""


@pytest.mark.skipif(
    "ESSENTIA_PYTHON" not in os.environ, reason="ESSENTIA_PYTHON names no Python with essentia-tensorflow"
)
@pytest.mark.parametrize("batch", [1, 3])
def test_essentias_tensorflow_of_2021_reads_the_frozen_graph(folder, segments, expected, tmp_path, batch):
    np.save(tmp_path / "x.npy", segments[:batch])
    command = [os.environ["ESSENTIA_PYTHON"], "-c", ESSENTIA, folder / "frozen.pb", tmp_path / "x.npy"]
    done = subprocess.run([*command, *NAMES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not in the op definition" not in done.stderr
    with np.load(tmp_path / "x.npy.npz") as found:
        assert_equal(dict(found), expected, batch)
