"""The call that a tool answers, with a way into the run's stream."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson
from anyio.lowlevel import checkpoint
from pydantic import JsonValue
from pydantic_core import from_json, to_json

from swarmstream.errors import quote

MAX_EVENT_BYTES = 64 * 1024
"""The largest data of one event, as JSON."""

_EVENT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Sink: TypeAlias = Callable[[str, JsonValue], None]
"""Append a `custom` event, by its name and its data. Called in the event loop, never in a tool's thread."""


@dataclass(slots=True, kw_only=True, eq=False)
class ToolContext:
    """A call of a tool. A function gets it through a parameter with this annotation; models do not see that one.

    A function that is not async writes through `anyio.from_thread.run(context.write_event_to_stream, name, data)`.
    """

    agent: str
    turn: int
    tool_call_id: str
    tool: str
    """The tool's name."""
    sink: Sink = field(repr=False)
    _over: bool = field(default=False, init=False, repr=False)

    async def write_event_to_stream(self, name: str, data: object = None) -> None:
        """Write a `custom` event with this name and these data.

        A copy as JSON is stored: keys become strings, models objects, dates text.

        Raises:
            ValueError: the name is not 1 to 64 of `A-Z a-z 0-9 _ . -`, or the data cannot be JSON, or are too large.
            RuntimeError: the call is over, as for a thread that outlived its time limit.
        """
        if self._over:
            raise RuntimeError(f"the call {self.tool_call_id} of {self.tool} is over")
        if not _EVENT_NAME.fullmatch(name):
            raise ValueError(f"{quote(name)} is no event's name: 1 to 64 of A-Z a-z 0-9 _ . -")
        self.sink(name, _as_json(data))
        await checkpoint()

    async def report_progress(self, done: float, total: float | None = None) -> None:
        """Write the event `progress`. `done` has the unit of `total`."""
        await self.write_event_to_stream("progress", {"tool": self.tool, "done": done, "total": total})

    def close(self) -> None:
        """End the call: nothing can be written any more."""
        self._over = True


def _as_json(data: object) -> JsonValue:
    try:
        encoded = to_json(data)
        value: JsonValue = from_json(encoded, allow_inf_nan=False)
        orjson.dumps([value])  # what writes the frames takes no integer beyond 64 bits, and counts levels
    except (TypeError, ValueError) as error:
        raise ValueError(f"an event's data must be JSON: {error}") from error
    if len(encoded) > MAX_EVENT_BYTES:
        raise ValueError(f"an event's data may take {MAX_EVENT_BYTES:,} bytes, these take {len(encoded):,}")
    return value
