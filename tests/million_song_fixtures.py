"""A pytest plugin: synthetic Million Song roots (see `million_song_root`)."""

from collections.abc import Callable

import pytest
from million_song_root import PlantedRoot, write_root


@pytest.fixture(scope="session")
def make_million_song_root() -> Callable[..., PlantedRoot]:
    """`write_root`."""
    return write_root


@pytest.fixture(scope="session")
def planted_root(tmp_path_factory: pytest.TempPathFactory) -> PlantedRoot:
    """5,000 tracks, 40 of them with audio."""
    return write_root(tmp_path_factory.mktemp("msd") / "root", with_audio=40)


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> PlantedRoot:
    """60 tracks with audio, and 20 without."""
    return write_root(tmp_path_factory.mktemp("msd") / "small", n_tracks=80, with_audio=60)
