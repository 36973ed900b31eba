import numpy as np
import pytest

from kerasrep.data.crops import MIN_PINNED_BYTES, Buffers, _runtime, pin


@pytest.mark.skipif(_runtime() is not None, reason="this process has CUDA")
def test_without_cuda_nothing_is_pinned_and_buffers_work_as_ever():
    assert not pin(np.empty(2 * MIN_PINNED_BYTES, np.uint8))
    buffers = Buffers(pinned=True)
    first = buffers.take(MIN_PINNED_BYTES)
    first[:] = 7
    other = buffers.take(MIN_PINNED_BYTES)
    other[:] = 8
    assert len(buffers) == 2 and (first == 7).all()
    del first
    assert (buffers.take(MIN_PINNED_BYTES) == 7).all() and len(buffers) == 2


@pytest.mark.gpu
def test_pinned_memory_is_given_back_when_it_is_freed_and_can_be_pinned_again():
    import tensorflow as tf

    tf.constant(0.0)
    array = np.zeros(4 * MIN_PINNED_BYTES, np.uint8)
    part = array[MIN_PINNED_BYTES:]
    assert pin(array)
    assert not pin(part)  # it is pinned already
    np.testing.assert_array_equal(tf.constant(array).numpy(), array)  # the refusal left no error behind
    address = array.ctypes.data
    del array, part
    assert _runtime().cudaHostUnregister(address)  # an error: there is nothing left to give back
    _runtime().cudaGetLastError()
