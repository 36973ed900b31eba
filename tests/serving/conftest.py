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
def with_all_layers():
    """A function: network -> network whose embedder gives all pooled layers, as exports do."""
    from kerasrep.model.layers import with_layers
    from kerasrep.storage.segment_vector import LAYERS

    def layered(network):
        return replace(network, embedder=with_layers(network.embedder, network.branches, LAYERS))

    return layered
