from dataclasses import replace

import pytest


@pytest.fixture(scope="session")
def small_loaded(small_export):
    """The export of `small_run`, loaded."""
    import tensorflow as tf

    return tf.saved_model.load(str(small_export))


@pytest.fixture(scope="session")
def small_signatures(small_loaded):
    return small_loaded.signatures


@pytest.fixture(scope="session")
def small_runtimes(small_export, tmp_path_factory):
    """Folder of `small_export` in all formats that need no extra; do not write to it."""
    from kerasrep.serving.runtimes.convert import convert_export

    folder = tmp_path_factory.mktemp("small")
    return convert_export(small_export, folder, ("keras", "tflite", "frozen"))[0].parent


@pytest.fixture(scope="session")
def plain_runtimes(plain_export, tmp_path_factory):
    """Folder of `plain_export` for TensorFlow Lite and ONNX; do not write to it."""
    from kerasrep.serving.runtimes.convert import convert_export

    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    return convert_export(plain_export, tmp_path_factory.mktemp("plain"), ("tflite", "onnx"))[0].parent


@pytest.fixture(scope="session")
def with_all_layers():
    """A function: network -> network whose embedder gives all pooled layers, as exports do."""
    from kerasrep.model.layers import with_layers
    from kerasrep.storage.segment_vector import LAYERS

    def layered(network):
        return replace(network, embedder=with_layers(network.embedder, network.branches, LAYERS))

    return layered
