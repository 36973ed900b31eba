"""Write the identities of the recordings that the shipped trunk was trained on beside its card.

    python recipes/starter/identities.py exported/starter data/starter

Runs keep them by themselves; this is for the version that was exported before they did. Notes and renderings
are known by their digests alone, real music by prints as well, so that the file stays below half a megabyte.
What was decoded is kept: a call that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from files import read_table

from kerasrep.corpora import open_corpus
from kerasrep.data.recordings import Identities, write_identities
from kerasrep.embedding.identities import cached_identities
from kerasrep.recipe.file import read_recipe
from kerasrep.serving.folder import write_folder
from kerasrep.storage.export_directory import (
    ServingFolder,
    card_path,
    file_digests,
    find_version,
    identities_path,
)
from kerasrep.storage.run_directory import write_json

RECIPE = Path(__file__).parents[1] / "starter.yaml"
KINDS = ("real", "note", "rendered")


def training_tracks(folder: Path) -> dict[str, Path]:
    """Track -> file, for those that the recipe trains on, split as when copies were not looked for."""
    recipe = read_recipe(RECIPE, [f"corpus.root={folder}"])
    kept = dict(os.environ)
    with tempfile.TemporaryDirectory() as home:
        os.environ["KERASREP_HOME"] = home  # where nothing is known of copies
        try:
            corpus = open_corpus(recipe.corpus, progress=False)
        finally:
            os.environ.clear()
            os.environ.update(kept)
    return {track.track_id: track.path for track in corpus.tracks if track.split == "train"}


def identities_of(paths: Mapping[str, Path], with_prints: Collection[str]) -> Identities:
    """Identities of tracks, without the prints of those that shall have none."""
    found, rows = cached_identities(list(paths.values()))
    tracks = [list(paths)[row] for row in rows]
    lengths = np.where([track in with_prints for track in tracks], found.lengths, 0)
    kept = np.repeat(lengths > 0, found.lengths)
    return Identities(found.digests, lengths, found.words[kept])


def main(arguments: list[str] | None = None) -> int:
    """Write the file, and the digests of all files in both cards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args(arguments)
    version = find_version(options.export)
    if version is None:
        sys.exit(f"{options.export}: holds no version")
    kinds = {row["path"]: row["kind"] for row in read_table(options.folder / "tracks.tsv")}
    paths = {t: path for t, path in training_tracks(options.folder).items() if kinds[t] in options.kinds}
    identities = identities_of(paths, {track for track in paths if kinds[track] == "real"})
    target = identities_path(version)
    write_identities(target, identities)
    card = json.loads(card_path(version).read_text(encoding="utf-8"))
    write_json(card_path(version), card | {"files": file_digests(version)})
    write_folder(ServingFolder(options.export))
    print(f"{target}: {len(identities)} of {len(paths)} recordings, {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
