"""The connections that are let in: how many there may be, and which one goes when there are too many.

A connection waits while no whole head of a request has come on it: it is new, or kept alive. When the server is full,
the one that has waited longest makes room. Only where none waits is a new one refused: what is under way is never cut
for it. Those that were refused may still read why; they do not count, and the last few of them are kept.
"""

from dataclasses import dataclass
from typing import Protocol

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.settings import Settings


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take, before anybody knows who it is."""

    max_connections: int | None = None
    """`None`: as many as the system gives."""
    max_head_bytes: int = 65_536
    """Of one request's line and header fields."""
    head_seconds: float = 15.0
    """How long these may take to arrive, from the connection's start or from their first byte."""
    send_seconds: float = 30.0
    """How long a client may take nothing of its answer."""


def connection_limits(settings: Settings, max_connections: int | None = None) -> ConnectionLimits:
    """As the settings say it, for so many connections at once."""
    return ConnectionLimits(
        max_connections=max_connections,
        max_head_bytes=settings.max_head_bytes,
        head_seconds=settings.head_seconds,
        send_seconds=settings.send_seconds,
    )


_MOST_LEAVING = 32


class Guest(Protocol):
    """A connection, as the gate sees it."""

    def make_room(self) -> None:
        """Close, or tell the client why and leave."""
        ...

    def hang_up(self) -> None:
        """Close now."""
        ...


class Gate:
    """One for all connections of a server."""

    def __init__(self, limits: ConnectionLimits, clock: Clock = SYSTEM_CLOCK) -> None:
        self.limits = limits
        self.clock = clock
        self._waiting: dict[Guest, None] = {}
        """Longest first."""
        self._leaving: dict[Guest, None] = {}
        """Refused, longest ago first."""

    def has_room(self, connections: int) -> bool:
        """Whether one more may stay, of so many that are open with it; if need be, another one goes."""
        most = self.limits.max_connections
        if most is None or connections - len(self._leaving) <= most:
            return True
        if (longest := next(iter(self._waiting), None)) is None:
            return False
        del self._waiting[longest]
        longest.make_room()
        return True

    def wait(self, guest: Guest) -> None:
        """From now on, this one waits."""
        self._waiting[guest] = None

    def go_on(self, guest: Guest) -> None:
        """It waits no more: a whole head has come."""
        self._waiting.pop(guest, None)

    def leave(self, guest: Guest) -> None:
        """It was refused, and closes soon."""
        self._waiting.pop(guest, None)
        self._leaving[guest] = None
        if len(self._leaving) > _MOST_LEAVING:
            next(iter(self._leaving)).hang_up()

    def forget(self, guest: Guest) -> None:
        """It is closed."""
        self._waiting.pop(guest, None)
        self._leaving.pop(guest, None)
