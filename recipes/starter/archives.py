"""Archives inside packages: zip files under several names, the pak file of one game, WAD files of another."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ZIP_SUFFIXES = (".zip", ".parkobj", ".cdogscpn")
_MUSIC_SUFFIXES = (".ogg", ".oga", ".opus", ".mp3", ".flac", ".xm", ".mod", ".it", ".s3m", ".json", ".txt")
_PAK_ENTRY = struct.Struct("<256siii")
"""Name, size, compressed size, offset; the table's offset and length are the file's last 8 bytes."""
_WAD_ENTRY = struct.Struct("<ii8s")


def _members_of_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and member.filename.lower().endswith(_MUSIC_SUFFIXES):
                yield member.filename, archive.read(member)


def _members_of_pak(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    if len(content) < 8:
        return
    table, count = struct.unpack("<ii", content[-8:])
    if table < 0 or table + count * _PAK_ENTRY.size + 8 != len(content):
        return
    for index in range(count):
        name, _, compressed, offset = _PAK_ENTRY.unpack_from(content, table + index * _PAK_ENTRY.size)
        text = name.split(b"\0")[0].decode("utf-8", "replace")
        if text.lower().endswith(_MUSIC_SUFFIXES):
            yield text, zlib.decompress(content[offset : offset + compressed])


def _members_of_wad(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    magic, count, table = struct.unpack("<4sii", content[:12])
    if magic not in (b"IWAD", b"PWAD"):
        return
    for index in range(count):
        offset, size, name = _WAD_ENTRY.unpack_from(content, table + index * _WAD_ENTRY.size)
        lump = content[offset : offset + size]
        if lump.startswith(b"MThd"):
            yield f"{name.rstrip(bytes(1)).decode('ascii', 'replace').lower()}.mid", lump


def unpack_archives(folder: Path) -> int:
    """Unpacks what may be music or credits from each archive into a folder NAME.members beside it.

    Returns:
        How many files.
    """
    count = 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        suffix = path.suffix.lower()
        if suffix in _ZIP_SUFFIXES and zipfile.is_zipfile(path):
            members = _members_of_zip(path)
        elif suffix == ".pak":
            members = _members_of_pak(path)
        elif suffix == ".wad":
            members = _members_of_wad(path)
        else:
            continue
        for name, content in members:
            parts = [part for part in PurePosixPath(name).parts if part not in ("..", "/", ".")]
            target = path.with_name(f"{path.name}.members").joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            count += 1
    return count
