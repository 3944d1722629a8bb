"""The process's limit on open file descriptors, divided among connections and runs.

A connection takes one descriptor, and so does each model call that is under way: a run that is streamed holds two.
Once none is left the process can neither accept nor connect, so both are limited beforehand.
"""

import resource
from dataclasses import dataclass

_WANTED = 65_536
"""More would cost memory in vain: other limits come first."""
_RESERVE = 96
"""For listeners, the event loop, the journal, the log, tools, MCP servers, and connections that were refused."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Connections and runs that the process's descriptors suffice for, at once."""

    connections: int
    runs: int


def raise_limit() -> int:
    """Raise the soft limit to the hard one, to 65,536 at most; return how many descriptors may be open then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _WANTED if soft == resource.RLIM_INFINITY else soft


def capacity_within(limit: int, *, max_runs: int) -> Capacity:
    """Divide so many descriptors among connections and at most `max_runs` runs.

    Runs get at most an eighth of what the reserve leaves. Connections have the rest, because a client has to be
    connected to be refused: one that is cut off while it sends its request may never read the 503.
    """
    left = max(limit - _RESERVE, limit // 2)
    runs = min(max_runs, left // 8)
    return Capacity(connections=left - runs, runs=runs)
