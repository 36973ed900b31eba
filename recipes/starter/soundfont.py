"""Which samples a note of a SoundFont plays: banks share them, so notes are divided by sample."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DRUM_BANK = 128
_GENERATOR_KEYS, _GENERATOR_VELOCITIES, _GENERATOR_INSTRUMENT, _GENERATOR_SAMPLE = 43, 44, 41, 53
_HEADERS = {
    b"phdr": struct.Struct("<20sHHHIII"),
    b"pbag": struct.Struct("<HH"),
    b"pgen": struct.Struct("<HH"),
    b"inst": struct.Struct("<20sH"),
    b"ibag": struct.Struct("<HH"),
    b"igen": struct.Struct("<HH"),
    b"shdr": struct.Struct("<20sIIIIIBbHH"),
}
_SHORTEST_HASHED_SAMPLES = 64
Range = tuple[int, int]
_EVERYTHING: Range = (0, 127)


@dataclass(frozen=True)
class _Zone:
    """Keys and velocities for which an instrument or sample sounds."""

    keys: Range
    velocities: Range
    target: int

    def sounds(self, key: int, velocity: int) -> bool:
        return self.keys[0] <= key <= self.keys[1] and self.velocities[0] <= velocity <= self.velocities[1]


def _chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Chunks of a RIFF file, those inside lists too."""
    position = 0
    while position + 8 <= len(content):
        name = bytes(content[position : position + 4])
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        body = content[position + 8 : position + 8 + size]
        if name in (b"RIFF", b"LIST"):
            yield from _chunks(body[4:])
        else:
            yield name, body
        position += 8 + size + size % 2


class SoundFont:
    """The presets of a bank and the samples that their notes play.

    Args:
        path: An `.sf2` file.
    """

    def __init__(self, path: Path) -> None:
        content = memoryview(path.read_bytes())
        chunks = {name: body for name, body in _chunks(content) if name in _HEADERS or name == b"smpl"}
        tables = {name: list(form.iter_unpack(chunks[name])) for name, form in _HEADERS.items()}
        self._samples = chunks[b"smpl"]
        self._sample_headers = tables[b"shdr"][:-1]
        self._instruments = [
            self._zones(tables[b"ibag"], tables[b"igen"], first[1], after[1], _GENERATOR_SAMPLE)
            for first, after in zip(tables[b"inst"], tables[b"inst"][1:], strict=False)
        ]
        self._presets = {
            (first[2], first[1]): self._zones(
                tables[b"pbag"], tables[b"pgen"], first[3], after[3], _GENERATOR_INSTRUMENT
            )
            for first, after in zip(tables[b"phdr"], tables[b"phdr"][1:], strict=False)
        }
        self._hashes: dict[int, str] = {}

    @staticmethod
    def _zones(
        bags: list[tuple[int, ...]], generators: list[tuple[int, ...]], start: int, end: int, target: int
    ) -> list[_Zone]:
        zones = []
        keys, velocities = _EVERYTHING, _EVERYTHING
        for bag in range(start, end):
            amounts = {pair[0]: pair[1] for pair in generators[bags[bag][0] : bags[bag + 1][0]]}
            zone_keys = _as_range(amounts.get(_GENERATOR_KEYS), keys)
            zone_velocities = _as_range(amounts.get(_GENERATOR_VELOCITIES), velocities)
            if target in amounts:
                zones.append(_Zone(zone_keys, zone_velocities, amounts[target]))
            elif bag == start:
                keys, velocities = zone_keys, zone_velocities
        return zones

    @property
    def presets(self) -> list[tuple[int, int]]:
        """Bank and program of each preset; drum kits stand in bank 128."""
        return sorted(self._presets)

    def samples_of(self, bank: int, program: int, key: int, velocity: int) -> list[str]:
        """Hashes of the audio of all samples that a note plays, sorted; none where it is silent."""
        indices = {
            zone.target
            for layer in self._presets.get((bank, program), [])
            if layer.sounds(key, velocity) and layer.target < len(self._instruments)
            for zone in self._instruments[layer.target]
            if zone.sounds(key, velocity) and zone.target < len(self._sample_headers)
        }
        return sorted({self._hash(index) for index in indices} - {""})

    def _hash(self, index: int) -> str:
        """Of the sample's audio, so that a copy in another bank has the same; empty for a tiny sample."""
        if index not in self._hashes:
            start, end = self._sample_headers[index][1:3]
            audio = self._samples[2 * start : 2 * end]
            long_enough = end - start >= _SHORTEST_HASHED_SAMPLES
            self._hashes[index] = hashlib.sha256(audio).hexdigest()[:16] if long_enough else ""
        return self._hashes[index]


def _as_range(amount: int | None, otherwise: Range) -> Range:
    """A generator's amount as lowest and highest value."""
    return otherwise if amount is None else (amount & 0xFF, amount >> 8)
