"""The reader of a chat-completions stream: bytes, cut anywhere, become deltas. No I/O.

The stream is one of Server-Sent Events (WHATWG HTML, 9.2) whose data are chunks. Providers keep to that loosely: nearly
every line is `data:` with a whole chunk, so each such line is parsed at once, and only what is not JSON by itself is
kept until its event ends.
"""

import json
import logging
from collections.abc import Iterator

import msgspec

from swarmstream.errors import ModelError, ProviderError, UpstreamInvalid
from swarmstream.llm.base import Delta, Echo, Finished, Reasoning
from swarmstream.llm.http.line_reader import MAX_LINE_BYTES, LineReader
from swarmstream.llm.http.status import first_line, stream_error
from swarmstream.llm.providers.openai_chat_chunk import (
    Chunk,
    Message,
    content_parts,
    convert,
    decode,
    no_chunk,
    only_text,
    token_count,
    tool_call_deltas,
)

logger = logging.getLogger(__name__)

FAILED = {"error", "network_error", "insufficient_system_resource"}
"""Finish reasons of answers that were given up (Mistral and OpenRouter, Zhipu, DeepSeek)."""


class _StreamError(Exception):
    """The provider reported an error in its stream."""

    def __init__(self, failure: ModelError) -> None:
        self.failure = failure


class ChatStream:
    """The reader of one stream; `feed` takes the bytes in the order in which the socket gives them."""

    def __init__(self) -> None:
        self.finished = False
        """True once the provider gave a finish reason."""
        self.done = False
        """True once the provider ended the stream with `[DONE]`."""
        self.failure: ModelError | None = None
        """The end of a stream that cannot be read on: no chunk, an error of the provider's, a line that is too long."""
        self._has_begun = False
        """True once a delta has come: an error before it is one of the status that it stands for."""
        self._thoughts: list[str] = []
        """Thoughts that some models want back when their tool calls are answered (DeepSeek, "Thinking Mode")."""
        self._calls_tools = False
        self._lines = LineReader()
        self._unparsed: list[bytes] = []
        """The `data` lines of an event that are not JSON so far: an event may have several."""
        self._unparsed_length = 0

    def feed(self, received: bytes) -> list[Delta]:
        """Return the deltas that these bytes complete, up to the failure if there is one."""
        deltas: list[Delta] = []
        try:
            for line in self._lines.feed(received):
                if line.startswith(b"data:"):
                    if (chunk := self._chunk(line)) is not None:
                        if text := only_text(chunk):
                            deltas.append(text)
                        else:
                            deltas.extend(self._deltas(chunk))
                    elif self.done:
                        break
                elif self._unparsed and line in (b"", b"\r"):
                    deltas.extend(self._deltas(self._whole_event()))
            if self._lines.is_too_long and not self.done:
                raise _too_large()
        except UpstreamInvalid as failure:
            self.failure = failure
        except _StreamError as error:
            self.failure = _in_the_middle() if self._has_begun or deltas else error.failure
        except (ValueError, RecursionError):  # a number too long, nesting too deep even to be logged
            self.failure = no_chunk()
        if deltas:
            self._has_begun = True
        return deltas

    def _chunk(self, line: bytes) -> Chunk | None:
        """Return the chunk in a `data` line; None where there is none, or not yet."""
        if not self._unparsed:
            try:
                return decode(line[5:])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # not what almost every line is: look closer
        content = line[5:].strip()
        if content == b"[DONE]":
            self.done = True
            return None
        if not content:
            return None
        if not self._unparsed:
            try:
                return convert(content)
            except json.JSONDecodeError:
                pass  # the rest may be in the event's next lines: it is tried again at the event's end, once
        self._unparsed.append(content)
        self._unparsed_length += len(content)
        if self._unparsed_length > MAX_LINE_BYTES:
            raise _too_large()
        return None

    def _whole_event(self) -> Chunk:
        lines, self._unparsed, self._unparsed_length = self._unparsed, [], 0
        try:
            return convert(b"\n".join(lines))
        except json.JSONDecodeError as error:
            raise UpstreamInvalid("the provider sent something that is no JSON") from error

    def _deltas(self, chunk: Chunk) -> Iterator[Delta]:
        if chunk.error:
            logger.warning("the provider reports in its stream: %s", first_line(chunk.error))
            raise _StreamError(stream_error(chunk.error))
        if chunk.choices is None and chunk.usage is None:
            raise no_chunk()
        for choice in chunk.choices or ():
            if choice.index:
                continue  # we ask for one answer; of several, the first counts
            if choice.delta is not None:
                yield from self._message_deltas(choice.delta)
            if choice.finish_reason:
                yield from self._finish(choice.finish_reason)
        if chunk.usage is not None and (count := token_count(chunk.usage)):
            yield count

    def _message_deltas(self, message: Message) -> Iterator[Delta]:
        if thought := message.reasoning_content or message.reasoning:
            if message.reasoning_content:
                self._thoughts.append(thought)
            yield Reasoning(thought)
        if content := message.content or message.refusal:
            if isinstance(content, str):
                yield content
            else:
                yield from content_parts(content)
        for delta in tool_call_deltas(message):
            self._calls_tools = True
            yield delta

    def _finish(self, reason: str) -> Iterator[Delta]:
        if reason in FAILED:
            raise _StreamError(ProviderError(f"the provider gave up its answer: {reason}"))
        if self._calls_tools and self._thoughts:
            yield Echo({"reasoning_content": "".join(self._thoughts)})
        self.finished = True
        yield Finished(reason)


def _in_the_middle() -> UpstreamInvalid:
    return UpstreamInvalid("the provider reported an error in the middle of its answer")


def _too_large() -> UpstreamInvalid:
    return UpstreamInvalid("the provider sent a chunk that is too large")
