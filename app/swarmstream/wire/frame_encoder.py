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

from swarmstream.events import ReasoningDelta, TextDelta
from swarmstream.journal.base import Entry
from swarmstream.journal.summary import Summary
from swarmstream.wire.framing import Framing
from swarmstream.wire.run_fold import RunFold
from swarmstream.wire.shapes.events import EventData

_BLOCK_BYTES = 256 * 1024

_in_ascii = JSONEncoder(separators=(",", ":")).encode


class FrameEncoder:
    """One reader's frames of one run, made of every event from the first on, in order; with a `summary`, from the
    first on that the summary does not know."""

    def __init__(
        self, framing: Framing, *, include_output: bool, after: int = 0, summary: Summary | None = None
    ) -> None:
        """`after` is the number of the last event that the reader has."""
        self._framing = framing
        self._include_output = include_output
        self._chunk_head = framing.head("chunk")
        self._reasoning_head = framing.head("reasoning")
        self._fold = RunFold(self._begin_text, after=after, summary=summary)

    def encode(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the frames of those entries that the reader does not have, joined to blocks."""
        framing, fold, after, texts = self._framing, self._fold, self._fold.after, self._fold.texts
        opening, closing = framing.opening, framing.closing
        outputs = iter(self._outputs(entries)) if self._include_output else repeat(None)
        parts: list[bytes | memoryview] = []
        length = 0
        for number, event in entries:
            if isinstance(event, TextDelta):
                output = next(outputs)
                if number <= after:
                    continue
                text = texts.get(event.turn) or fold.begin_text(event)
                step = f',"step":{event.step}' if event.step > 1 else ""
                content = f"{opening}{number}{text.head}{escape(event.text)}{step}"
                if output is None:
                    parts.append(f'{content},"t":{event.t_ms}}}{closing}'.encode("ascii"))
                else:
                    parts.append(f'{content},"output":"'.encode("ascii"))
                    parts.append(output)
                    parts.append(f'","t":{event.t_ms}}}{closing}'.encode("ascii"))
                    length += len(output)
                length += len(content)
            elif isinstance(event, ReasoningDelta):
                if number <= after:
                    continue
                content = f"{opening}{number}{self._reasoning_head}{_reasoning_data(event)}{closing}"
                parts.append(content.encode("ascii"))
                length += len(content)
            elif (named := fold.observe(number, event)) is not None:
                name, data = named
                content = f"{opening}{number}{framing.head(name)}{_to_json(data)}{closing}"
                parts.append(content.encode("ascii"))
                length += len(content)
            if length >= _BLOCK_BYTES:
                yield b"".join(parts)
                parts, length = [], 0
        if parts:
            yield b"".join(parts)

    def _begin_text(self, delta: TextDelta) -> "_TurnText":
        return _TurnText(f'{self._chunk_head}{{"agent":{escape(delta.agent)},"turn":{delta.turn},"content":')

    def _outputs(self, entries: Sequence[Entry]) -> list[memoryview]:
        """Return for each text delta the text of its turn so far. No buffer can grow before these views are gone."""
        return [memoryview(buffer)[:end] for buffer, end in self._fold.outputs(entries, _TurnText.extend)]


class _TurnText:
    """The text of one turn as a reader has it."""

    __slots__ = ("buffer", "head")

    def __init__(self, head: str) -> None:
        self.head = head
        """All that stands in each of its frames between the id and the delta's text."""
        self.buffer = bytearray()
        """The text so far, as it stands in a JSON string."""

    def extend(self, text: str) -> tuple[bytearray, int]:
        """Append to the text; return its buffer and where the text ends there now."""
        self.buffer += escape(text)[1:-1].encode("ascii")
        return self.buffer, len(self.buffer)


def _to_json(data: EventData) -> str:
    """Return the data as ASCII, on one line; orjson is ten times as fast and cannot escape."""
    encoded = orjson.dumps(data)
    return encoded.decode("ascii") if encoded.isascii() else _in_ascii(data)


def _reasoning_data(event: ReasoningDelta) -> str:
    agent, content = escape(event.agent), escape(event.text)
    return f'{{"agent":{agent},"turn":{event.turn},"content":{content},"t":{event.t_ms}}}'
