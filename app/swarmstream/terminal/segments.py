"""The text of a turn on the screen: segments of one kind each, one below the other."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["text", "reasoning", "tool", "note", "error"]


@dataclass(slots=True)
class Segment:
    """Text that grows by its deltas, or one line about something else. The parts are clean."""

    kind: Kind
    parts: list[str]


class Segments:
    """A turn's segments, in their order."""

    __slots__ = ("_segments",)

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def __contains__(self, kind: Kind) -> bool:
        return any(segment.kind == kind for segment in self._segments)

    def append(self, kind: Kind, text: str) -> None:
        """Add text to the last segment, or begin one if that is of another kind. Empty text adds nothing."""
        if not text:
            return
        if not self._segments or self._segments[-1].kind != kind:
            self.add(kind)
        self._segments[-1].parts.append(text)

    def add(self, kind: Kind, *parts: str) -> Segment:
        """Begin a segment and return it."""
        self._segments.append(Segment(kind, list(parts)))
        return self._segments[-1]

    def clear(self) -> None:
        self._segments.clear()

    def texts(self, *, verbose: bool) -> list[tuple[Kind, str]]:
        """Return the text of each segment; reasoning is left out unless `verbose`."""
        return [
            (segment.kind, "".join(segment.parts))
            for segment in self._segments
            if verbose or segment.kind != "reasoning"
        ]

    def tail(self, characters: int, *, verbose: bool) -> list[tuple[Kind, str]]:
        """Return the last of `texts`, of so many characters if there are as many.

        It costs what it returns: parts before it are not read.
        """
        found: list[tuple[Kind, str]] = []
        for segment in reversed(self._segments):
            if characters <= 0:
                break
            if segment.kind == "reasoning" and not verbose:
                continue
            parts: list[str] = []
            for part in reversed(segment.parts):
                parts.append(part[-characters:])
                characters -= len(parts[-1])
                if characters <= 0:
                    break
            found.append((segment.kind, "".join(reversed(parts))))
        return found[::-1]
