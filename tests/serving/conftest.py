import pytest


@pytest.fixture(scope="session")
def small_loaded(small_export):
    """The export of `small_run`, loaded."""
    import tensorflow as tf

    return tf.saved_model.load(str(small_export))


@pytest.fixture(scope="session")
def small_signatures(small_loaded):
    return small_loaded.signatures
