"""Short texts that match a regular expression: of what people write for JSON schemas, not of all there is."""

from collections.abc import Callable
from typing import Final

_CLASSES: Final = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t"}
_FOR_OTHERS: Final = "a0A-_. #"
"""Characters that a negated class is answered with, the first that it does not name."""
_MAX_REPEATS: Final = 256
_MAX_LENGTH: Final = 1000
_MAX_GROUPS_DEEP: Final = 50


class UnknownPattern(ValueError):
    """It has a part that is not known here."""


def text_like(pattern: str, *, more: int = 0) -> str:
    """A text that ought to match: alternatives by their first, repetitions at their least; what may be repeated without
    end is repeated `more` times besides.

    Raises:
        UnknownPattern: there is something in it that is not known here.
    """
    if len(pattern) > _MAX_LENGTH:
        raise UnknownPattern
    reader = _Reader(pattern, more)
    text = reader.alternatives()
    if not reader.is_at_end:
        raise UnknownPattern
    return text


class _Reader:
    """Reads a pattern from left to right, and writes what matches it."""

    def __init__(self, pattern: str, more: int) -> None:
        self._pattern = pattern
        self._place = 0
        self._more = more
        self._depth = 0

    @property
    def is_at_end(self) -> bool:
        return self._place >= len(self._pattern)

    def alternatives(self) -> str:
        first = self._sequence()
        while self._take("|"):
            self._sequence()
        return first

    def _sequence(self) -> str:
        parts: list[str] = []
        while not self.is_at_end and self._peek() not in "|)":
            parts.append(self._repeated(self._atom()))
        return "".join(parts)

    def _atom(self) -> str:
        char = self._next()
        readers: dict[str, Callable[[], str]] = {"(": self._group, "[": self._set, "\\": self._escape}
        if char in readers:
            return readers[char]()
        if char in "*+?{":
            raise UnknownPattern
        return {"^": "", "$": "", ".": "a"}.get(char, char)

    def _group(self) -> str:
        if self._take("?"):
            if any(self._take(f"{flag})") for flag in "imsux"):
                return ""
            if self._take("P<") or self._take("<"):
                while self._next() != ">":
                    pass
            elif not self._take(":"):
                raise UnknownPattern
        self._depth += 1
        if self._depth > _MAX_GROUPS_DEEP:
            raise UnknownPattern
        text = self.alternatives()
        self._depth -= 1
        if not self._take(")"):
            raise UnknownPattern
        return text

    def _set(self) -> str:
        is_negated = self._take("^")
        members: list[str] = []
        while not self._take("]") or not members:
            char = self._next()
            if char == "[":
                raise UnknownPattern
            char = self._escape() if char == "\\" else char
            members.append(char)
            if self._peek() == "-" and not self._pattern.startswith("-]", self._place):
                self._next()
                end = self._next()
                members[-1] = char + (self._escape() if end == "\\" else end)
        if not is_negated:
            return members[0][0]
        spans = [(part[0], part[-1]) for part in members]
        return next((char for char in _FOR_OTHERS if not any(low <= char <= high for low, high in spans)), "~")

    def _escape(self) -> str:
        char = self._next()
        if char in "bB":
            return ""
        if char.isalnum() and char not in _CLASSES and char not in _CONTROLS:
            raise UnknownPattern
        return _CLASSES.get(char) or _CONTROLS.get(char, char)

    def _repeated(self, text: str) -> str:
        least, is_open = 1, False
        if self._take("*"):
            least, is_open = 0, True
        elif self._take("+"):
            is_open = True
        elif self._take("?"):
            least = 0
        elif self._take("{"):
            bounds = ""
            while (char := self._next()) != "}":
                bounds += char
            low, _, high = bounds.partition(",")
            if not low.isdecimal() or len(low) > len(str(_MAX_REPEATS)):
                raise UnknownPattern
            least, is_open = int(low), "," in bounds and not high
        self._take("?")  # how greedy it is does not matter
        times = least + (self._more if is_open else 0)
        if times * len(text) > _MAX_REPEATS:
            raise UnknownPattern
        return text * times

    def _peek(self) -> str:
        return self._pattern[self._place : self._place + 1]

    def _next(self) -> str:
        if self.is_at_end:
            raise UnknownPattern
        self._place += 1
        return self._pattern[self._place - 1]

    def _take(self, expected: str) -> bool:
        if not self._pattern.startswith(expected, self._place):
            return False
        self._place += len(expected)
        return True
