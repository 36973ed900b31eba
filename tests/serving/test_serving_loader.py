"""Exports through what TF Serving itself calls: the C++ loader, and TensorFlow's command for SavedModels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasrep.model.folding import fold_batch_norm
from kerasrep.serving import warmup
from kerasrep.storage.export_directory import warmup_path

SEGMENT = 55_125
SOURCE = Path(__file__).with_name("load_saved_model.cc")


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    """The C++ program, compiled against the TensorFlow wheel."""
    import tensorflow as tf

    libraries = tf.sysconfig.get_lib()
    program = tmp_path_factory.mktemp("loader") / "load_saved_model"
    command = ["g++", "-O0", str(SOURCE), "-o", str(program), *tf.sysconfig.get_compile_flags()]
    # TensorFlow 2.21 needs libraries of which the program uses no symbol.
    command += ["-Wl,--no-as-needed", f"-L{libraries}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    command += [f"-Wl,-rpath,{libraries}"]
    subprocess.run(command, check=True, capture_output=True)
    return program


def run_loader(program, folder, version, signature, inputs):
    """Run one signature in a process without Python."""
    arguments = []
    for name, value in inputs.items():
        value.tofile(folder / name)
        arguments.append(f"{name}={value.dtype}:{','.join(map(str, value.shape))}:{folder / name}")
    outputs = folder / "outputs"
    outputs.mkdir()
    done = subprocess.run(
        [program, version, signature, *arguments, outputs], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    batch = len(inputs["waveform"])
    return {path.name: np.fromfile(path, np.float32).reshape(batch, -1) for path in outputs.iterdir()}


def track_embeddings(embed, tracks, lengths):
    """Mean and deviation over segments, cut in NumPy."""
    rows = []
    for track, length in zip(tracks, lengths, strict=True):
        count = max(1, -(-int(length) // SEGMENT))
        padded = np.zeros((count * SEGMENT, 2), np.float32)
        padded[:length] = track[:length]
        values = embed(padded.reshape(count, SEGMENT, 2))["embedding"].astype(np.float64)
        rows.append(np.concatenate([values.mean(axis=0), values.std(axis=0)]))
    return np.stack(rows)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("strategy", "weights"),
    [("mss-cr", "float32"), ("ms-cr@4", "float32"), ("ms-sr@fc", "float32"), ("ms-sr@fc", "float16")],
)
def test_the_cpp_loader_of_servers_gives_the_values_of_keras(
    loader, make_run, tmp_path, with_all_layers, strategy, weights, batch
):
    from kerasrep.serving.export import export_run

    trained = make_run(strategy)
    for variable in trained.network.trunk.variables:
        if len(variable.shape) > 1:  # so that only what is loaded can differ, not what was stored
            variable.assign(variable.numpy().astype(weights))
    version = export_run(trained, tmp_path / "exported", "small", weights=weights)
    music = [r.inputs["waveform"] for r in warmup.read_requests(warmup_path(version))]
    track = np.tile(music[-1][0][:11_000], (7, 1))[: len(music[-1][0])]
    segments = np.stack([track[start : start + SEGMENT] for start in (0, 5000, 9000)])[:batch]
    tracks = np.stack([track, track[::-1], 0.3 * track])[:batch]
    lengths = np.array([len(track), 700, SEGMENT], np.int32)[:batch]
    embedder = with_all_layers(trained.network).embedder
    for network, tolerance in ((fold_batch_norm(embedder), 1e-5), (embedder, 1e-4)):

        def embed(waveform, network=network):
            return {name: value.numpy() for name, value in network(waveform, training=False).items()}

        folder = tmp_path / str(tolerance)
        (folder / "a").mkdir(parents=True)
        (folder / "b").mkdir()
        found = run_loader(loader, folder / "a", version, "serving_default", {"waveform": segments})
        expected = embed(segments)
        assert set(found) == set(expected)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], atol=tolerance, rtol=tolerance)
        inputs = {"waveform": tracks, "length_samples": lengths}
        found = run_loader(loader, folder / "b", version, "embed_track", inputs)
        expected = track_embeddings(embed, tracks, lengths)
        np.testing.assert_allclose(found["embedding"], expected, atol=tolerance, rtol=tolerance)


def saved_model_cli(*arguments):
    code = "import sys; from tensorflow.python.tools.saved_model_cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_saved_model_cli_shows_the_signatures(small_export):
    shown = saved_model_cli("show", "--dir", small_export, "--all")
    for said in ("signature_def['serving_default']", "signature_def['embed_track']"):
        assert said in shown
    for said in (
        "inputs['length_samples']",
        "shape: (-1, 55125, 2)",
        "shape: (-1, -1, 2)",
        "outputs['embedding_tag']",
    ):
        assert said in shown


@pytest.mark.slow
def test_saved_model_cli_runs_both_signatures(small_export, small_run, tmp_path):
    waveform = np.random.default_rng(0).normal(0, 0.1, (2, SEGMENT, 2)).astype(np.float32)
    np.save(tmp_path / "waveform.npy", waveform)
    np.save(tmp_path / "lengths.npy", np.array([SEGMENT, SEGMENT], np.int32))
    expected = small_run.network.embedder(waveform, training=False)["embedding"].numpy()
    common = ("run", "--dir", small_export, "--tag_set", "serve", "--outdir", tmp_path, "--overwrite")
    audio = f"waveform={tmp_path / 'waveform.npy'}"
    saved_model_cli(*common, "--signature_def", "serving_default", "--inputs", audio)
    np.testing.assert_allclose(np.load(tmp_path / "embedding.npy"), expected, atol=1e-4, rtol=1e-4)
    inputs = f"{audio};length_samples={tmp_path / 'lengths.npy'}"
    saved_model_cli(*common, "--signature_def", "embed_track", "--inputs", inputs)
    found = np.load(tmp_path / "embedding.npy")
    np.testing.assert_allclose(found[:, :512], expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(found[:, 512:], 0)


@pytest.mark.slow
def test_saved_model_cli_finds_no_operation_that_reaches_outside(small_export):
    scanned = saved_model_cli("scan", "--dir", small_export, "--tag_set", "serve")
    assert "does not contain the default denylisted ops" in " ".join(scanned.split())


@pytest.mark.slow
def test_every_operation_is_known_to_a_process_with_tensorflow_alone(small_export):
    from kerasrep.serving.check import operations_of

    code = (
        "import sys, tensorflow\nfrom tensorflow.python.framework import op_def_registry\n"
        "print([name for name in sys.argv[1:] if op_def_registry.get(name) is None])"
    )
    command = [sys.executable, "-c", code, *sorted(operations_of(small_export))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
