"""The limit on open connections: the one that goes when there are too many.

A connection waits while no whole head of a request has come on it: it is new, or kept alive. When the server is full,
the one that has waited longest is evicted. A new one is refused only where none waits: a request under way is never
cut for it. Refused connections may still read the reason; they do not count, and only the last few of them are kept.
"""

from dataclasses import dataclass
from typing import Protocol

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.settings import Settings

_MAX_LEAVING = 32


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits on clients before anybody knows who they are."""

    max_connections: int | None = None
    """`None`: as many as the system gives."""
    max_head_bytes: int = 65_536
    """One request's line and header fields."""
    head_seconds: float = 15.0
    """Time for these to arrive, from the connection's start or from their first byte."""
    send_seconds: float = 30.0
    """Time in which a client has to take some of its answer."""


def connection_limits(settings: Settings, max_connections: int | None = None) -> ConnectionLimits:
    """Return the limits that the settings name, for at most so many connections at once."""
    return ConnectionLimits(
        max_connections=max_connections,
        max_head_bytes=settings.max_head_bytes,
        head_seconds=settings.head_seconds,
        send_seconds=settings.send_seconds,
    )


class GatedConnection(Protocol):
    """A connection, as the gate sees it."""

    def evict(self) -> None:
        """Close for want of room; a new client is told the reason first."""
        ...

    def abort(self) -> None:
        """Close now."""
        ...


class ConnectionGate:
    """The connections of one server that wait, and those that are leaving."""

    def __init__(self, limits: ConnectionLimits, clock: Clock = SYSTEM_CLOCK) -> None:
        self.limits = limits
        self.clock = clock
        self._waiting: dict[GatedConnection, None] = {}
        """Longest first."""
        self._leaving: dict[GatedConnection, None] = {}
        """Refused, longest ago first."""

    def admit(self, connections: int) -> bool:
        """Tell whether a new connection may stay, of so many that are open with it; evict another one if need be."""
        most = self.limits.max_connections
        if most is None or connections - len(self._leaving) <= most:
            return True
        if (longest := next(iter(self._waiting), None)) is None:
            return False
        del self._waiting[longest]
        longest.evict()
        return True

    def add_waiting(self, connection: GatedConnection) -> None:
        """Mark a connection as waiting for a request."""
        self._waiting[connection] = None

    def remove_waiting(self, connection: GatedConnection) -> None:
        """Mark a connection as busy: a whole head has come."""
        self._waiting.pop(connection, None)

    def add_leaving(self, connection: GatedConnection) -> None:
        """Mark a connection as refused; it closes soon."""
        self._waiting.pop(connection, None)
        self._leaving[connection] = None
        if len(self._leaving) > _MAX_LEAVING:
            next(iter(self._leaving)).abort()

    def forget(self, connection: GatedConnection) -> None:
        """Drop a connection that is closed."""
        self._waiting.pop(connection, None)
        self._leaving.pop(connection, None)
