"""The report of targets for people: its text line by line, and its picture."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from kerasrep.recipe.schema import TargetSettings
from kerasrep.report.topics import describe_topics, draw_topics, write_topics
from kerasrep.sources.labels import CountLabels, ValueLabels
from kerasrep.sources.targets import build_targets
from kerasrep.storage.run_directory import PreparedDirectory

ROOT = Path(__file__).parents[2]

TAGS = {
    "model": "pLSA",
    "requested_size": 50,
    "size": 2,
    "training_documents": 1234,
    "log_likelihoods": [-9.0, -8.0],
    "topics": [
        {"share": 0.25, "terms": [{"term": "jig", "probability": 0.75}]},
        {
            "share": 0.75,
            "terms": [{"term": "rock", "probability": 0.5}, {"term": "metal", "probability": 0.125}],
        },
    ],
}
YEARS = {
    "model": "Gaussian mixture",
    "requested_size": 2,
    "size": 2,
    "converged": True,
    "components": [
        {"mean": 1970.4, "deviation": 3.0, "weight": 0.25},
        {"mean": 2001.0, "deviation": 6.5, "weight": 0.75},
    ],
}
LEFT_OUT = {"left_out": "no training track has a label"}


def named(*terms):
    return {**TAGS, "topics": [{"share": 1.0, "terms": [{"term": t, "probability": 0.1} for t in terms]}]}


def test_text_says_what_was_fitted_and_lists_topics_by_share():
    assert describe_topics({"tag": TAGS, "year": YEARS, "bpm": LEFT_OUT}).splitlines() == [
        "tag: pLSA, 2 topics (50 asked for; the labels have no more dimensions)",
        "  training documents: 1,234",
        "  topic   1   75.0%  rock 0.500, metal 0.125",
        "  topic   0   25.0%  jig 0.750",
        "",
        "year: Gaussian mixture, 2 components",
        "  converged: yes",
        "  component   0   25.0%  mean 1970.4, standard deviation 3",
        "  component   1   75.0%  mean 2001, standard deviation 6.5",
        "",
        "bpm: left out, no training track has a label",
    ]


def test_names_stay_in_one_line_and_lines_in_their_width():
    odd = ["line\nbreak\tand tab", "nul\0", "x" * 500, "日本語", "$1 {x} \\frac", "", "a" * 60, "b" * 60]
    text = describe_topics({"tag": named(*odd)})
    assert all(len(line) <= 110 for line in text.splitlines())
    assert "line break and tab 0.100," in text
    assert "nul\\x00 0.100," in text
    assert "x" * 39 + "… 0.100," in text
    assert text.count("0.100") == 8


def pixels(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"bpm": LEFT_OUT},
        {"tag": TAGS},
        {"tag": TAGS, "year": YEARS, "bpm": LEFT_OUT},
        {"tag": named("$1 {x} \\frac", "日本語", "\u202eleft", "line\nbreak", "x" * 500, "")},
        {"tag": named("W" * 30, "M" * 30, *"abc"), "artist": named(*["長い名前" * 9] * 5)},
        {"tag": {**TAGS, "topics": [{"share": 1.0, "terms": []}]}},
        {"year": {**YEARS, "components": [{"mean": 1999.0, "deviation": 0.01, "weight": 1.0}]}},
        {"tag": {**TAGS, "topics": TAGS["topics"] * 500}},
    ],
    ids=[
        "empty",
        "left out",
        "one",
        "three",
        "odd names",
        "wide names",
        "no terms",
        "one component",
        "many topics",
    ],
)
def test_a_picture_of_any_report_is_drawn_without_a_warning(tmp_path, report):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_topics(report, tmp_path / "topics.png")
    picture = pixels(tmp_path / "topics.png")
    assert picture.std() > 0.01  # something is drawn
    assert (picture[[0, -1]] == 1).all() and (picture[:, [0, -1]] == 1).all()  # nothing is cut off
    assert max(picture.shape) < 4000


def test_the_length_of_a_bar_is_the_topics_share(tmp_path):
    draw_topics({"tag": TAGS}, tmp_path / "topics.png")
    blue = np.isclose(pixels(tmp_path / "topics.png"), [0, 0x72 / 255, 0xB2 / 255], atol=0.01).all(axis=2)
    lengths = blue.sum(axis=1)[blue.any(axis=1)]
    assert sorted(set(lengths.tolist()))[0] * 3 == pytest.approx(lengths.max(), rel=0.03)
    assert lengths[0] == lengths.max()  # the largest is at the top


def test_equal_reports_give_equal_files_and_pyplot_is_left_alone(tmp_path):
    code = (
        "import sys, json, pathlib\n"
        "from kerasrep.report.topics import draw_topics\n"
        "draw_topics(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    report = {"tag": TAGS, "year": YEARS}
    command = [sys.executable, "-c", code, json.dumps(report), str(tmp_path / "other.png")]
    subprocess.run(command, check=True, cwd=ROOT)
    draw_topics(report, tmp_path / "topics.png")
    assert (tmp_path / "other.png").read_bytes() == (tmp_path / "topics.png").read_bytes()


def test_the_report_of_real_targets_is_written_as_json_text_and_picture(tmp_path):
    rng = np.random.default_rng(0)
    tracks = [f"t{number}" for number in range(40)]
    terms = [f"term {number}" for number in range(9)]
    counts = sparse.csr_matrix(rng.poisson(1.0, (40, 9)))
    labels = {
        "tag": CountLabels(counts, terms, tracks, np.arange(40)),
        "bpm": ValueLabels(tracks, rng.normal(120, 20, 40)),
    }
    report = build_targets(labels, tracks[:30], TargetSettings(size=4), seed=0).report
    directory = PreparedDirectory(tmp_path)
    write_topics(directory, report)
    assert json.loads(directory.topics.read_text()) == report
    text = directory.topics_text.read_text()
    assert "tag: pLSA, 4 topics\n" in text and "bpm: Gaussian mixture, 4 components\n" in text
    likeliest = report["tag"]["topics"][2]["terms"][0]
    assert f"topic   2  {report['tag']['topics'][2]['share']:6.1%}  {likeliest['term']} " in text
    assert directory.topics_picture.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"topics.json", "topics.txt", "topics.png"}
