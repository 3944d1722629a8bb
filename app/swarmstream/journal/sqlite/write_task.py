"""A piece of work for the writer of a data directory."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from swarmstream.journal.codec import RunEvent
from swarmstream.journal.sqlite.file.store import Store


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class WriteTask:
    """Something to write."""

    write: Callable[[Store], object]
    waiting: Sequence[asyncio.Future[Any]] = ()
    """Resolved in the event loop."""
    is_retried: bool = False
    """True where a task that fails is kept until it succeeds."""
    is_check: bool = False
    """True where it only reads, and is not to wait for another program's transaction."""
    outlives_host: bool = False
    """True where it is to be on the disk when it is done."""
    done: Callable[[], object] = nothing
    """Called in the event loop once it has succeeded, before the `waiting` are resolved."""
    batch: tuple[int, Sequence[RunEvent]] | None = None
    """The batch, where the task writes nothing else."""
