"""File descriptors: how many this process may have open, and how they are shared out.

A connection takes one, and so does each call of a model that is under way: a run that is streamed holds two. Where they
run out, nothing can be accepted or connected to any more, so they are counted before: see `shares_of`.
"""

import resource
from dataclasses import dataclass

_WANTED = 65_536
"""More would cost memory for nothing: other limits come first."""
_RESERVE = 96
"""For listeners, the event loop, the journal, the log, tools, MCP servers, and connections that were refused."""


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

    Runs get an eighth of what the reserve leaves, at most. The connections have the rest, because who is refused must
    be connected to hear it: a client that is cut off while it sends its request may never read the 503.
    """
    left = max(limit - _RESERVE, limit // 2)
    runs = min(max_runs, left // 8)
    return Shares(connections=left - runs, runs=runs)
