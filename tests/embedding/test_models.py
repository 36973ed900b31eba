import numpy as np
import pytest

from kerasrep import constants
from kerasrep.data.crops import Buffers
from kerasrep.embedding.models import SegmentModel, find_model
from kerasrep.storage.segment_vector import embedding_pieces


def columns(values, place):
    return values[:, place * 256 : (place + 1) * 256]


@pytest.mark.parametrize("form", ["export", "run", "keras file"])
def test_some_branches_of_a_model_are_those_columns_of_all(form, small_run, small_export):
    path = {"export": small_export, "run": small_run.run.root, "keras file": small_run.run.model}[form]
    load, found = find_model(path)
    model = load(found)
    segments = np.random.default_rng(0).normal(0, 0.1, (3, constants.SEGMENT_SAMPLES, 2)).astype(np.float32)
    everything = model.embed_segments(segments)
    assert model.branches == ("year", "tag")
    assert model.only(embedding_pieces(("year", "tag"))) is model
    for place, branch in enumerate(model.branches):
        some = model.only(embedding_pieces((branch,)))
        assert some.branches == (branch,)
        np.testing.assert_allclose(some.embed_segments(segments), columns(everything, place), atol=1e-6)
    turned = model.only(embedding_pieces(("tag", "year"))).embed_segments(segments)
    np.testing.assert_allclose(columns(turned, 0), columns(everything, 1), atol=1e-6)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_segments_in_memory_for_batches_give_the_bits_of_others_and_the_memory_is_free_again(
    small_export, layers
):
    load, found = find_model(small_export)
    embed_segments = load(found).arranged(layers=layers)[0].embed_segments
    memory, shape = Buffers(), (3, constants.SEGMENT_SAMPLES, 2)
    plain = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    first = embed_segments(plain)
    for _ in range(3):
        segments = memory.take(plain.nbytes).view(np.float32).reshape(shape)
        assert segments.ctypes.data % 64 == 0
        segments[:] = plain
        np.testing.assert_array_equal(embed_segments(segments), first)
        del segments
    assert len(memory) == 1


def test_the_function_of_some_branches_is_made_once(small_export):
    load, found = find_model(small_export)
    model = load(found)
    assert (
        model.only(embedding_pieces(("tag",))).embed_segments
        is model.only(embedding_pieces(("tag",))).embed_segments
    )


def test_a_model_that_cannot_leave_branches_out_has_its_columns_cut():
    def embed_segments(segments):
        return np.arange(3 * 256, dtype=np.float32)[None].repeat(len(segments), axis=0)

    model = SegmentModel(embed_segments, 22_050, 100, ("a", "b", "c"))
    found = model.only(embedding_pieces(("c", "a"))).embed_segments(np.zeros((2, 100, 2), np.float32))
    np.testing.assert_array_equal(found[1], [*range(512, 768), *range(256)])
