"""TFRecord framing and the one `tf.train.Example` that shards hold, written without TensorFlow.

Written here because the byte offset of the samples must be known, and because preparing data should not
wait for TensorFlow to load. Form of a record: length (uint64), its masked CRC-32C, data, masked CRC-32C of
the data; all little-endian (TensorFlow, "TFRecord and tf.train.Example").
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import google_crc32c


def write_record(write: Callable[[bytes], object], track_id: str, payload: bytes) -> int:
    """Write one TFRecord record; return how many of its bytes come before `payload`."""
    head = example_head(track_id, len(payload))
    length = struct.pack("<Q", len(head) + len(payload))
    checksum = google_crc32c.extend(google_crc32c.value(head), payload)
    for piece in (length, _masked(google_crc32c.value(length)), head, payload, _masked(checksum)):
        write(piece)
    return len(length) + 4 + len(head)


def example_head(track_id: str, n_payload_bytes: int) -> bytes:
    """All bytes of the serialised `tf.train.Example` before the samples, which come last.

    The wire format of protocol buffers: each message below is the last field of the one around it, so
    only its tag and length stand in front.
    """

    def opened(field: int, inside: bytes, n_after: int) -> bytes:
        return bytes([field << 3 | 2]) + _varint(len(inside) + n_after) + inside

    identity = track_id.encode()
    value = opened(1, opened(1, identity, 0), 0)  # Feature { BytesList { value } }
    entry = opened(1, opened(1, b"track_id", 0) + opened(2, value, 0), 0)
    head = b""
    for field in (1, 1, 2):  # BytesList.value, Feature.bytes_list, value of the map's entry
        head = opened(field, head, n_payload_bytes)
    head = opened(1, opened(1, b"samples", 0) + head, n_payload_bytes)  # Features.feature
    return opened(1, entry + head, n_payload_bytes)  # Example.features


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _masked(crc: int) -> bytes:
    """CRC-32C as TFRecord files store it: rotated and shifted, so that a CRC of CRCs is sound."""
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
