import numpy as np
import soundfile
from folds import make_fold


def test_a_fold_has_the_audio_and_the_rows_of_its_part_alone(tmp_path):
    folder, out = tmp_path / "all", tmp_path / "a"
    for name in ("x", "y"):
        (folder / "audio" / name).mkdir(parents=True)
        soundfile.write(folder / "audio" / name / "t.flac", np.zeros((100, 2)), 22_050)
    (folder / "tracks.tsv").write_text("path\tpart\naudio/x/t.flac\tA\naudio/y/t.flac\tB\n")
    (folder / "groups.tsv").write_text("track\tgroup\naudio/x/t.flac\t1\naudio/y/t.flac\t2\n")
    (folder / "report.tsv").write_text("what\tcount\nhours\t3\n")
    assert make_fold(folder, "A", out) == make_fold(folder, "A", out) == 1
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "audio/x/t.flac",
        "groups.tsv",
        "tracks.tsv",
    ]
    assert (out / "groups.tsv").read_text() == "track\tgroup\naudio/x/t.flac\t1\n"
