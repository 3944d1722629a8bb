"""The port through which a turn's events leave the engine."""

from typing import Protocol

from swarmstream.events import Event, ReasoningDelta, TextDelta


class Recorder(Protocol):
    """The events of one run, appended in the order in which they happen."""

    def now_ms(self) -> int:
        """Return the milliseconds since the run began."""
        ...

    def append_delta(self, delta: TextDelta | ReasoningDelta) -> object:
        """Append a delta; never waits."""
        ...

    def append(self, event: Event) -> None:
        """Append an event that is no delta; never waits."""
        ...

    async def commit(self, event: Event) -> None:
        """Append an event; return once it, and all before it, is as safe as the journal makes it."""
        ...
