"""Extended Ballroom: thirteen dances, 30 seconds a track.

Layout: `extendedballroom_v1.1.xml` (under its root one node a dance, named after it, and in that one node
a track with the attributes `id`, `artist`, `title`, `bpm`, `hash` and, for repetitions, `version`,
`exact`, `time` or `karaoke` with the id of the other track) and `Foxtrot/101017.mp3`, where the script
that comes with it put the audio of the site; also below `data/`. The whole set has 4,180 tracks; the
authors of the paper list 3,390.

Split: 5 stratified folds. Where the XML file is there, repetitions of one track form a group.

Citation: Marchand, Peeters: The Extended Ballroom Dataset. ISMIR 2016 late-breaking session; and Scale and
shift invariant time/frequency representation using auditory statistics. IEEE MLSP 2016.

Licence: none is stated; previews of commercial recordings, for research.

Described at: http://anasynth.ircam.fr/home/media/ExtendedBallroom
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from kerasrep.errors import DataError
from kerasrep.evaluation.base import LabelledData, Task
from kerasrep.evaluation.readers.items import LabelledItems
from kerasrep.evaluation.readers.split_list import locator, read_split_list, required, split_list_of
from kerasrep.storage import limits

DESCRIBED_AT = "http://anasynth.ircam.fr/home/media/ExtendedBallroom"
METADATA = "extendedballroom_v1.1.xml"
AUDIO = ("", "data")
#: Attributes of a track that name the track it repeats.
REPEATS = ("version", "exact", "time", "karaoke")
N_LISTED = 3_390
N_WHOLE = 4_180


def read(folder: Path, split_list: Path | None = None) -> LabelledData:
    """Read the tracks of the list, else those of the XML file whose audio may or may not be there.

    Args:
        folder: Holds the XML file and a folder a dance.
        split_list: Read instead of the XML file, which then only gives the groups.

    Raises:
        DataError: Where the list or the XML file is missing or malformed.
    """
    locate = locator(*AUDIO)
    metadata = folder / METADATA
    listed = split_list_of(folder, split_list)
    if listed is not None:
        groups = _groups(list(_tracks(metadata))) if metadata.exists() else {}

        def group_of(name: PurePosixPath) -> str:
            return groups.get(name.stem, "")

        return read_split_list(
            listed, folder, "classification", locate=locate, group_of=group_of, keep_groups=False
        )
    tracks = list(_tracks(required(folder, DESCRIBED_AT, METADATA)))
    groups = _groups(tracks)
    items = LabelledItems("classification", metadata)
    for place, dance, track, _ in tracks:
        path = locate(folder, PurePosixPath(dance, f"{track}.mp3"))
        items.add(place, f"{dance}/{track}", path, dance, group=groups.get(track, ""))
    return items.finish()


def _tracks(metadata: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Where each track stands, its dance, its id, and the ids of tracks that it repeats."""
    for dance in _parsed(metadata):
        for number, node in enumerate(dance, 1):
            place = f"{metadata}, {dance.tag} {number}"
            track = node.get("id", "")
            if not track.isalnum() or not dance.tag.isalnum():
                raise DataError(f"{place}: has the id {track[:40]!r}, letters and digits were expected")
            others = " ".join(node.get(name, "") for name in REPEATS)
            yield place, dance.tag, track, re.findall(r"\w+", others)


def _parsed(metadata: Path) -> ElementTree.Element:
    """Root of the XML file; one that defines entities is not read."""
    most = limits.XML_BYTES
    try:
        with metadata.open("rb") as file:
            content = file.read(most.value + 1)
        if len(content) > most.value:
            raise DataError(f"{metadata}: is larger than {most.value:,} bytes; {most.advice}")
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise DataError(f"{metadata}: defines entities; it is not the published file")
        return ElementTree.fromstring(content)
    except OSError as error:
        raise DataError(f"{metadata}: cannot be read ({error.strerror})") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{metadata}: is not a valid XML file ({error}); get it again") from error


def _groups(tracks: list[tuple[str, str, str, list[str]]]) -> dict[str, str]:
    """Track -> group, for tracks that repeat each other; a group is named after its first track."""
    parent = {track: track for _, _, track, _ in tracks}

    def root(track: str) -> str:
        while parent[track] != track:
            parent[track] = parent[parent[track]]
            track = parent[track]
        return track

    for _, _, track, others in tracks:
        for other in others:
            if other in parent:
                first, second = sorted((root(track), root(other)))
                parent[second] = first
    roots = {track: root(track) for track in parent}
    repeated = {group for track, group in roots.items() if track != group}
    return {track: f"track {group}" for track, group in roots.items() if group in repeated}


TASKS = (
    Task(
        name="ext_ballroom",
        kind="classification",
        folder="ext_ballroom",
        described_at=DESCRIBED_AT,
        read=read,
        split="5 stratified folds",
        n_items=N_LISTED,
        n_classes=13,
        citation="Marchand, Peeters: The Extended Ballroom Dataset. ISMIR 2016 late-breaking session.",
        licence="none is stated; previews of commercial recordings, for research",
    ),
)
