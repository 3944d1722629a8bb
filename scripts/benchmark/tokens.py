"""The text of a token: the clock of whoever wrote it."""

import re
import time

TICK_MS = 0.01
_TICK_NS = 10_000
_TICKS = 10_000_000
"""A stamp of seven digits: with its space about as long as a word, and it comes round only after 100 s."""


def now() -> int:
    """Ticks of the one monotonic clock that all processes of a machine share."""
    return time.monotonic_ns() // _TICK_NS % _TICKS


def stamp(ticks: int) -> bytes:
    return b"%07d" % (ticks % _TICKS)


STAMP_LENGTH = 7

NAMED = r'event: chunk\r?\ndata: \{[^\n]{0,60}?"content": ?"(\d{7}) '
"""A token in a stream whose events have names: the last of them may repeat the text, and does not count."""

UNNAMED = r'"content": ?"(\d{7}) '
"""A token in a provider's own stream."""


def finder(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())


def age_ms(ticks: int, written: bytes) -> float:
    """How long before `ticks` this stamp was written."""
    return (ticks - int(written)) % _TICKS * TICK_MS
