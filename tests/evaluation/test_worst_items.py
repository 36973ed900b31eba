"""The items that are got wrong most stand in the page with what was said of them, and play from there."""

from dataclasses import replace

import numpy as np
from made_evaluations import make_evaluation

from kerasrep.evaluation.report import write_report
from kerasrep.evaluation.report.overview import overview_of
from kerasrep.evaluation.report.writing import SHOWN, worst_items

ITEMS = [f"item {number:02d}" for number in range(20)]


def evaluation_of(name, wrong, kind="classification"):
    """Twenty jigs and reels, of which some are taken for the other one."""
    made = make_evaluation(name)
    truths = np.array(["jig", "reel"] * 10)
    predictions = truths.copy()
    for number in wrong:
        predictions[number] = "reel" if truths[number] == "jig" else "jig"
    probe = replace(
        made.probes[0],
        unit_ids=np.array(ITEMS),
        unit_folds=np.zeros(20, np.int64),
        unit_scores=(truths == predictions).astype(float),
        truths=truths,
        predictions=predictions,
    )
    return replace(made, kind=kind, probes=(probe, *made.probes[1:]))


def test_items_that_more_representations_get_wrong_come_first(tmp_path):
    audio = tmp_path / "audio é/05.wav"
    audio.parent.mkdir()
    audio.touch()
    overview = overview_of([evaluation_of("a", [3, 5]), evaluation_of("b", [5, 7])], [])
    paths = {"demo_dance": {"item 05": audio, "item 03": tmp_path / "gone.wav"}}
    (found,) = worst_items(overview, paths, tmp_path / "page").values()
    assert [one.item for one in found] == ["item 05", "item 03", "item 07"]
    assert (found[0].truth, dict(found[0].predictions)) == ("reel", {"a": "jig", "b": "jig"})
    assert (found[1].truth, dict(found[1].predictions)) == ("reel", {"a": "jig", "b": "reel"})
    assert [one.address for one in found] == ["../audio%20%C3%A9/05.wav", "", ""]


def test_at_most_ten_are_shown_and_none_where_all_are_right(tmp_path):
    many = worst_items(overview_of([evaluation_of("a", range(15))], []), {}, tmp_path)
    assert [one.item for one in many["demo_dance"]] == ITEMS[:SHOWN]
    assert worst_items(overview_of([evaluation_of("a", [])], []), {}, tmp_path) == {}


def test_the_page_has_players_for_them_and_may_load_audio_alone(tmp_path):
    (tmp_path / "05.wav").touch()
    folder = tmp_path / "scores"
    audio = {"demo_dance": {"item 05": tmp_path / "05.wav"}}
    write_report(folder, [evaluation_of("a", [5])], [], {}, audio=audio)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<audio controls preload="none" src="../05.wav" aria-label="item 05">' in page
    assert "img-src data:; media-src * file:" in page and "script-src" not in page
    write_report(folder, [evaluation_of("a", [])], [], {}, audio=audio)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<audio" not in page and "media-src" not in page
