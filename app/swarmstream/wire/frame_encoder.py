"""A run's events as frames: the bytes of Server-Sent Events or of JSON lines (docs/wire.md, section 4).

Text deltas are many and all else is few, so their frames are written without the dict that `event_data` makes of them.
All of a delta's frame that is the same throughout its turn is made once; a frame's `output`, all that the turn has
streamed so far, is a view into the turn's buffer, which grows by the delta alone. Frames leave in blocks: few writes,
and never much text at once, for each may repeat all of its turn.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from json.encoder import JSONEncoder
from json.encoder import encode_basestring_ascii as escape  # pyright: ignore[reportUnknownVariableType]

import orjson

from swarmstream.events import ReasoningDelta, TextDelta, TurnRestarted
from swarmstream.journal.base import Entry
from swarmstream.journal.summary import Summary
from swarmstream.wire.framing import Framing
from swarmstream.wire.run_fold import RunFold
from swarmstream.wire.shapes.events import EventData

_BLOCK_BYTES = 256 * 1024

_in_ascii = JSONEncoder(separators=(",", ":")).encode


class FrameEncoder:
    """The frames of one run for one reader, made of every event from the first on, in order; with a `summary`, from the
    first on that the summary does not know."""

    def __init__(
        self, framing: Framing, *, include_output: bool, after: int = 0, summary: Summary | None = None
    ) -> None:
        """`after` is the number of the last event that the reader has."""
        self._framing = framing
        self._opening, self._closing = framing.opening, framing.closing
        self._chunk_head = framing.head("chunk")
        self._reasoning_head = framing.head("reasoning")
        self._include_output = include_output
        self._after = after
        self._fold = RunFold[_TurnText](after=after, summary=summary)
        self._texts = self._fold.texts

    def encode(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the frames of those entries that the reader does not have, joined to blocks."""
        after, texts, opening, closing = self._after, self._texts, self._opening, self._closing
        outputs = iter(self._outputs(entries)) if self._include_output else repeat(None)
        parts: list[bytes | memoryview] = []
        length = 0
        for number, event in entries:
            if isinstance(event, TextDelta):
                output = next(outputs)
                if number <= after:
                    continue
                text = texts.get(event.turn) or self._begin_text(event)
                step = f',"step":{event.step}' if event.step > 1 else ""
                if output is None:
                    content = f'{opening}{number}{text.head}{escape(event.text)}{step},"t":{event.t_ms}}}{closing}'
                    parts.append(content.encode("ascii"))
                else:
                    escaped, so_far = output
                    content = f'{opening}{number}{text.head}{escaped}{step},"output":"'
                    parts += (content.encode("ascii"), so_far, f'","t":{event.t_ms}}}{closing}'.encode("ascii"))
                    length += len(so_far)
                length += len(content)
            elif isinstance(event, ReasoningDelta):
                if number <= after:
                    continue
                content = f"{opening}{number}{self._reasoning_head}{_reasoning_data(event)}{closing}"
                parts.append(content.encode("ascii"))
                length += len(content)
            elif (named := self._fold.observe(number, event)) is not None:
                name, data = named
                content = f"{opening}{number}{self._framing.head(name)}{_to_json(data)}{closing}"
                parts.append(content.encode("ascii"))
                length += len(content)
            if length >= _BLOCK_BYTES:
                yield b"".join(parts)
                parts, length = [], 0
        if parts:
            yield b"".join(parts)

    def _begin_text(self, delta: TextDelta) -> "_TurnText":
        head = f'{self._chunk_head}{{"agent":{escape(delta.agent)},"turn":{delta.turn},"content":'
        text = self._texts[delta.turn] = _TurnText(head)
        return text

    def _outputs(self, entries: Sequence[Entry]) -> list[tuple[str, memoryview]]:
        """Return for each text delta its text as JSON, and the text of its turn so far as within a JSON string. No
        buffer can grow before these views are gone."""
        texts = self._texts
        ends: list[tuple[str, bytearray, int]] = []
        for _, event in entries:
            if isinstance(event, TextDelta):
                buffer = (texts.get(event.turn) or self._begin_text(event)).buffer
                escaped = escape(event.text)
                buffer += escaped[1:-1].encode("ascii")
                ends.append((escaped, buffer, len(buffer)))
            elif isinstance(event, TurnRestarted):
                texts.pop(event.turn, None)
        return [(escaped, memoryview(buffer)[:end]) for escaped, buffer, end in ends]


class _TurnText:
    """The text of one turn as a reader has it."""

    __slots__ = ("buffer", "head")

    def __init__(self, head: str) -> None:
        self.head = head
        """All that stands in each of its frames between the id and the delta's text."""
        self.buffer = bytearray()
        """The text so far, as it stands in a JSON string; empty where the reader is sent no `output`."""


def _to_json(data: EventData) -> str:
    """Return the data as ASCII, on one line; orjson is ten times as fast and cannot escape."""
    encoded = orjson.dumps(data)
    return encoded.decode("ascii") if encoded.isascii() else _in_ascii(data)


def _reasoning_data(event: ReasoningDelta) -> str:
    agent, content = escape(event.agent), escape(event.text)
    return f'{{"agent":{agent},"turn":{event.turn},"content":{content},"t":{event.t_ms}}}'
