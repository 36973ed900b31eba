"""What native code writes to standard error is dropped; what we write is not."""

from __future__ import annotations

import os
import sys

import pytest

from kerasrep.runtime.native_messages import silenced


def test_native_messages_are_dropped_and_ours_are_shown(capfd):
    with silenced() as loud:
        os.write(2, b"from a library\n")
        print("from us", file=loud, flush=True)
    print("afterwards", file=sys.stderr)
    assert capfd.readouterr().err == "from us\nafterwards\n"


def test_standard_error_is_back_after_an_exception(capfd):
    with pytest.raises(KeyError), silenced():
        raise KeyError
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_a_process_without_standard_error_goes_on(capfd):
    saved = os.dup(2)
    os.close(2)
    try:
        with silenced() as loud:
            assert loud is sys.stderr
    finally:
        os.dup2(saved, 2)
        os.close(saved)
