import base64
import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_evaluations import (
    NOTES,
    PROVENANCE,
    REPRESENTATIONS,
    make_comparisons,
    make_evaluation,
    make_evaluations,
)

from kerasrep.errors import one_line
from kerasrep.evaluation.report.figures import draw_bars, draw_confusions
from kerasrep.evaluation.report.overview import findings, overview_of, win_sentences
from kerasrep.evaluation.report.writing import build_page

HOSTILE = (
    "</style></title><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> &lt;b&gt; & 'quoted'",
    "javascript:alert(1) http://example.org/?a=1&b=2",
)
VOID = {"meta", "img", "wbr"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails where elements do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(evaluations, comparisons=(), provenance=PROVENANCE, notes=NOTES) -> Page:
    overview = overview_of(evaluations, comparisons)
    return Page(build_page(overview, draw_bars(overview), draw_confusions(overview), provenance, notes))


def renamed(evaluation, name: str):
    """The same evaluation with a name everywhere a user or a data set can put one."""
    classes = tuple(f"{name} {i}" for i in range(len(evaluation.probes[0].classes)))
    probe = dataclasses.replace(
        evaluation.probes[0],
        probe=name,
        classes=classes,
        per_class={c: {"precision": 0.5, name: 0.5} for c in classes},
    )
    return dataclasses.replace(
        evaluation,
        representation=name,
        task=name,
        left_out={name: name},
        counts={name: {"found": 1, "published": 2}},
        probes=(probe, *evaluation.probes[1:]),
    )


@pytest.fixture(scope="module")
def whole():
    """The page of two representations on one task of each kind, and what it is about."""
    evaluations = make_evaluations(REPRESENTATIONS[:2], ("demo_dance", "demo_tempo", "demo_recommendation"))
    comparisons = make_comparisons(evaluations)
    return page_of(evaluations, comparisons), overview_of(evaluations, comparisons)


def test_the_answer_comes_first_and_the_command_last(whole):
    page, overview = whole
    answer, *more = win_sentences(overview)
    parts = [answer, *NOTES, "Scores", *more, *(finding.sentence for finding in findings(overview))]
    parts += ["Differences", "Every probe", "Classes", "Data", "What to do next", PROVENANCE["command"]]
    places = [page.text.index(part) for part in parts]
    assert places == sorted(places)


def test_every_score_of_the_headline_probe_stands_in_the_page(whole):
    page, overview = whole
    for (task, _), evaluation in overview.cells.items():
        probe, decimals = evaluation.probes[0], overview.decimals(task)
        assert f"{probe.mean:.{decimals}f}[{probe.low:.{decimals}f}, {probe.high:.{decimals}f}]" in page.text


def test_the_best_of_each_row_is_marked_where_there_is_a_choice(whole):
    page, overview = whole
    marked = [attributes for attributes in page.all("span") if attributes.get("class") == "best"]
    assert len(marked) == len(overview.tasks)
    alone = page_of([make_evaluation("a", "demo_tempo")])
    assert not [attributes for attributes in alone.all("span") if attributes.get("class") == "best"]


def test_every_figure_has_a_description_and_a_sentence(whole):
    page, overview = whole
    images = page.all("img")
    n_confusions = sum(evaluation.kind == "classification" for evaluation in overview.cells.values())
    assert len(images) == 3 + n_confusions
    assert len({image["alt"] for image in images}) == len(images)
    for image in images:
        kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.+)", image["src"]).groups()
        content = base64.b64decode(data, validate=True)
        assert content.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
        assert image["alt"].split(". ", 1)[1] in page.text


def test_the_page_loads_nothing_and_fits_a_phone(whole):
    page, _ = whole
    assert {tag for tag, _ in page.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "ul", "li"),
        *(
            "div",
            "table",
            "caption",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "span",
            "strong",
            "wbr",
            "pre",
            "code",
        ),
        *("figure", "img", "figcaption", "details", "summary"),
    }
    metas = {meta.get("name") or meta.get("http-equiv"): meta.get("content") for meta in page.all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["Content-Security-Policy"].startswith("default-src 'none'")
    attributes = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in attributes if name.startswith("on")}
    assert attributes & {"src", "href", "srcset"} == {"src"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name):
    evaluation = renamed(make_evaluation("a", "demo_metre"), name)
    other = dataclasses.replace(evaluation, representation=f"{name} 2")
    provenance = {"command": name, name: {name: name}, "list": [name]}
    page = page_of([evaluation, other], make_comparisons([evaluation, other]), provenance, [name])
    plain = page_of([make_evaluation("a", "demo_metre")])
    assert {tag for tag, _ in page.elements} - {"strong"} <= {tag for tag, _ in plain.elements}
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert page.text.count(name) > 20


@settings(max_examples=15)
@given(name=st.text(st.characters(exclude_categories=()), min_size=1, max_size=12))
def test_any_name_gives_a_page_that_parses_and_shows_it(name):
    overview = overview_of([renamed(make_evaluation("a", "demo_recommendation"), name)])
    text = build_page(overview, [], {}, {name: name}, [name])
    text.encode("utf-8")
    assert one_line(name) in Page(text).text


def test_attributes_and_texts_are_escaped_unless_made_here():
    probe = dataclasses.replace(make_evaluation("a", "demo_tempo").probes[0], mean=0.5)
    evaluation = dataclasses.replace(make_evaluation("a", "demo_tempo"), task='a_b<"', probes=(probe,))
    overview = overview_of([evaluation])
    text = build_page(overview, draw_bars(overview), {}, {}, ["<b>&"])
    assert '<p class="note">&lt;b&gt;&amp;</p>' in text
    assert '<th scope="row">a_<wbr>b&lt;&#34;</th>' in text
    assert re.search(r'alt="[^"<]+ on a_b&lt;&#34;', text)


def test_what_is_missing_leaves_no_empty_section():
    evaluation = make_evaluation("a", "demo_tempo")
    page = page_of([dataclasses.replace(evaluation, counts={})], provenance={}, notes=[])
    for heading in ("Differences", "Classes", "Data", "To run it again"):
        assert heading not in page.text


def test_a_task_that_failed_for_one_representation_shows_a_gap():
    evaluations = [make_evaluation("a", "demo_tempo"), make_evaluation("b", "demo_metre")]
    assert "demo_tempo" in page_of(evaluations).text
    assert page_of(evaluations).texts.count("-") >= 2


def test_pages_of_equal_results_are_equal():
    overview = overview_of([make_evaluation("a", "demo_metre")])
    pages = {
        build_page(overview, draw_bars(overview), draw_confusions(overview), PROVENANCE) for _ in range(2)
    }
    assert len(pages) == 1


def test_numbers_of_numpy_in_provenance_are_shown():
    page = page_of([make_evaluation("a", "demo_tempo")], provenance={"seed": np.int64(3), "folds": (1, 2)})
    assert "seed3" in page.text
    assert "folds1, 2" in page.text


@pytest.mark.parametrize("command", ["kerasrep-evaluate 'a b' -o c", ["kerasrep-evaluate", "a b", "-o", "c"]])
def test_the_command_can_be_copied_to_a_shell(command):
    page = page_of([make_evaluation("a", "demo_recommendation")], provenance={"command": command})
    assert "To run it again:kerasrep-evaluate 'a b' -o c" in page.text
