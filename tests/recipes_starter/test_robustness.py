"""How often changed recordings find themselves."""

import numpy as np
import pytest
import robustness
import soundfile
from files import CollectError

RATE_HZ = robustness.RATE_HZ


def test_a_query_is_counted_where_its_own_row_is_nearest():
    rng = np.random.default_rng(0)
    index = rng.normal(size=(9, 5)) * [1, 10, 0.1, 1, 1] + 40
    rows = [4, 0, 7]
    queries = index[rows] + rng.normal(0, 0.01, (3, 5)) * [1, 10, 0.1, 1, 1]
    assert robustness.own_first(index, queries, rows) == 3
    assert robustness.own_first(index, queries, [0, 0, 7]) == 2
    constant = np.column_stack([index, np.full(9, 3.0)])  # a value that never varies says nothing
    assert robustness.own_first(constant, np.column_stack([queries, [99.0, 3, 3]]), rows) == 3


def test_changes_are_what_they_are_called():
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.1, (int(32 * RATE_HZ), 2)).astype(np.float32)
    found = dict(robustness.queries_of(audio))
    clean = audio[: 30 * RATE_HZ]
    level = {name: 20 * np.log10(np.std(found[name]) / np.std(clean)) for name in found}
    assert level["12 dB quieter"] == pytest.approx(-12, abs=0.01)
    assert level["20 dB quieter"] == pytest.approx(-20, abs=0.01)
    np.testing.assert_array_equal(found["channels swapped"][:, 0], clean[:, 1])
    np.testing.assert_array_equal(found["mono"][:, 0], found["mono"][:, 1])
    assert not found["1 s of lead silence"][:RATE_HZ].any()
    np.testing.assert_array_equal(found["1 s of lead silence"][RATE_HZ:], clean)
    np.testing.assert_array_equal(found["1.2 s later"], audio[26_460 : 26_460 + 30 * RATE_HZ])
    mp3 = found["64 kb/s MP3"]
    error = np.std(mp3 - clean) / np.std(clean)
    assert mp3.shape == clean.shape and 0.05 < error < 0.7  # noise is what a codec is worst at


def test_pieces_of_one_part_are_asked_of_a_model(tmp_path):
    from kerasrep.embedding.representations import open_representations

    rows = ["path\tkind\tpackage\tgroup\tpart\tpiece\tseconds"]
    seconds = np.arange(32 * RATE_HZ) / RATE_HZ
    for number, part in enumerate("AAAB"):
        tones = [np.sin(2 * np.pi * hz * seconds) for hz in (110 * 2**number, 150 * 3**number)]
        soundfile.write(tmp_path / f"{number}.wav", 0.2 * np.stack(tones, -1), RATE_HZ)
        rows.append(f"{number}.wav\treal\tp\tg\t{part}\t{number}\t32")
    rows.append("0.wav\treal\tp\tg\tA\t0\t32")  # another stretch of the first piece
    rows.append("4.wav\treal\tp\tg\tA\t4\t12")  # too short
    (tmp_path / "tracks.tsv").write_text("\n".join(rows))
    paths = robustness.pieces_of(tmp_path, "A")
    assert [path.name for path in paths] == ["0.wav", "1.wav", "2.wav"]
    found = robustness.robustness(open_representations(["mfcc"]), paths, n_queries=2, seed=0)
    assert list(found) == ["mfcc"] and found["mfcc"]["1.2 s later"] == 2
    assert robustness.table(found).count("\n") == 2
    with pytest.raises(CollectError, match="part C has 0 pieces"):
        robustness.pieces_of(tmp_path, "C")
