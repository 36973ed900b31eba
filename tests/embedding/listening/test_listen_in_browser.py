"""The page in a real browser."""

import contextlib
import functools
import http.server
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from catalogues import COLUMNS, grouped_vectors, write_catalogue, write_tone

import kerasrep
from kerasrep.cli import command
from kerasrep.cli import map as map_command
from kerasrep.cli import search as search_command

#: A track that Chromium does not read to its end before it plays.
LONG = 8
pytestmark = pytest.mark.browser


def run(module, *arguments):
    assert command.run(module.main, module.PROG, [str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty tracks of 8 s, but one, in four folders; the page of a map, and of two queries by two models."""
    root = tmp_path_factory.mktemp("listen")
    index = write_catalogue(root)
    for number, path in enumerate(np.load(index)["paths"].tolist()):
        write_tone(root / path, 200 + 20 * number, 400 if number == LONG else 8)
    (root / "group3/39 é.wav").unlink()
    (root / "b").mkdir()
    other = write_catalogue(root / "b", embeddings=grouped_vectors(40, 5, seed=1))
    with np.load(other) as arrays:
        np.savez(root / "other.npz", **(dict(arrays) | {"about": np.load(index)["about"]}))
    run(
        map_command,
        index,
        "-o",
        root / "map.html",
        "--color",
        f"mood:{root / 'labels.csv'}",
        "--color",
        "folder",
    )
    queries = [root / "group0/00 é.wav", root / "group1/05 é.wav"]
    run(
        search_command,
        index,
        *queries,
        "-n",
        5,
        "--page",
        root / "near.html",
        "--against",
        root / "other.npz",
    )
    return root


@pytest.fixture
def open_page(open_page):
    """A function that opens an address and waits for the page."""

    def open_it(*address, **settings):
        page = open_page(*address, **settings)
        page.wait_for_selector("html[data-ready=yes]")
        return page

    return open_it


def time_of(page):
    return page.evaluate("document.getElementById('audio').currentTime")


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_neighbour_plays_from_its_typical_segment_and_stops(folder, open_page):
    page = open_page(folder / "near.html")
    button = page.locator("#near li:not(.asked) .play").first
    assert " from 0:05" in button.get_attribute("aria-label")
    button.click()
    wait_until(lambda: time_of(page) > 5.3)
    page.keyboard.press("Escape")
    wait_until(lambda: page.evaluate("document.getElementById('audio').paused"))
    assert 5 < time_of(page) < 8


@pytest.mark.parametrize("track", [7, LONG])
def test_a_track_plays_from_the_middle_behind_a_server_without_ranges(folder, open_page, track):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = open_page(f"http://127.0.0.1:{server.server_port}/map.html")
        page.evaluate(f"listening.play({track})")
        times = []
        wait_until(lambda: times.append(time_of(page)) or times[-1] > 5.3)
        assert not [time for time in times if 0.5 < time < 5] and times[-1] < 8
        server.shutdown()


def test_a_click_on_the_map_plays_and_shows_neighbours(folder, open_page):
    page = open_page(folder / "map.html")
    page.select_option("#colour", label="folder")
    page.get_by_role("button", name="group3 (10)").click()  # hides the track without audio
    page.locator("#map").focus()
    page.keyboard.press("Enter")  # what is nearest to the middle
    wait_until(lambda: time_of(page) > 5.2)
    rows = page.locator("#near li")
    assert rows.count() == 13  # itself and twelve
    # Vectors are near each other by folder.
    folders = {name.split("/")[0] for name in page.locator("#near small").all_inner_texts()[:10]}
    assert len(folders) == 1
    page.locator("#near li .near").nth(3).click()
    assert page.locator("#near-title").inner_text().startswith("Near ")


def test_searching_and_the_legend_filter(folder, open_page):
    page = open_page(folder / "map.html")
    page.fill("#search", "GROUP1")
    assert page.locator("#list-title").inner_text() == "List: 10 tracks"
    page.select_option("#colour", label="mood")
    page.get_by_role("button", name="mood 0 (14)").click()
    shown = page.locator("#list li").count()
    assert shown == sum(1 for i in range(40) if i % 4 == 1 and i % 3)
    page.fill("#search", "")
    assert page.locator("#list li").count() == 0


def test_a_lasso_is_saved_as_playlist_and_as_table(folder, open_page, tmp_path):
    page = open_page(folder / "map.html")
    page.click("#lasso")
    box = page.locator("#map").bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()
    assert page.locator("#list-title").inner_text() == "List: 40 tracks"
    with page.expect_download() as saved:
        page.click("#save-m3u8")
    saved.value.save_as(tmp_path / "a.m3u8")
    lines = (tmp_path / "a.m3u8").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U" and lines[1] == "#EXTINF:8,00 é.wav"
    assert [Path(line).exists() for line in lines[2::2]].count(True) == 39
    with page.expect_download() as saved:
        page.click("#save-csv")
    saved.value.save_as(tmp_path / "a.csv")
    table = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert table[:2] == ["path,tag_artist,tag_title,mood,folder", "group0/00 é.wav,,,mood 0,group0"]
    assert len(table) == 41


def test_two_models_and_branches_are_compared(folder, open_page):
    page = open_page(folder / "near.html")
    assert page.locator("#near h3").all_inner_texts() == ["A: index.npz", "B: other.npz"] * 2
    assert page.locator("#near ol").first.locator("li").count() == 6
    more = page.locator("#near ol").first.locator("li").nth(1).locator(".more").inner_text()
    assert "of pairs" in more and "tag " in more and "artist " in more and "other.npz" in more
    page.locator("#near ol").first.locator("li").nth(1).locator(".play").focus()
    page.keyboard.press("b")
    assert page.evaluate("document.activeElement.closest('ol').dataset.model") == "1"
    page.keyboard.press("n")
    assert page.locator("#near ol").count() == 2
    page.get_by_role("button", name="Back to the queries").click()
    assert page.locator("#near ol").count() == 4


def test_the_page_the_command_and_a_notebook_say_the_same_percentiles(folder, open_page):
    page = open_page(folder / "near.html")
    shown = page.locator("#near ol").first.locator(".more").all_inner_texts()
    on_page = [re.search(r"nearer than (\S+)% of pairs", text)[1] for text in shown]
    found = kerasrep.neighbours(folder / "index.npz", folder / "group0/00 é.wav", n=5)
    in_text = [line.split()[2].rstrip("%") for line in str(found).splitlines()[2:]]
    in_notebook = re.findall(r"nearer than (\S+)% of pairs", found._repr_html_())
    assert on_page == in_text == in_notebook and len(set(on_page)) > 1
    answer = page.locator(".answer").inner_text()
    assert answer.startswith("Nearest to 00 é.wav: ") and f"nearer than {on_page[0]}% of all pairs" in answer


def test_what_the_map_says_of_a_track_at_its_right_edge_is_not_cut(tmp_path, open_page):
    paths = np.array([f"{number}/{'a_long_name_without_blanks' * 6}.wav" for number in range(8)])
    run(map_command, write_catalogue(tmp_path, 8, 2, paths=paths), "-o", tmp_path / "map.html")
    page = open_page(tmp_path / "map.html", 500)
    found = page.evaluate("""() => {
      const canvas = document.getElementById("map"), tip = document.getElementById("tip"), found = [];
      const box = canvas.getBoundingClientRect();
      for (let i = 0; i < 4000; i++) {  // twice, as the tip then stands there already
        const x = i % 100 / 99, y = Math.floor(i % 2000 / 100) / 19;
        canvas.dispatchEvent(new PointerEvent("pointermove", {pointerId: 1, bubbles: true,
          clientX: box.left + box.width * x, clientY: box.top + box.height * y}));
        const edge = tip.getBoundingClientRect();
        if (!tip.hidden) found.push([tip.scrollWidth, tip.clientWidth, edge.width, box.right - edge.right]);
      }
      return found;
    }""")
    assert found
    for inner, shown, width, before_the_edge in found:
        assert inner <= shown and width > 200 and before_the_edge >= 0


def test_a_tiny_table_shows_no_percentiles(tmp_path, open_page):
    run(map_command, write_catalogue(tmp_path, 4, 2), "-o", tmp_path / "map.html")
    page = open_page(tmp_path / "map.html")
    page.locator("#map").focus()
    page.keyboard.press("Enter")
    more = page.locator("#near .more").first.inner_text()
    assert "of pairs" not in more and "similarity" in more
    found = kerasrep.neighbours(tmp_path / "index.npz", tmp_path / "group0/00 é.wav", n=2)
    assert found.neighbours[0][0].percentile is None and "%" not in str(found)


def test_a_track_without_audio_says_so(folder, open_page):
    page = open_page(folder / "map.html")
    assert "1 track of 40 have no audio" in page.locator(".note").first.inner_text()
    page.evaluate("listening.play(39)")
    assert "has no audio" in page.locator("#status").inner_text()


@pytest.mark.parametrize("name", ["map.html", "near.html"])
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(folder, open_page, name, width):
    page = open_page(folder / name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#map").bounding_box()
    assert box["width"] > 0.4 * width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["map.html", "near.html"])
def test_axe_finds_nothing_serious(folder, open_page, serious_faults, name, scheme):
    page = open_page(folder / name, color_scheme=scheme, bypass_csp=True)
    page.fill("#search", "group1")
    assert serious_faults(page) == []


def test_hostile_names_stay_text(open_page, tmp_path):
    evil = "</script><script>window.bad=1</script><img src=x onerror=window.bad=1>{{ 1 }}\x1b.wav"
    paths = np.array([f"{number}{evil}" for number in range(12)])
    index = write_catalogue(tmp_path, 12, 3, paths=paths)
    (tmp_path / "evil.csv").write_text(f'track,"{evil[:60]}"\n')
    run(map_command, index, "-o", tmp_path / "map.html", "--color", "folder")
    page = open_page(tmp_path / "map.html")
    page.fill("#search", "script")
    assert page.evaluate("window.bad") is None
    assert "<script>" in page.locator("#list li small").first.inner_text()


@pytest.mark.slow
def test_a_hundred_thousand_points_pan_at_thirty_frames_a_second(open_page, tmp_path):
    n = 100_000
    rng = np.random.default_rng(0)
    vectors = rng.uniform(0, 1, (n, len(COLUMNS))).astype(np.float32)
    paths = np.array([f"folder {i % 50}/{i:06d}.wav" for i in range(n)])
    many = {"paths": paths, "embeddings": vectors, "seconds": np.full(n, 8.0), "typical_seconds": np.zeros(n)}
    index = write_catalogue(tmp_path, 12, 3, **many)
    with pytest.MonkeyPatch.context() as patch:  # the points' places do not matter here
        patch.setattr(
            "kerasrep.embedding.listening.page.plane", lambda unit: (unit[:, :2].copy(), "Two of the values.")
        )
        run(map_command, index, "-o", tmp_path / "map.html")
    page = open_page(tmp_path / "map.html")
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.down()
    script = """async () => {
      const canvas = document.getElementById("map"), box = canvas.getBoundingClientRect();
      const frame = () => new Promise(requestAnimationFrame);
      const first = listening.frames(), begin = performance.now();
      for (let i = 0; performance.now() - begin < 3000; i++) {
        canvas.dispatchEvent(new PointerEvent("pointermove", {pointerId: 1, bubbles: true,
          clientX: box.left + 300 + 60 * Math.sin(i / 9), clientY: box.top + 300 + 60 * Math.cos(i / 7)}));
        await frame();
      }
      return 1000 * (listening.frames() - first) / (performance.now() - begin);
    }"""
    with contextlib.suppress(Exception):
        page.mouse.move(box["x"] + 320, box["y"] + 310)
    rate = page.evaluate(script)
    print(f"{rate:.0f} frames a second")
    assert rate >= 30
