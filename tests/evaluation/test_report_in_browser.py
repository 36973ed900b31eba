"""The page of an evaluation in a real browser: wide tables say that they scroll, and what was wrong plays."""

import time

import numpy as np
import pytest
import soundfile
from made_evaluations import NOTES, PROVENANCE, make_comparisons, make_evaluations

from kerasrep.evaluation.report import write_report

pytestmark = pytest.mark.browser
#: Of each table: whether it is wider than its box, and whether the hint has a size.
TABLES = """[...document.querySelectorAll('.scroll')].map(box =>
    [box.scrollWidth > box.clientWidth, getComputedStyle(box, '::before').fontSize !== '0px'])"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    evaluations = make_evaluations()
    write_report(folder, evaluations, make_comparisons(evaluations), PROVENANCE, NOTES)
    return folder / "report.html"


@pytest.mark.parametrize(("width_pixels", "some_are_wide"), [(400, True), (1400, False)])
def test_a_table_says_that_it_scrolls_where_it_does(
    report, open_page, serious_faults, width_pixels, some_are_wide
):
    page = open_page(report, width_pixels, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait_for_timeout(200)  # timelines begin with the second frame
    tables = page.evaluate(TABLES)
    page_width = page.evaluate("document.documentElement.scrollWidth")
    sized = page.evaluate("[...document.images].every(one => one.width && one.hasAttribute('height'))")
    assert serious_faults(page) == []
    assert len(tables) >= 2 and all(is_wide == is_said for is_wide, is_said in tables)
    assert any(is_wide for is_wide, _ in tables) == some_are_wide
    assert page_width <= width_pixels and sized


def test_an_item_that_was_got_wrong_plays(tmp_path, open_page):
    evaluations = make_evaluations(tasks=("demo_dance",))
    soundfile.write(tmp_path / "é 1.wav", 0.1 * np.sin(np.arange(5 * 8000) / 5), 8000)
    items = evaluations[0].probes[0].unit_ids.tolist()
    audio = {"demo_dance": dict.fromkeys(items, tmp_path / "é 1.wav")}
    write_report(tmp_path / "page", evaluations, [], PROVENANCE, audio=audio)
    page = open_page(tmp_path / "page" / "report.html")
    assert page.locator("audio").count() == 10
    page.evaluate("document.querySelector('audio').play()")
    end = time.monotonic() + 20
    while page.evaluate("document.querySelector('audio').currentTime") < 0.3:
        assert time.monotonic() < end
        time.sleep(0.1)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    long_name = "document.querySelector('.worst tbody th').textContent = 'a long name '.repeat(20)"
    page.evaluate(long_name)
    box = "(() => { const box = document.querySelector('.worst').parentElement; "
    assert page.evaluate(f"{box} return box.scrollWidth <= box.clientWidth; }})()")
