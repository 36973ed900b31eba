"""The table of licences that goes with an export."""

import pytest

from kerasrep.cli import command, export
from kerasrep.errors import DataError
from kerasrep.serving.card import licence_lines
from kerasrep.storage.export_directory import read_card

HEADER = "path\ttitle\tauthor\tlicence\tpackage\tsource\n"
ROWS = (
    "a.opus\tA\tAnn\tGPL-2+\tgame\tDebian\n"
    "b.opus\tB\tBob\tCC-BY-SA-3.0\tgame\tDebian\n"
    "c.opus\tC\tAnn\tGPL-2+\tgame\tDebian\n"
)


def test_licences_are_counted_the_commonest_first(tmp_path):
    table = tmp_path / "licences.tsv"
    table.write_text(HEADER + ROWS)
    first, second = licence_lines(table)
    assert first.startswith("Trained on 3 recordings under these licences: GPL-2+ (2), CC-BY-SA-3.0 (1). ")
    assert "not settled" in second and "CC BY-SA" in second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column 'path'"),
        (HEADER, "has no row"),
        (HEADER + "a.opus\tA\tAnn\t\tgame\tDebian\n", r"licences\.tsv, line 2: names no licence"),
    ],
)
def test_a_table_that_does_not_say_is_refused(text, message, tmp_path):
    table = tmp_path / "licences.tsv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        licence_lines(table)


def test_the_command_puts_the_table_beside_the_card_and_stores_halves(plain_run, tmp_path, capsys):
    table = tmp_path / "mine.tsv"
    table.write_text(HEADER + ROWS)
    arguments = [plain_run.run.root, "--directory", tmp_path / "out", "--name", "small", "--licences", table]
    arguments += ["--weights", "float16", "--default-layers", "last,conv4"]
    assert command.run(export.main, export.PROG, [str(argument) for argument in arguments]) == 0
    version = tmp_path / "out" / "small" / "1"
    card = read_card(version)
    assert card.licence[0].startswith("Trained on 3 recordings") and len(card.licence) == 3
    assert (version / "assets.extra" / "licences.tsv").read_text() == HEADER + ROWS
    assert (card.weights, card.default_layers) == ("float16", "last,conv4")
    table.write_text(HEADER)
    assert command.run(export.main, export.PROG, [str(argument) for argument in arguments]) == 1
    assert "has no row" in capsys.readouterr().err
    assert not (version.parent / "2").exists()
