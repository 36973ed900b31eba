"""The shipped recipes for own music train on a small generated folder as they stand, but smaller."""

from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile

from kerasrep.api import prepare, train_prepared
from kerasrep.corpora.found_sources import with_found_sources
from kerasrep.embedding.catalogue.job import Settings, embed_catalogue
from kerasrep.recipe.file import read_recipe
from kerasrep.storage.run_directory import RunDirectory, read_json

RECIPES = Path(__file__).parents[2] / "recipes"
RATE_HZ, N_TRACKS = 22_050, 24
#: So that each trains for two steps.
SMALLER = (
    "batches.size=8",
    "training.epochs=1",
    "training.tensorboard=scalars",
    "corpus.validation_fraction=0.2",
)

NARROW = "model.width=0.0625"


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Tones of 3 s; tags and tables of each kind tell their octave."""
    root = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    for number in range(N_TRACKS):
        tone = 0.3 * np.sin(2 * np.pi * 110 * 2 ** (number % 4) * time) + rng.normal(0, 0.01, len(time))
        path = root / f"{number:02d}.flac"
        soundfile.write(path, np.stack([tone, tone * 0.5], 1), RATE_HZ)
        file = mutagen.File(path)
        file.update({"genre": ["low", "high"][number % 4 // 2], "date": str(1990 + number % 5)})
        file.save()
    names = [f"{number:02d}" for number in range(N_TRACKS)]
    octave = ["low", "mid", "high", "top"]
    tables = {
        "tags": ["track,item,weight", *(f"{n},{octave[int(n) % 4]},3" for n in names)],
        "years": ["track,value", *(f"{n},{1990 + int(n) % 5}" for n in names)],
        "moods": ["track,item", *(f"{n},{octave[int(n) % 4 // 2]}" for n in names)],
        "instruments": [
            "file,name,from_seconds,to_seconds",
            *(f"{n},{octave[int(n) % 4]},{second},{second + 1}" for n in names for second in (0, 1)),
        ],
        "valence": ["track,value", *(f"{n},{int(n) % 4 - 1.5}" for n in names)],
    }
    for name, lines in tables.items():
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    embed_catalogue("mfcc", [root], root / "teacher.parquet", Settings(hop_seconds=0.5))
    return root


def trained(name, music, folder, *overrides):
    read = read_recipe(RECIPES / f"{name}.yaml", [*SMALLER, f"corpus.root={music}", *overrides])
    recipe = with_found_sources(read, lambda line: None)
    run = RunDirectory(folder / name)
    run.root.mkdir()
    summary = train_prepared(
        recipe, prepare(recipe, progress=False), run, show_progress=False, say=lambda line: None
    )
    assert run.model.is_file()
    assert all(np.isfinite(row.after) for row in summary.rows)
    return recipe, [row.source for row in summary.rows]


def test_a_folder_without_tables_trains_with_the_tags_that_it_has(music, tmp_path):
    recipe, sources = trained("own-music", music, tmp_path)  # with the whole trunk that it begins with
    assert sources == ["self", "year", "tag"]
    assert recipe.kind_of("self") == "contrast" and recipe.strategy == "ms-sr@fc"
    start = read_json(RunDirectory(tmp_path / "own-music").card)["start"]
    assert (start["export"], recipe.training.trunk_rate) == ("starter", 0.1)


@pytest.mark.slow
def test_a_folder_without_tags_trains_by_contrast_alone(music, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in sorted(music.glob("*.flac"))[:16]:
        soundfile.write(bare / path.name, *soundfile.read(path))
    recipe, sources = trained("own-music", bare, tmp_path, "batches.size=4")
    assert sources == ["self"] and recipe.strategy == "ss-r"


def test_sources_of_all_kinds_train_together(music, tmp_path):
    recipe, sources = trained("own-sources", music, tmp_path, NARROW)
    kinds = {recipe.kind_of(source) for source in sources}
    assert kinds == {"contrast", "mixture", "topics", "classes", "labels", "number", "vector"}


def test_a_teachers_vectors_train_a_student(music, tmp_path):
    recipe, sources = trained("distil", music, tmp_path, NARROW)
    assert (sources, recipe.loss_of("teacher")) == (["self", "teacher"], "cosine")
