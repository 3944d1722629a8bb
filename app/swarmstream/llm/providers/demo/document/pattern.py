"""Short texts that match a regular expression, of those that people write for JSON schemas."""

from collections.abc import Callable
from typing import Final

_CLASSES: Final = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t"}
_FOR_OTHERS: Final = "a0A-_. #"
"""Characters for a negated class: the first that it does not name is taken."""
_MAX_REPEATS: Final = 256
_MAX_LENGTH: Final = 1000
_MAX_GROUPS_DEEP: Final = 50


class UnknownPattern(ValueError):
    """The pattern has a part that is not understood."""


def text_like(pattern: str, *, more: int = 0) -> str:
    """Return a text that ought to match: of alternatives the first, of repetitions the fewest; what may be repeated
    without end is repeated `more` times besides.

    Raises:
        UnknownPattern: the pattern has a part that is not understood, or is too long.
    """
    if len(pattern) > _MAX_LENGTH:
        raise UnknownPattern
    scanner = _Scanner(pattern)
    text = _Reader(scanner, more).alternatives()
    if not scanner.is_at_end:
        raise UnknownPattern
    return text


class _Scanner:
    """A place in a pattern, which moves from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0

    @property
    def is_at_end(self) -> bool:
        return self._place >= len(self._pattern)

    def starts_with(self, expected: str) -> bool:
        """Return True if the rest of the pattern begins with this."""
        return self._pattern.startswith(expected, self._place)

    def peek(self) -> str:
        return self._pattern[self._place : self._place + 1]

    def next(self) -> str:
        if self.is_at_end:
            raise UnknownPattern
        self._place += 1
        return self._pattern[self._place - 1]

    def take(self, expected: str) -> bool:
        if not self.starts_with(expected):
            return False
        self._place += len(expected)
        return True


class _Reader:
    """A reading of a pattern that writes a text which matches it."""

    def __init__(self, scanner: _Scanner, more: int) -> None:
        self._scanner = scanner
        self._more = more
        self._depth = 0

    def alternatives(self) -> str:
        first = self._sequence()
        while self._scanner.take("|"):
            self._sequence()
        return first

    def _sequence(self) -> str:
        parts: list[str] = []
        while not self._scanner.is_at_end and self._scanner.peek() not in "|)":
            parts.append(self._repeated(self._atom()))
        return "".join(parts)

    def _atom(self) -> str:
        char = self._scanner.next()
        readers: dict[str, Callable[[], str]] = {"(": self._group, "[": self._set, "\\": self._escape}
        if char in readers:
            return readers[char]()
        if char in "*+?{":
            raise UnknownPattern
        return {"^": "", "$": "", ".": "a"}.get(char, char)

    def _group(self) -> str:
        if self._scanner.take("?"):
            if any(self._scanner.take(f"{flag})") for flag in "imsux"):
                return ""
            if self._scanner.take("P<") or self._scanner.take("<"):
                while self._scanner.next() != ">":
                    pass
            elif not self._scanner.take(":"):
                raise UnknownPattern
        self._depth += 1
        if self._depth > _MAX_GROUPS_DEEP:
            raise UnknownPattern
        text = self.alternatives()
        self._depth -= 1
        if not self._scanner.take(")"):
            raise UnknownPattern
        return text

    def _set(self) -> str:
        is_negated = self._scanner.take("^")
        members: list[str] = []
        while not self._scanner.take("]") or not members:
            char = self._scanner.next()
            if char == "[":
                raise UnknownPattern
            char = self._escape() if char == "\\" else char
            members.append(char)
            if self._scanner.peek() == "-" and not self._scanner.starts_with("-]"):
                self._scanner.next()
                end = self._scanner.next()
                members[-1] = char + (self._escape() if end == "\\" else end)
        if not is_negated:
            return members[0][0]
        spans = [(part[0], part[-1]) for part in members]
        return next((char for char in _FOR_OTHERS if not any(low <= char <= high for low, high in spans)), "~")

    def _escape(self) -> str:
        char = self._scanner.next()
        if char in "bB":
            return ""
        if char.isalnum() and char not in _CLASSES and char not in _CONTROLS:
            raise UnknownPattern
        return _CLASSES.get(char) or _CONTROLS.get(char, char)

    def _repeated(self, text: str) -> str:
        least, is_open = 1, False
        if self._scanner.take("*"):
            least, is_open = 0, True
        elif self._scanner.take("+"):
            is_open = True
        elif self._scanner.take("?"):
            least = 0
        elif self._scanner.take("{"):
            bounds = ""
            while (char := self._scanner.next()) != "}":
                bounds += char
            low, _, high = bounds.partition(",")
            if not low.isdecimal() or len(low) > len(str(_MAX_REPEATS)):
                raise UnknownPattern
            least, is_open = int(low), "," in bounds and not high
        self._scanner.take("?")  # how greedy it is does not matter
        times = least + (self._more if is_open else 0)
        if times * len(text) > _MAX_REPEATS:
            raise UnknownPattern
        return text * times
