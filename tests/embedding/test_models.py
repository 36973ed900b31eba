import numpy as np
import pytest

from kerasrep import constants
from kerasrep.embedding.models import SegmentModel, find_model
from kerasrep.embedding.segments import aligned, is_aligned
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
def test_segments_in_aligned_memory_are_embedded_without_a_copy_to_the_same_bits(small_export, layers):
    load, found = find_model(small_export)
    embed_segments = load(found).arranged(layers=layers)[0].embed_segments
    segments = aligned((3, constants.SEGMENT_SAMPLES, 2))
    assert is_aligned(segments) and not segments.any()
    segments[:] = np.random.default_rng(0).normal(0, 0.1, segments.shape)
    elsewhere = (
        aligned((4, constants.SEGMENT_SAMPLES, 2)).reshape(-1)[2 : 2 + segments.size].reshape(segments.shape)
    )
    elsewhere[:] = segments
    assert not is_aligned(elsewhere)
    first = embed_segments(segments)
    np.testing.assert_array_equal(embed_segments(elsewhere), first)
    segments[:] = segments[::-1].copy()  # the next batch in the same memory
    np.testing.assert_allclose(embed_segments(segments), first[::-1], atol=1e-5)
    np.testing.assert_array_equal(embed_segments(elsewhere), first)


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
