"""A run's events as objects, `{"id", "event", "data"}`: what a line of JSON lines holds (docs/wire.md, section 4)."""

from collections.abc import Iterable, Iterator
from typing import Any

from swarmstream.events import TextDelta, TurnRestarted
from swarmstream.journal.base import Entry
from swarmstream.wire.run_fold import RunFold


class ObjectEncoder:
    """The objects of one run for one reader, made of every event from the first on, in order."""

    def __init__(self, *, include_output: bool, after: int = 0) -> None:
        """`after` is the number of the last event that the reader has."""
        self._include_output = include_output
        self._fold = RunFold[str](after=after)

    def encode(self, entries: Iterable[Entry]) -> Iterator[dict[str, Any]]:
        """Yield the objects of those entries that the reader does not have."""
        texts = self._fold.texts
        for number, event in entries:
            output: dict[str, str] = {}
            if isinstance(event, TextDelta) and self._include_output:
                output["output"] = texts[event.turn] = texts.get(event.turn, "") + event.text
            elif isinstance(event, TurnRestarted):
                texts.pop(event.turn, None)
            if (named := self._fold.observe(number, event)) is not None:
                name, data = named
                yield {"id": number, "event": name, "data": {**data, **output}}
