"""File descriptors: how many this process may have open, and how they are shared out.

A connection takes one, and so does each call of a model that is under way: a run that is streamed holds two. Where they
run out, nothing can be accepted or connected to any more, so they are counted before: see `shares_of`.
"""

import resource
from dataclasses import dataclass

_WANTED = 65_536
"""More would cost memory for nothing: other limits come first."""
_RESERVE = 64
"""For listeners, the event loop, the journal, the log, tools, MCP servers, and connections on their way out."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What the process's descriptors suffice for, at once."""

    connections: int
    runs: int


def raise_limit() -> int:
    """Raise the soft limit to the hard one, to 65,536 at most; how many descriptors the process may have open then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _WANTED if soft == resource.RLIM_INFINITY else soft


def shares_of(limit: int, *, max_runs: int) -> Shares:
    """How many connections and runs so many descriptors suffice for, at most `max_runs` runs.

    Runs get two fifths of what the reserve leaves, at most: the connections that carry them, and some beside, have the
    rest.
    """
    left = max(limit - _RESERVE, limit // 2)
    runs = min(max_runs, left * 2 // 5)
    return Shares(connections=left - runs, runs=runs)
