"""Events as bytes: frames of Server-Sent Events or of JSON lines, in ASCII (docs/wire.md, section 4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from json.encoder import JSONEncoder
from json.encoder import encode_basestring_ascii as escape  # pyright: ignore[reportUnknownVariableType]

import orjson

from swarmstream.events import Event, ReasoningDelta, TextDelta, TurnEnded, TurnRestarted
from swarmstream.journal.records import Entry
from swarmstream.journal.summary import Summary
from swarmstream.wire.event_data import frame
from swarmstream.wire.shapes.events import Frame

_BLOCK_LENGTH = 256 * 1024

_in_ascii = JSONEncoder(separators=(",", ":")).encode

_RETRY = b"retry: 3000\n"
"""How long a browser waits before it connects again."""

_SSE_HEARTBEAT = b": ping\n"
"""A comment without a blank line: after an `id:`, one makes the official SDK's decoder dispatch an empty event."""

_NDJSON_HEARTBEAT = b" "
"""White space before the next line's JSON: no parser sees it, every proxy does."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How events are laid out in a body: what stands around the `data` of each."""

    media_type: str
    number: str
    """Before an event's number."""
    name: str
    """Between its number and its name."""
    data: str
    """Between its name and its `data`."""
    tail: str
    heartbeat: bytes
    preamble: bytes = b""
    """Before the first event of an answer."""


SSE = Framing(
    media_type="text/event-stream; charset=utf-8",
    number="id: ",
    name="\nevent: ",
    data="\ndata: ",
    tail="\n\n",
    heartbeat=_SSE_HEARTBEAT,
    preamble=_RETRY,
)
NDJSON = Framing(
    media_type="application/x-ndjson",
    number='{"id":',
    name=',"event":"',
    data='","data":',
    tail="}\n",
    heartbeat=_NDJSON_HEARTBEAT,
)


class _Panel:
    """The text of one turn as this reader has it: the constant head of its frames, and the escaped text so far."""

    __slots__ = ("head", "output")

    def __init__(self, event: TextDelta, framing: Framing) -> None:
        self.head = f'{framing.name}chunk{framing.data}{{"agent":{escape(event.agent)},"turn":{event.turn},"content":'
        self.output = bytearray()


class Rendering:
    """One reader's view of one run, from the event numbered `after` on. It must be shown every event from the first
    on, in order."""

    def __init__(
        self, framing: Framing, *, include_output: bool, after: int = 0, summary: Summary | None = None
    ) -> None:
        """`summary` is of the events before those that it is shown."""
        self._framing = framing
        self._include_output = include_output
        self._after = after
        self._summary = summary or Summary()
        self._panels: dict[int, _Panel] = {}

    def blocks(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """The frames of these events, joined: few writes, and never much text at once, for each `chunk` may repeat all
        that its turn has said."""
        framing, after = self._framing, self._after
        lead, tail = framing.number, framing.tail
        outputs = iter(self._outputs(entries)) if self._include_output else repeat(None)
        parts: list[bytes | memoryview] = []
        length = 0
        for number, event in entries:
            if isinstance(event, TextDelta):
                output = next(outputs)
                if number <= after:
                    continue
                panel = self._panels.get(event.turn) or self._begin(event)
                step = f',"step":{event.step}' if event.step > 1 else ""
                content = f"{lead}{number}{panel.head}{escape(event.text)}{step}"
                if output is None:
                    parts.append(f'{content},"t":{event.t_ms}}}{tail}'.encode("ascii"))
                else:
                    parts.append(f'{content},"output":"'.encode("ascii"))
                    parts.append(output)
                    parts.append(f'","t":{event.t_ms}}}{tail}'.encode("ascii"))
                    length += len(output)
                length += len(content)
            elif (frame := self._rare(event, needed=number > after)) is not None:
                name, content = frame
                parts.append(f"{lead}{number}{framing.name}{name}{framing.data}{content}{tail}".encode("ascii"))
                length += len(content)
            if length >= _BLOCK_LENGTH:
                yield b"".join(parts)
                parts, length = [], 0
        if parts:
            yield b"".join(parts)

    def _outputs(self, entries: Sequence[Entry]) -> list[memoryview]:
        """For each text delta, all that its turn has said by then: views into the turns' buffers, which cannot grow
        before these are gone."""
        ends: list[tuple[bytearray, int]] = []
        for _, event in entries:
            if isinstance(event, TextDelta):
                output = (self._panels.get(event.turn) or self._begin(event)).output
                output += escape(event.text)[1:-1].encode("ascii")
                ends.append((output, len(output)))
            elif isinstance(event, TurnRestarted):
                self._panels.pop(event.turn, None)
        return [memoryview(output)[:end] for output, end in ends]

    def _begin(self, event: TextDelta) -> _Panel:
        panel = self._panels[event.turn] = _Panel(event, self._framing)
        return panel

    def _rare(self, event: Event, *, needed: bool) -> tuple[str, str] | None:
        """The name and the `data` of an event that is no text, where its frame is needed."""
        if isinstance(event, ReasoningDelta):
            return ("reasoning", _reasoning(event)) if needed else None
        self._summary.observe(event)
        if isinstance(event, TurnEnded):
            self._panels.pop(event.turn, None)
        if not needed:
            return None
        name, data = frame(event, self._summary)
        return name, _to_json(data)


def gap(framing: Framing, *, requested: int, first_available: int) -> bytes:
    """The frame that tells a reader what it cannot have any more. It has no number: nothing resumes from it."""
    data = f'{{"requested":{requested},"first_available":{first_available}}}'
    if framing.number.startswith("{"):
        return f'{{"event":"gap","data":{data}{framing.tail}'.encode("ascii")
    return f"event: gap{framing.data}{data}{framing.tail}".encode("ascii")


def join_deltas(entries: Sequence[Entry], *, after: int) -> list[Entry]:
    """Neighbouring deltas of one turn as one, numbered as the last of them; never across the place `after`, up to
    which the reader has them already.

    Only neighbours: were deltas of one turn joined across another turn's, a reader cut off between the two frames
    could not name a place to go on from without losing or repeating text.
    """
    joined: list[Entry] = []
    for number, event in entries:
        if joined and isinstance(event, TextDelta):
            last, before = joined[-1]
            is_new = last > after or number <= after
            if isinstance(before, TextDelta) and is_new and (before.turn, before.step) == (event.turn, event.step):
                text = before.text + event.text
                joined[-1] = (number, TextDelta(event.t_ms, event.agent, event.turn, text, event.step))
                continue
        joined.append((number, event))
    return joined


def _to_json(data: Frame) -> str:
    """In ASCII, on one line; orjson is ten times as fast and cannot escape."""
    encoded = orjson.dumps(data)
    return encoded.decode("ascii") if encoded.isascii() else _in_ascii(data)


def _reasoning(event: ReasoningDelta) -> str:
    agent, content = escape(event.agent), escape(event.text)
    return f'{{"agent":{agent},"turn":{event.turn},"content":{content},"t":{event.t_ms}}}'
