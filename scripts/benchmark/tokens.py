"""The text of a token: the time at which it was written."""

import re
import time

TICK_MS = 0.01
_TICK_NS = 10_000
_TICKS = 10_000_000
"""A stamp of seven digits: with its space about as long as a word, and it comes round only after 100 s."""


def now() -> int:
    """Return the ticks of the monotonic clock that all processes of a machine share."""
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
    """Return the milliseconds between the stamp and `ticks`."""
    return (ticks - int(written)) % _TICKS * TICK_MS
