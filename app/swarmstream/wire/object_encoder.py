"""A run's events as objects, `{"id", "event", "data"}`: what a line of JSON lines holds (docs/wire.md, section 4)."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

from swarmstream.events import TextDelta
from swarmstream.journal.base import Entry
from swarmstream.wire.run_fold import RunFold


class ObjectEncoder:
    """One reader's objects of one run, made of every event from the first on, in order."""

    def __init__(self, *, include_output: bool, after: int = 0) -> None:
        """`after` is the number of the last event that the reader has."""
        self._include_output = include_output
        self._fold = RunFold(lambda _: _TurnText(), after=after)

    def encode(self, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        """Yield the objects of those entries that the reader does not have."""
        outputs = iter(self._fold.outputs(entries, _TurnText.extend)) if self._include_output else repeat(None)
        for number, event in entries:
            output = next(outputs) if isinstance(event, TextDelta) else None
            if (named := self._fold.observe(number, event)) is None:
                continue
            name, data = named
            yield {"id": number, "event": name, "data": data if output is None else {**data, "output": output}}


class _TurnText:
    """The text of one turn as a reader has it."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text = ""

    def extend(self, text: str) -> str:
        """Append to the text; return all of it."""
        self.text += text
        return self.text
