"""Pages of prepare and tune in a real browser."""

import pytest

from kerasrep.corpora.report_page import page_of
from kerasrep.report.drawing import one_panel, picture
from kerasrep.report.page import render_page
from kerasrep.report.table import Table

pytestmark = pytest.mark.browser
SOURCES = ("self", "bpm", "year", "tag", "lyrics", "cdr_tag", "artist", "loudness", "a/very/long_source-name")


def prepared_page():
    topic = {"share": 0.5, "terms": [{"term": f"term {number}", "probability": 0.1} for number in range(9)]}
    manifest = {
        "corpus": {"name": "folder", "notices": ["a <b>notice</b>"], "skipped_labels": {}},
        "tracks": {"train": 300, "validation": 60, "evaluation": 0},
        "sources": {
            name: {"size": 9, "requested_size": 9, "train": 300, "validation": 60} for name in SOURCES
        },
        "overlaps": {one: dict.fromkeys(SOURCES, 1234) for one in SOURCES},
        "hours": 3.0,
        "skipped": 2,
        "shortened": 1,
        "fingerprint": "00ff",
        "settings": {"seed": 0, "targets": {"size": 9}},
    }
    return page_of(manifest, {"tag": {"model": "pLSA", "topics": [topic, topic]}})


def tuning_page():
    with one_panel(3.0, width_inches=10.0) as (figure, axes):
        axes.plot([1, 2], [3, 4])
        drawn = picture("trials", "Tuning", "Score by trial", figure, (), ())
    trials = Table(["trial", "best", "score"], [["0", "*", "0.5"], ["1", "", "0.4"]], n_names=2)
    return render_page(
        "sections.html",
        "Tuning",
        [],
        {},
        "Trial 0 is the best of 2.",
        ["Train it."],
        picture=drawn,
        wide=True,
        sections={"Trials": [trials]},
        folded={},
    )


@pytest.mark.parametrize("make", [prepared_page, tuning_page])
@pytest.mark.parametrize("width_pixels", [400, 1400])
def test_a_page_fits_the_window_begins_with_the_answer_and_says_what_scrolls(
    open_page, serious_faults, tmp_path, make, width_pixels
):
    (tmp_path / "page.html").write_text(make())
    page = open_page(tmp_path / "page.html", width_pixels, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait_for_timeout(200)  # timelines begin with the second frame
    assert page.evaluate("document.documentElement.scrollWidth") <= width_pixels
    assert page.locator("main > *").nth(1).get_attribute("class") == "answer"
    boxes = page.evaluate("""[...document.querySelectorAll('.scroll')].map(box =>
        [box.scrollWidth > box.clientWidth, getComputedStyle(box, '::before').fontSize !== '0px'])""")
    assert any(wide for wide, _ in boxes) == (width_pixels == 400)
    assert all(wide == hinted for wide, hinted in boxes)
    assert serious_faults(page) == []
