"""A checksum in front of what is stored, so that a reader is never given what was not written.

A checked value is the byte 0xC1, which begins no MessagePack, the CRC-32 of its key and its content, and the content.
The key says where the value belongs: one that stands in another row, or behind another value, does not check. Values
of releases that wrote none are taken as they are.
"""

import zlib

_MARK = 0xC1
HEAD_BYTES = 5
"""Bytes before the content."""


class Damaged(Exception):
    """What is stored is not what was written. The text is for the log."""


def checked(content: bytes, key: bytes) -> bytes:
    """The content, with its checksum."""
    return b"%c%b%b" % (_MARK, _sum(content, key), content)


def checked_in_place(room: bytearray, key: bytes) -> bytearray:
    """As `checked`, for a large content, which is not copied: it stands in this room, behind `HEAD_BYTES` free ones."""
    room[:HEAD_BYTES] = b"%c%b" % (_MARK, _sum(memoryview(room)[HEAD_BYTES:], key))
    return room


def content_of(stored: bytes, key: bytes) -> bytes | memoryview:
    """The content of a stored value.

    Raises:
        Damaged: it does not check.
    """
    if not is_checked(stored):
        return stored
    content = memoryview(stored)[HEAD_BYTES:]
    if stored[1:HEAD_BYTES] != _sum(content, key):
        raise Damaged(f"the checksum of {key.decode(errors='replace')} is wrong")
    return content


def is_checked(stored: bytes) -> bool:
    """Whether the value has a checksum."""
    return stored[:1] == b"\xc1"


def head_of(stored: bytes) -> bytes:
    """What the key of the next value begins with, where values follow each other: one that is missing is missed."""
    return stored[:HEAD_BYTES] if is_checked(stored) else b""


def _sum(content: bytes | memoryview, key: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(key)).to_bytes(4, "big")
