"""Identities of files are those that preparing leaves, are computed once, and tell what a model has seen."""

import numpy as np
import pytest
import soundfile
from tones import piece

from kerasrep.data.audio import decode
from kerasrep.data.identity import identity_of
from kerasrep.data.recordings import Identities
from kerasrep.data.shard_decoding import to_int16
from kerasrep.embedding import identities as module
from kerasrep.embedding.identities import cached_identities, seen_and_copies

RATE_HZ = 22_050


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four pieces, the first and second also as MP3 and quieter, and a file that is no audio."""
    folder = tmp_path_factory.mktemp("files")
    pieces = [piece(seed, 14) for seed in range(4)]
    for number, samples in enumerate(pieces):
        soundfile.write(folder / f"{number}.wav", samples, RATE_HZ)
    soundfile.write(folder / "other0.mp3", pieces[0], RATE_HZ)
    soundfile.write(folder / "other1.flac", 0.2 * pieces[1], RATE_HZ)
    (folder / "text.wav").write_text("no audio")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))


def test_they_are_those_of_the_whole_decoded_file_and_are_kept(files, monkeypatch):
    paths = [files / "1.wav", files / "text.wav", files / "missing.wav", files / "other0.mp3"]
    found, rows = cached_identities(paths, progress=False)
    assert rows.tolist() == [0, 3]
    expected = Identities.of([identity_of([to_int16(decode(paths[row], RATE_HZ))], RATE_HZ) for row in rows])
    np.testing.assert_array_equal(found.digests, expected.digests)
    np.testing.assert_array_equal(found.words, expected.words)
    monkeypatch.setattr(module, "identity_of", None)
    again, rows = cached_identities([files / "other0.mp3", files / "1.wav"], progress=False)
    assert rows.tolist() == [0, 1] and again.digests.tolist() == found.digests[::-1].tolist()


def test_no_file_gives_no_identity(files):
    found, rows = cached_identities([files / "text.wav"], progress=False)
    assert len(found) == len(rows) == 0
    seen, first = seen_and_copies(found, {"model": found})
    assert seen == {} and len(first) == 0


def test_seen_items_are_found_in_any_encoding(files):
    def known(*names):
        return cached_identities([files / name for name in names], progress=False)[0]

    items = known("0.wav", "1.wav", "2.wav", "other1.flac")
    trained_on = {
        "one": known("other0.mp3", "3.wav"),
        "two": known("3.wav"),
        "three": known("1.wav", "2.wav"),
    }
    seen, first = seen_and_copies(items, trained_on)
    assert {name: rows.tolist() for name, rows in seen.items()} == {"one": [0], "three": [1, 2, 3]}
    assert first.tolist() == [0, 1, 2, 1]
