"""Which suffixes are looked for in folders: those of what the decoders that are installed read."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping

from kerasrep.data.decoders import ffmpeg

#: libsndfile's names of containers -> suffixes that they have.
_LIBSNDFILE: dict[str, tuple[str, ...]] = {
    "AIFF": (".aif", ".aifc", ".aiff"),
    "AU": (".au", ".snd"),
    "AVR": (".avr",),
    "CAF": (".caf",),
    "FLAC": (".flac",),
    "IRCAM": (".ircam",),
    "MP3": (".mp1", ".mp2", ".mp3", ".mpga"),
    "NIST": (".nist", ".sph"),
    "OGG": (".oga", ".ogg", ".opus"),
    "PAF": (".paf",),
    "PVF": (".pvf",),
    "RF64": (".bw64", ".rf64"),
    "SVX": (".8svx",),
    "VOC": (".voc",),
    "W64": (".w64",),
    "WAV": (".bwf", ".wav", ".wave"),
}
#: What else people call audio.
_UNREAD = (".aa", ".aax", ".m4p", ".mp+", ".ofr", ".ofs", ".vqf", ".xwma")
_USUAL = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
#: In a count of what is passed over: links to folders, which are not followed.
LINKS = "links"


@functools.cache
def read_suffixes() -> frozenset[str]:
    """Suffixes of audio that the installed decoders read, in lower case."""
    import soundfile

    found = {s for name in _LIBSNDFILE.keys() & soundfile.available_formats() for s in _LIBSNDFILE[name]}
    if known := ffmpeg.containers():
        found |= {
            s for name, some in ffmpeg.CONTAINERS.items() if known & {name, *name.split(",")} for s in some
        }
    return frozenset(found)


@functools.cache
def known_suffixes() -> frozenset[str]:
    """Suffixes of audio, whether it is read or not, in lower case."""
    tables = (*_LIBSNDFILE.values(), *ffmpeg.CONTAINERS.values(), _UNREAD)
    return frozenset(suffix for some in tables for suffix in some)


def looked_for() -> str:
    """What is looked for in folders, for a line about one that has none."""
    usual = [suffix for suffix in _USUAL if suffix in read_suffixes()]
    others = len(read_suffixes()) - len(usual)
    return f"looked for {' '.join(usual)} and {others} other suffixes, at any depth"


def passed_over(counts: Mapping[str, int]) -> str:
    """A line about what was found and is not read, or "".

    Args:
        counts: Suffix -> files; and `LINKS`.
    """
    counts = {suffix: count for suffix, count in counts.items() if count}
    n_links, parts = counts.pop(LINKS, 0), []
    if n_files := sum(counts.values()):
        each = ", ".join(f"{suffix.lstrip('.')} {count}" for suffix, count in Counter(counts).most_common())
        files = "1 file that is" if n_files == 1 else f"{n_files} files that are"
        parts.append(f"{files} named like audio ({each})")
    if n_links:
        parts.append("1 link to a folder" if n_links == 1 else f"{n_links} links to folders")
    if not parts:
        return ""
    advice = "" if not n_files or ffmpeg.is_there() else f"; {ffmpeg.MISSING}"
    return f"passed over: {' and '.join(parts)}{advice}"
