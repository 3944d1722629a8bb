"""Checksums in front of what is stored, so that a reader is never given what was not written.

A checked value is the byte 0xC1, which begins no MessagePack, the CRC-32 of its key and its content, and the content.
The key names the value's place: one that stands in another row, or behind another value, does not check. Values of
releases that wrote no checksums are taken as they are.
"""

import zlib

_MARK = 0xC1
HEAD_BYTES = 5
"""The bytes before the content."""


class Damaged(Exception):
    """A stored value is not what was written. The text is for the log."""


def add_checksum(content: bytes, key: bytes) -> bytes:
    """Return the content behind its checksum."""
    return b"%c%b%b" % (_MARK, _checksum(content, key), content)


def add_checksum_in_place(room: bytearray, key: bytes) -> bytearray:
    """Write the checksum into the first `HEAD_BYTES` of `room`; the content behind them, which is large, is not
    copied."""
    room[:HEAD_BYTES] = b"%c%b" % (_MARK, _checksum(memoryview(room)[HEAD_BYTES:], key))
    return room


def verified_content(stored: bytes, key: bytes) -> bytes | memoryview:
    """Return the content of a stored value.

    Raises:
        Damaged: the checksum is wrong.
    """
    if not _has_checksum(stored):
        return stored
    content = memoryview(stored)[HEAD_BYTES:]
    if stored[1:HEAD_BYTES] != _checksum(content, key):
        raise Damaged(f"the checksum of {key.decode(errors='replace')} is wrong")
    return content


def chain_link(stored: bytes) -> bytes:
    """Return what the next value's key ends with where values are chained; empty for a value without a checksum."""
    return stored[:HEAD_BYTES] if _has_checksum(stored) else b""


def _has_checksum(stored: bytes) -> bool:
    return stored[:1] == b"\xc1"


def _checksum(content: bytes | memoryview, key: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(key)).to_bytes(4, "big")
