"""The same recording under several names: copies share a split.

Files of the same bytes are found at once. Others, such as another encoding, are known by the identities that
decoding leaves. They are looked for once for each state of the audio and kept in `recordings/` under
`run_directory.home()`, so that every later opening of the corpus splits it alike.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from kerasrep.data.identity import IDENTITY_VERSION
from kerasrep.data.recordings import Identities, first_of_each
from kerasrep.errors import DataError
from kerasrep.evaluation.copies import join_groups
from kerasrep.report.wording import counted
from kerasrep.storage.run_directory import home, read_json, write_json


def copies_of(paths: Mapping[str, Path]) -> dict[str, str]:
    """Track -> the first one whose file has the same bytes, for copies alone.

    Only files of equal size are read.
    """
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for track, path in paths.items():
        try:
            by_size[path.stat().st_size].append(track)
        except OSError:  # decoding will say so
            continue
    found = {}
    for size, tracks in by_size.items():
        first: dict[bytes, str] = {}
        for track in tracks if size and len(tracks) > 1 else ():
            with paths[track].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            if first.setdefault(digest, track) != track:
                found[track] = first[digest]
    return found


def known_copies(audio_fingerprint: str) -> dict[str, str] | None:
    """Track -> the first one that is the same recording, for copies alone.

    `None` before they were looked for.
    """
    try:
        found = read_json(_path(audio_fingerprint))
    except DataError:
        return None
    return found if isinstance(found, dict) else None


def find_copies(audio_fingerprint: str, tracks: Sequence[str], identities: Identities) -> dict[str, str]:
    """As `known_copies`; looks for them where that is not done, and keeps them.

    Args:
        audio_fingerprint: Of the corpus.
        tracks: Their ids, in an order that does not depend on splits.
        identities: Of the same tracks.

    Raises:
        RunError: Where they cannot be kept.
    """
    known = known_copies(audio_fingerprint)
    if known is None:
        first = first_of_each(identities).tolist()
        known = {tracks[row]: tracks[of] for row, of in enumerate(first) if of != row}
        write_json(_path(audio_fingerprint), known)
    return known


def _path(audio_fingerprint: str) -> Path:
    return home() / "recordings" / f"{audio_fingerprint}-{IDENTITY_VERSION}.json"


def with_copies_together(
    groups: Mapping[str, str],
    known: Mapping[str, str] | None,
    same_bytes: Mapping[str, str],
    notices: list[str],
) -> dict[str, str]:
    """Track -> group, where the groups of copies are joined.

    Args:
        groups: Of all tracks.
        known: What `known_copies` says.
        same_bytes: What `copies_of` found.
        notices: Gets a line where there are copies.
    """
    pairs = [*same_bytes.items(), *(known or {}).items()]
    pairs = [(one, other) for one, other in pairs if one in groups and other in groups]
    if not pairs:
        return dict(groups)
    place = {track: row for row, track in enumerate(groups)}
    joined = join_groups(list(groups.values()), [(place[one], place[other]) for one, other in pairs])
    n_copies, (one, other) = len({one for one, _ in pairs}), pairs[0]
    if known is None:
        what = f"{counted(n_copies, 'file')} {'has' if n_copies == 1 else 'have'} the same bytes"
    else:
        what = f"{counted(n_copies, 'track')} {'is' if n_copies == 1 else 'are'} the same recording"
    notices.append(
        f"{what} as another one, such as {one!r} and {other!r}: copies share a split "
        f"({counted(len(set(groups.values())), 'group')} became {len(set(joined)):,})"
    )
    return dict(zip(groups, joined, strict=True))
