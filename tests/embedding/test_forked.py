"""Loaded models in other processes: TensorFlow does not survive a fork, and models are not pickled."""

import multiprocessing
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from kerasrep.embedding import AudioEmbedder
from kerasrep.embedding.embedder import Embedder, load
from kerasrep.embedding.models import find_model
from kerasrep.errors import RunError
from kerasrep.training.devices import choose_execution

NOISE = np.random.default_rng(0).normal(0, 0.1, 22_050).astype(np.float32)
#: Set before the fork, so that nothing is pickled.
WORK: dict[str, Callable[[], object]] = {}


def work(name):
    WORK[name]()


@pytest.fixture
def model(small_export, make_recipe, small_model):
    WORK["use the parent's"] = lambda: small_model.embed(NOISE, 22_050)
    WORK["load another"] = lambda: load(small_export)
    WORK["train"] = lambda: choose_execution(make_recipe())
    WORK["transform"] = lambda: AudioEmbedder(small_export).fit(None).transform([NOISE])
    return small_model


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", ["use the parent's", "load another", "train", "transform"])
def test_a_process_forked_after_loading_is_refused_at_once(model, name):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(work, (name,))
        with pytest.raises(RunError, match=r"before this process was forked.*spawn"):
            result.get(timeout=20)


def test_a_pickled_model_is_loaded_again_from_its_path(small_export, monkeypatch, tmp_path, small_model):
    monkeypatch.chdir(small_export.parent)
    packed = pickle.dumps(load(small_export.name))
    assert len(packed) < 1_000
    monkeypatch.chdir(tmp_path)
    copy = pickle.loads(packed)
    np.testing.assert_array_equal(copy.embed(NOISE, 22_050), small_model.embed(NOISE, 22_050))


def test_a_model_without_a_path_says_that_it_cannot_be_pickled(small_export):
    read, found = find_model(small_export)
    with pytest.raises(TypeError, match="load it in each process"):
        pickle.dumps(Embedder(read(found)))
