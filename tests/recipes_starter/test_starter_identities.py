"""The script that writes what the shipped trunk was trained on."""

import numpy as np
import soundfile
from identities import identities_of
from tones import piece

from kerasrep.embedding.identities import cached_identities


def test_digests_are_of_all_tracks_and_prints_of_some(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    paths = {f"{n}.flac": tmp_path / f"{n}.flac" for n in range(3)}
    for number, path in enumerate(paths.values()):
        soundfile.write(path, piece(number, 13), 22_050)
    whole, _ = cached_identities(list(paths.values()), progress=False)
    found = identities_of(paths, {"1.flac"})
    assert found.digests.tolist() == whole.digests.tolist()
    assert found.lengths.tolist() == [0, whole.lengths[1], 0]
    np.testing.assert_array_equal(found.words, whole.take(np.array([1])).words)
