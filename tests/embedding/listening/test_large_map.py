"""A map of more tracks than their neighbours are listed for."""

import base64
import gzip
import json
import re

from catalogues import write_catalogue

from kerasrep.cli import command
from kerasrep.cli import map as map_command


def model_of(page):
    packed = re.search(r'id="data">([^<]+)<', page.read_text())[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))["models"][0]


def test_a_map_of_many_tracks_has_no_neighbours_and_one_of_few_has_them(tmp_path, monkeypatch):
    index, page = write_catalogue(tmp_path, 12, 3), tmp_path / "map.html"
    for most_tracks, neighbours in ((5, 0), (12, 11)):
        monkeypatch.setattr("kerasrep.embedding.listening.page.MOST_WITH_NEIGHBOURS", most_tracks)
        assert command.run(map_command.main, map_command.PROG, [str(index), "-o", str(page)]) == 0
        assert model_of(page)["most"] == neighbours
        assert len(base64.b64decode(model_of(page)["ids"])) == 4 * 12 * neighbours
