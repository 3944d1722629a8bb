"""What a provider's chat-completions stream says: its bytes, cut anywhere, become deltas. No I/O.

The protocol is OpenAI's (API reference, "The chat completion chunk object") over Server-Sent Events (WHATWG HTML, 9.2),
with the variants that other providers made of it.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any

import msgspec

from swarmstream.errors import ModelError, ProviderError, UpstreamInvalid
from swarmstream.llm.base import Delta, Echo, Finished, Reasoning, TokenCount, ToolCallDelta
from swarmstream.llm.http.status import first_line, stream_error

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


FAILED = {"error", "network_error", "insufficient_system_resource"}
"""Finish reasons of answers that were given up (Mistral and OpenRouter, Zhipu, DeepSeek)."""


class _Reported(Exception):
    """The provider reported an error in its stream."""

    def __init__(self, failure: ModelError) -> None:
        self.failure = failure


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    """An object where a server does not keep to the protocol."""


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: Any = None
    """Gemini's signature of the thought behind the call."""


class _Message(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None
    """A list where a model mixes thoughts and text (Mistral, "Reasoning")."""
    reasoning_content: str | None = None
    reasoning: str | None = None
    """What vLLM, Groq and OpenRouter call `reasoning_content`."""
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    """What tool calls were before there could be several."""


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    """What is no usage in it does not make the chunk wrong."""
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatStream:
    """The reader of one stream. Feed it what the socket gives; it keeps back what is not yet a whole line."""

    def __init__(self) -> None:
        self.finished = False
        """Whether the provider said that its answer is complete."""
        self.done = False
        """Whether the provider said that nothing follows."""
        self.failure: ModelError | None = None
        """What ended the stream: what is no chunk, an error of the provider's, a line longer than `MAX_LINE_BYTES`."""
        self._is_heard = False
        """Whether part of the answer has come: an error before it is one of the status that it stands for."""
        self._thoughts: list[str] = []
        """What some models want back when their tool calls are answered (DeepSeek, "Thinking Mode")."""
        self._calls_tools = False
        self._parts: list[bytes] = [b""]
        """What has come of a line. Not empty at the beginning of the stream, whose first line is looked at closely."""
        self._is_begun = False
        self._length = 0
        self._unparsed: list[bytes] = []
        """The lines of an event that is no JSON as far as it has come: an event may have several."""
        self._unparsed_length = 0

    def feed(self, received: bytes) -> list[Delta]:
        """The deltas that these bytes complete, up to the failure if there is one."""
        deltas: list[Delta] = []
        try:
            self._read(received, deltas)
        except UpstreamInvalid as failure:
            self.failure = failure
        except _Reported as report:
            self.failure = _in_the_middle() if self._is_heard or deltas else report.failure
        except (ValueError, RecursionError):  # a number too long, nesting too deep even to be logged
            self.failure = _no_chunk()
        if deltas:
            self._is_heard = True
        return deltas

    def _read(self, received: bytes, deltas: list[Delta]) -> None:
        end = received.rfind(b"\n")
        if end < 0:
            self._keep(received)
            return
        whole = received[:end]
        if self._parts:
            whole = b"".join((*self._parts, whole))
            self._parts, self._length = [], 0
            if not self._is_begun:
                self._is_begun = True
                whole = whole.removeprefix(_BOM)  # WHATWG HTML, 9.2.5
        lines = whole.split(b"\n")
        if len(whole) > MAX_LINE_BYTES and len(max(lines, key=len)) > MAX_LINE_BYTES:
            raise _too_large()
        for line in lines:
            if line.startswith(b"data:"):
                if (chunk := self._chunk(line)) is not None:
                    if text := _only_text(chunk):
                        deltas.append(text)
                    else:
                        deltas.extend(self._deltas(chunk))
                elif self.done:
                    return
            elif self._unparsed and line in (b"", b"\r"):
                deltas.extend(self._deltas(self._whole_event()))
        if end + 1 < len(received):
            self._keep(received[end + 1 :])

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        if self._length > MAX_LINE_BYTES:
            raise _too_large()
        self._parts.append(part)

    def _chunk(self, line: bytes) -> _Chunk | None:
        """The chunk in a `data` line; None where there is none, or not yet."""
        if not self._unparsed:
            try:
                return _decode(line[5:])
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
                return _convert(content)
            except json.JSONDecodeError:
                pass  # the rest may be in the event's next lines: it is tried again at the event's end, once
        self._unparsed.append(content)
        self._unparsed_length += len(content)
        if self._unparsed_length > MAX_LINE_BYTES:
            raise _too_large()
        return None

    def _whole_event(self) -> _Chunk:
        lines, self._unparsed, self._unparsed_length = self._unparsed, [], 0
        try:
            return _convert(b"\n".join(lines))
        except json.JSONDecodeError as error:
            raise UpstreamInvalid("the provider sent something that is no JSON") from error

    def _deltas(self, chunk: _Chunk) -> Iterator[Delta]:
        if chunk.error:
            logger.warning("the provider reports in its stream: %s", first_line(chunk.error))
            raise _Reported(stream_error(chunk.error))
        if chunk.choices is None and chunk.usage is None:
            raise _no_chunk()
        for choice in chunk.choices or ():
            if choice.index:
                continue  # we ask for one answer; who gives more means the first
            if (message := choice.delta) is not None:
                if thought := message.reasoning_content or message.reasoning:
                    if message.reasoning_content:
                        self._thoughts.append(thought)
                    yield Reasoning(thought)
                if content := message.content or message.refusal:
                    if isinstance(content, str):
                        yield content
                    else:
                        yield from _parts(content)
                for number, call in enumerate(_calls(message)):
                    self._calls_tools = True
                    yield _tool_call(number, call)
            if choice.finish_reason:
                yield from self._finish(choice.finish_reason)
        if chunk.usage is not None and (count := _token_count(chunk.usage)):
            yield count

    def _finish(self, reason: str) -> Iterator[Delta]:
        if reason in FAILED:
            raise _Reported(ProviderError(f"the provider gave up its answer: {reason}"))
        if self._calls_tools and self._thoughts:
            yield Echo({"reasoning_content": "".join(self._thoughts)})
        self.finished = True
        yield Finished(reason)


def _convert(content: bytes) -> _Chunk:
    """Unlike the fast decoder this one lets halves of surrogate pairs pass."""
    try:
        return msgspec.convert(json.loads(content), _Chunk)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise _no_chunk() from error


def _no_chunk() -> UpstreamInvalid:
    return UpstreamInvalid("the provider sent something that is no chunk of an answer")


def _only_text(chunk: _Chunk) -> str | None:
    """What nearly every chunk is: a piece of text and nothing else."""
    choices = chunk.choices
    if not choices or len(choices) > 1 or chunk.usage is not None or chunk.error is not None:
        return None
    choice = choices[0]
    message = choice.delta
    if choice.index or choice.finish_reason or message is None or message.tool_calls or message.function_call:
        return None
    content = message.content
    return content if isinstance(content, str) and not (message.reasoning_content or message.reasoning) else None


def _in_the_middle() -> UpstreamInvalid:
    return UpstreamInvalid("the provider reported an error in the middle of its answer")


def _too_large() -> UpstreamInvalid:
    return UpstreamInvalid("the provider sent a chunk that is too large")


def _parts(content: list[Any]) -> Iterator[Delta]:
    """The parts of a content that is a list: text, and thoughts, which hold parts of their own."""
    for part in content:
        match part:
            case {"type": "thinking", "thinking": [*thoughts]}:
                yield from (Reasoning(text) for thought in thoughts if (text := _text(thought)))
            case _:
                if text := _text(part):
                    yield text


def _text(part: Any) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case _:
            return ""


def _calls(message: _Message) -> list[_ToolCall]:
    older = message.function_call
    return message.tool_calls or ([] if older is None else [_ToolCall(function=older)])


def _tool_call(number: int, call: _ToolCall) -> ToolCallDelta:
    function = call.function or _Function()
    index = number if call.index is None else call.index
    extra = {"extra_content": call.extra_content} if call.extra_content is not None else None
    arguments = function.arguments or ""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCallDelta(index, call.id, function.name, written, extra)


def _token_count(usage: Any) -> TokenCount | None:
    match usage:
        case {"prompt_tokens": given, "completion_tokens": said}:
            cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
            # The second is DeepSeek's name for it.
            cached = cached or usage.get("prompt_cache_hit_tokens")
            return TokenCount.of(given, said, cached, _detail(usage, "completion_tokens_details", "reasoning_tokens"))
        case _:
            return None


def _detail(usage: dict[str, Any], group: str, name: str) -> object:
    match usage.get(group):
        case {**details}:
            return details.get(name)
        case _:
            return None
