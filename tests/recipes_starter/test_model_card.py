"""The model card that goes beside the starter trunk."""

import re
from pathlib import Path

import pytest
from model_card import TEMPLATE, model_card

from kerasrep.errors import DataError
from kerasrep.serving.export import export_run


def test_what_files_say_is_filled_in_and_nothing_is_left_to_be_filled_in(make_run, tmp_path):
    trained = make_run("ms-sr@fc", model={"width": 0.0625, "trunk": "residual"})
    table = tmp_path / "licences.tsv"
    header = "path\ttitle\tauthor\tlicence\tpackage\tsource\n"
    table.write_text(
        header + "a\tA\tAnn\tGPL-2+\tp\ts\nb\tB\tBob\tCC-BY-SA-3.0\tp\ts\nc\tC\tBob\tGPL-2+\tp\ts\n"
    )
    (tmp_path / "tracks.tsv").write_text("path\tkind\tseconds\na\treal\t3600\nb\treal\t1800\nc\tnote\t900\n")
    version = export_run(trained, tmp_path, "mine", weights="float16", default_layers="all", licences=table)
    text = model_card(version, tmp_path, TEMPLATE.read_text())
    assert "| GPL-2+ | 2 |\n| CC-BY-SA-3.0 | 1 |" in text and "2 authors are named" in text
    assert "2 stretches of real music (1.5 h), 1 stretches of single notes and drum hits (0.2 h)." in text
    trunk = trained.network.trunk
    trainable = sum(int(variable.value.shape.num_elements()) for variable in trunk.trainable_variables)
    assert f"residual trunk, {trainable:,} parameters" in text
    assert f"| output | {2 * (256 + 2 * 84)} values a track (`layers=all`), 512 with" in text
    assert "Trained on 3 recordings under these licences" in text
    assert not re.search(r"\$[{a-z]", text) and "FILL" not in text
    with pytest.raises(DataError, match=r"tracks\.tsv: cannot be read"):
        model_card(version, Path("nowhere"), "")
