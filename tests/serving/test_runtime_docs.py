"""The programs of docs/runtimes.md, run as shown, against what `kerasrep.load` gives of the same file."""

import functools
import http.server
import importlib.util
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import kerasrep
from kerasrep.serving.runtimes.convert import convert_export
from kerasrep.serving.warmup import plucked_scale
from kerasrep.storage.export_directory import default_model

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"
#: The folder `dist` of the npm package onnxruntime-web.
WEB = Path(os.environ.get("KERASREP_TEST_ONNXRUNTIME_WEB", "node_modules/onnxruntime-web/dist")).absolute()
#: Headers of ONNX Runtime; the Python package has the library alone.
HEADERS = Path(os.environ.get("KERASREP_TEST_ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime")).absolute()


def program(heading):
    """The code under a heading of the page."""
    found = re.search(rf"^## {re.escape(heading)}\n.*?^```\w+\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return found.group(1)


def assert_same(found, expected):
    found = np.asarray(found, np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert cosine(found, expected) >= 0.99999


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


@pytest.fixture(scope="module", params=["small", pytest.param("starter", marks=pytest.mark.slow)])
def folder(request, tmp_path_factory):
    """What the programs find: songs, and `exported/starter/runtimes/2` of a small or the shipped trunk."""
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    root = tmp_path_factory.mktemp(request.param)
    version = root / "exported" / "starter" / "2"
    if request.param == "starter":
        convert_export(shutil.copytree(default_model(), version), version.parent, ("tflite", "onnx"))
    else:
        shutil.copytree(request.getfixturevalue("plain_export"), version)
        files = request.getfixturevalue("plain_runtimes")
        shutil.copytree(files, version.parent / "runtimes" / version.name)
    rng = np.random.default_rng(0)
    left, right = (
        np.concatenate([plucked_scale(55_125, 22_050, n)[:, 0] for n in order])
        for order in ((0, 3, 5), (2, 1, 4))
    )
    song = 0.8 * np.stack([left, right], axis=1)[:150_000] + rng.normal(0, 0.003, (150_000, 2))
    soundfile.write(root / "song.wav", song, 22_050, "PCM_16")
    command = ["ffmpeg", "-loglevel", "error", "-i", root / "song.wav", "-ar", "44100", "-b:a", "128k"]
    if shutil.which("ffmpeg"):
        subprocess.run([*command, root / "song.mp3"], check=True)
    return root


@pytest.fixture(scope="module")
def expected(folder):
    return kerasrep.load(folder / "exported" / "starter").embed_file(folder / "song.wav")


def run_python(heading, folder, monkeypatch, change=lambda code: code):
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(change(program(heading)), heading, "exec"), names)
    return names["vector"]


def test_onnx_runtime(folder, expected, monkeypatch):
    assert_same(run_python("ONNX Runtime", folder, monkeypatch), expected)


def test_litert(folder, expected, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    assert_same(run_python("LiteRT", folder, monkeypatch), expected)


def test_litert_by_the_interpreter_of_tensorflow(folder, expected, monkeypatch):
    import tensorflow as tf

    if not hasattr(tf.lite, "Interpreter"):
        pytest.skip("this TensorFlow has no interpreter of its own")
    line = "from ai_edge_litert.interpreter import Interpreter\n"
    other = "import tensorflow as tf\n\nInterpreter = tf.lite.Interpreter\n"
    assert line in program("LiteRT")
    found = run_python("LiteRT", folder, monkeypatch, lambda code: code.replace(line, other))
    assert_same(found, expected)


def test_cpp(folder, expected, tmp_path):
    runtime = Path(importlib.util.find_spec("onnxruntime").origin).parent
    library = next(runtime.glob("capi/libonnxruntime.so.*"), None)
    if not (HEADERS / "onnxruntime_cxx_api.h").is_file() or library is None:
        pytest.skip("no C++ headers of ONNX Runtime (KERASREP_TEST_ONNXRUNTIME_INCLUDE), or no library")
    if not Path("/usr/include/sndfile.hh").is_file():
        pytest.skip("no headers of libsndfile")
    source = tmp_path / "embed.cc"
    source.write_text(program("C++"))
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    command = ["g++", "-std=c++17", source, "-o", tmp_path / "embed", f"-I{HEADERS}", f"-L{tmp_path}"]
    command += ["-lonnxruntime", "-lsndfile", f"-Wl,-rpath,{tmp_path}"]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([tmp_path / "embed"], cwd=folder, check=True, capture_output=True, text=True)
    assert_same(list(map(float, done.stdout.split())), expected)


@pytest.fixture
def page(folder, open_page):
    """A page of the folder in a browser, with `embed` of the program."""
    if not WEB.is_dir():
        pytest.skip("no onnxruntime-web (KERASREP_TEST_ONNXRUNTIME_WEB)")
    if not (folder / "ort").exists():
        (folder / "ort").symlink_to(WEB)
    (folder / "embed.mjs").write_text(program("JavaScript"))
    (folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:">'
        '<script type="module">import { embed } from "./embed.mjs"; window.embed = embed;</script>'
    )
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = open_page(f"http://127.0.0.1:{server.server_address[1]}/page.html")
        page.wait_for_function("window.embed !== undefined")
        yield page
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def embed_in(page, name):
    script = "async (name) => Array.from(await window.embed(await fetch(name)))"
    return np.array(page.evaluate(script, name))


@pytest.mark.browser
def test_javascript_in_a_browser(page, expected):
    assert_same(embed_in(page, "song.wav"), expected)


@pytest.mark.browser
def test_an_mp3_in_a_browser_is_near(page, folder):
    if not (folder / "song.mp3").is_file():
        pytest.skip("no ffmpeg is installed")
    of_kerasrep = kerasrep.load(folder / "exported" / "starter").embed_file(folder / "song.mp3")
    assert cosine(embed_in(page, "song.mp3"), of_kerasrep) >= 0.999
