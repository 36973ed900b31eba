"""The Million Song Dataset: audio named by track id, and the label files of its companions.

Audio: any format that is read (`decoders.suffixes`), at any depth under `audio` (by default `root`); the name
up to the first dot is the track id (`TRMMMYQ128F932D901.mp3`, `TRMMMYQ128F932D901.clip.mp3`). Links to
folders are not followed: name such a folder as `audio`.

Label files: under their published names (`labels.NAMES`), at any depth under `root`, or where
`corpus.files` says. A source whose files are missing is missing, which is said and refused only if the
recipe learns from it. The files may label tracks without audio; those are not used.

Splits: artists stand in the order of a seeded SHA-256, and the first are held out for validation, so that
one artist never stands on both sides. An artist is `artist_id` of `track_metadata.db`, else the name in
`unique_tracks.txt`; a track of no known artist stands alone.

The fingerprint covers names, sizes and times of change of audio and label files, not their bytes: to hash
gigabytes at each start would take minutes.
"""

from __future__ import annotations

from kerasrep.corpora.base import Corpus, Track
from kerasrep.corpora.copies import known_copies, with_copies_together
from kerasrep.corpora.folder import split_groups
from kerasrep.corpora.million_song.labels import LabelFiles, find_files
from kerasrep.corpora.stored_labels import StoredLabels, file_state
from kerasrep.recipe.corpora import MillionSongCorpus
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage.run_directory import user_path

FORMAT_VERSION = 2


def open_million_song(settings: MillionSongCorpus, progress: bool = False) -> Corpus:
    """Find audio and label files and split by artist; labels are read when they are asked for.

    Args:
        settings: Where things are.
        progress: Show bars.

    Raises:
        DataError: Where the folder cannot be used, a file that was named is missing, a name stands twice,
            the list of artists is malformed, or there are too few artists for training and validation.
    """
    root = user_path(settings.root)
    found = find_files(root, settings)
    files = LabelFiles(found.labels, frozenset(found.audio), progress)
    artists = {track: files.artist_of(track) for track in found.audio}
    unknown = sum(artist is None for artist in artists.values())
    notices = list(files.notices())
    audio = fingerprint([FORMAT_VERSION, [[track, *file_state(path)] for track, path in found.audio.items()]])
    groups = {
        track: f"{settings.seed} {'track' if artist is None else 'artist'} {artist or track}"
        for track, artist in artists.items()
    }
    known = known_copies(audio)
    groups = with_copies_together(groups, known, {}, notices)
    splits = split_groups(groups, settings.validation_fraction, 0.0, root)
    if unknown:
        notices.append(
            f"{root}: {unknown} of {len(artists)} tracks have no known artist and are split singly"
        )
    missing = files.missing()
    if missing:
        notices.append(f"{root}: no labels for {', '.join(missing)}")
    tracks = []
    for track, path in found.audio.items():
        title, artist = files.described(track)
        tracks.append(Track(track, path, splits[track], title, artist))
    states = {kind: [file_state(path) for path in paths] for kind, paths in found.labels.items()}
    return Corpus(
        name="million_song",
        fingerprint=fingerprint([audio, splits, states]),
        tracks=tracks,
        labels=StoredLabels(files.readers(), files.forget),
        notices=notices,
        skipped=found.skipped,
        missing=missing,
        audio_fingerprint=audio,
        copies_known=known is not None,
    )
