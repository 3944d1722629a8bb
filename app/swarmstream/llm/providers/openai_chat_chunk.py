"""A chunk of a chat-completions stream: its JSON, and the deltas in it.

The protocol is OpenAI's (API reference, "The chat completion chunk object"), with the variants that other providers
made of it.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from swarmstream.errors import UpstreamInvalid
from swarmstream.llm.base import Delta, Reasoning, TokenCount, ToolCallDelta


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    """An object from servers that do not keep to the protocol."""


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: Any = None
    """Gemini's signature of the thought behind the call."""


class Message(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None
    """A list where a model mixes thoughts and text (Mistral, "Reasoning")."""
    reasoning_content: str | None = None
    reasoning: str | None = None
    """The name of `reasoning_content` at vLLM, Groq and OpenRouter."""
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    """The older form, of which there could be one only."""


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Message | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Any = None
    """Anything: a usage that cannot be read does not make the chunk wrong."""
    error: Any = None


decode = msgspec.json.Decoder(Chunk).decode
"""The fast way, for nearly every chunk; it refuses halves of surrogate pairs, which `convert` takes."""


def convert(content: bytes) -> Chunk:
    """Return the chunk in this JSON, which may have halves of surrogate pairs.

    Raises:
        json.JSONDecodeError: it is not JSON, or not all of it.
        UpstreamInvalid: it is not a chunk.
    """
    try:
        return msgspec.convert(json.loads(content), Chunk)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise no_chunk() from error


def no_chunk() -> UpstreamInvalid:
    """Return the error for something that is not a chunk."""
    return UpstreamInvalid("the provider sent something that is no chunk of an answer")


def only_text(chunk: Chunk) -> str | None:
    """Return the text of a chunk that holds nothing else, as nearly every chunk does; else None."""
    choices = chunk.choices
    if not choices or len(choices) > 1 or chunk.usage is not None or chunk.error is not None:
        return None
    choice = choices[0]
    message = choice.delta
    if choice.index or choice.finish_reason or message is None or message.tool_calls or message.function_call:
        return None
    content = message.content
    return content if isinstance(content, str) and not (message.reasoning_content or message.reasoning) else None


def content_parts(content: list[Any]) -> Iterator[Delta]:
    """Yield the parts of a content that is a list: text, and thoughts, which hold parts of their own."""
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


def tool_call_deltas(message: Message) -> Iterator[ToolCallDelta]:
    """Yield the pieces of tool calls, also of the older `function_call`."""
    older = message.function_call
    for number, call in enumerate(message.tool_calls or ([] if older is None else [_ToolCall(function=older)])):
        yield _tool_call(number, call)


def _tool_call(number: int, call: _ToolCall) -> ToolCallDelta:
    function = call.function or _Function()
    index = number if call.index is None else call.index
    extra = {"extra_content": call.extra_content} if call.extra_content is not None else None
    arguments = function.arguments or ""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCallDelta(index, call.id, function.name, written, extra)


def token_count(usage: Any) -> TokenCount | None:
    """Return the figures of a chunk's `usage`; None where it has none."""
    match usage:
        case {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}:
            cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
            # The second is DeepSeek's name for it.
            cached = cached or usage.get("prompt_cache_hit_tokens")
            reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
            return TokenCount.from_figures(input_tokens, output_tokens, cached, reasoning)
        case _:
            return None


def _detail(usage: dict[str, Any], group: str, name: str) -> object:
    match usage.get(group):
        case {**details}:
            return details.get(name)
        case _:
            return None
