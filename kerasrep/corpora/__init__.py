"""Where tracks and their raw labels come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasrep.corpora.base import Corpus
    from kerasrep.recipe.corpora import CorpusSettings


def open_corpus(settings: CorpusSettings, progress: bool = True) -> Corpus:
    """Open the corpus that a recipe names; the demo corpus is rendered first where it is not cached.

    Raises:
        DataError: Where the corpus cannot be read or built.
    """
    if settings.name == "demo":
        from kerasrep.corpora.demo import open_demo

        return open_demo(settings, progress)
    if settings.name == "folder":
        from kerasrep.corpora.folder import open_folder

        return open_folder(settings, progress)
    from kerasrep.corpora.million_song import open_million_song

    return open_million_song(settings, progress)
