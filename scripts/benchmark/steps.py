"""A token's way inside the process, step by step: what each costs by itself."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from statistics import median

from provider import token_lines

from swarmstream.events import TextDelta
from swarmstream.journal.base import NO_CALLBACKS
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.records import Entry, RunRecord
from swarmstream.llm.providers.openai_chat import ChatStream
from swarmstream.wire.framing import SSE, Rendering

_TOKENS = 2000
_REPEATS = 50
_READ_BYTES = 64 * 1024
"""What a socket gives at once, at most."""
_ENTRIES_A_READ = 512
"""What a journal gives at once, about."""


def measure() -> Iterator[str]:
    """Each step with its nanoseconds a token."""
    reads = list(_cut(token_lines(_TOKENS), _READ_BYTES))
    events = [TextDelta(n, "A", 1, "1234567 ") for n in range(_TOKENS)]
    entries: list[Entry] = list(enumerate(events, start=1))
    batches = [entries[start : start + _ENTRIES_A_READ] for start in range(0, _TOKENS, _ENTRIES_A_READ)]
    steps: dict[str, Callable[[], None]] = {
        "parse a delta": lambda: _parse(reads),
        "build an event": _build,
        "append it to the journal": lambda: asyncio.run(_append(events)),
        "render a frame": lambda: _render(batches, include_output=False),
        "render a frame with output": lambda: _render(batches, include_output=True),
    }
    for name, step in steps.items():
        yield f"{name:<28}{_ns_a_token(step):>8,.0f} ns/token"
    yield f"(of {_TOKENS:,} tokens in a row, the median of {_REPEATS} times)"


def _ns_a_token(step: Callable[[], None]) -> float:
    step()
    taken: list[int] = []
    for _ in range(_REPEATS):
        began = time.process_time_ns()
        step()
        taken.append(time.process_time_ns() - began)
    return median(taken) / _TOKENS


def _cut(text: bytes, length: int) -> Iterator[bytes]:
    for start in range(0, len(text), length):
        yield text[start : start + length]


def _parse(reads: Sequence[bytes]) -> None:
    stream = ChatStream()
    count = sum(1 for read in reads for _ in stream.feed(read))
    assert count == _TOKENS


def _build() -> None:
    for n in range(_TOKENS):
        TextDelta(n, "A", 1, "1234567 ")


async def _append(events: Sequence[TextDelta]) -> None:
    journal = MemoryJournal(retain_seconds=0, retain_bytes=0)
    record = RunRecord("agent-0", "benchmark", "agent", datetime.now(UTC))
    log = await journal.submit(record, NO_CALLBACKS)
    for event in events:
        log.append(event)


def _render(batches: Sequence[Sequence[Entry]], *, include_output: bool) -> None:
    rendering = Rendering(SSE, include_output=include_output)
    for batch in batches:
        for _ in rendering.blocks(batch):
            pass
