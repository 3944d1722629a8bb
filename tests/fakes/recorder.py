"""A recorder that keeps the events of a run."""

from dataclasses import dataclass, field

import anyio

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.events import Event


@dataclass
class KeptEvents:
    """A recorder that keeps everything."""

    clock: Clock = SYSTEM_CLOCK
    events: list[Event] = field(default_factory=list[Event])
    _written: anyio.Event = field(default_factory=anyio.Event)

    def now_ms(self) -> int:
        return int(self.clock.now() * 1000)

    def append_delta(self, delta: Event) -> None:
        self.append(delta)

    def append(self, event: Event) -> None:
        self.events.append(event)
        self._written.set()
        self._written = anyio.Event()

    async def commit(self, event: Event) -> None:
        self.append(event)

    async def until(self, kind: type[Event]) -> None:
        """Wait until such an event is there."""
        while not any(isinstance(event, kind) for event in self.events):
            await self._written.wait()
