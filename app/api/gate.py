"""The connections that are let in: how many there may be, and which one goes when there are too many.

A connection waits while no whole head of a request has come on it: it is new, or kept alive, or was refused and may
still read why. When the server is full, the one that has waited longest makes room. Only where none waits is a new one
refused: what is under way is never cut for it.
"""

from dataclasses import dataclass
from typing import Protocol

from app.clock import SYSTEM_CLOCK, Clock
from app.settings import Settings


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


class Waiting(Protocol):
    """A connection on which no whole head of a request has come."""

    def make_room(self) -> None:
        """Close now."""
        ...


class Gate:
    """One for all connections of a server."""

    def __init__(self, limits: ConnectionLimits, clock: Clock = SYSTEM_CLOCK) -> None:
        self.limits = limits
        self.clock = clock
        self._waiting: dict[Waiting, None] = {}
        """Longest first."""

    def has_room(self, connections: int) -> bool:
        """Whether one more may stay, of so many that are open with it; if need be, another one goes."""
        most = self.limits.max_connections
        if most is None or connections <= most:
            return True
        if (longest := next(iter(self._waiting), None)) is None:
            return False
        del self._waiting[longest]
        longest.make_room()
        return True

    def wait(self, connection: Waiting) -> None:
        """From now on, this one waits."""
        self._waiting[connection] = None

    def leave(self, connection: Waiting) -> None:
        """It waits no more: a head has come, or it is closed."""
        self._waiting.pop(connection, None)
