"""A model without a provider: deterministic, paced like a real one, and open about being a demo."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, cast

import orjson
from anyio import CapacityLimiter, to_thread

from swarmstream.clock import SYSTEM_CLOCK, Clock, sleep
from swarmstream.errors import InvalidOutput
from swarmstream.llm.base import Finished, ModelCall, OnDeltas, Opened, TokenCount, ToolCallDelta
from swarmstream.llm.messages import ChatMessage

_FIRST_TOKEN_SECONDS = 0.25
_TOKEN_SECONDS = 0.025
"""Forty tokens a second, as a mid-sized hosted model."""

_TOKEN = re.compile(r"\S+\s*|\s+")
_SUM = re.compile(r"\d[\d.]*(?:\s*[-+*/]\s*\d[\d.]*)+")
_SUM_ID = "demo_calculator"
_EXCERPT_WORDS = 12
_FAILED = re.compile(r".+ failed: [a-z_]+")
_SPEAKER = re.compile(r"([^:\n]{1,100}): (.+)", re.DOTALL)


class DemoModel:
    """Answers about its task from the messages alone, at no cost and without a network."""

    def __init__(
        self,
        *,
        first_token_seconds: float = _FIRST_TOKEN_SECONDS,
        token_seconds: float = _TOKEN_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._first_token_seconds = first_token_seconds
        self._token_seconds = token_seconds
        self._one_by_one = CapacityLimiter(1)
        """Documents are made in a thread: each takes a moment of the interpreter, and many may be asked for."""

    async def ready(self) -> None:
        pass

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        on_deltas((Opened(),))
        text, tool_call = _action(call) or (await self._answer(call), None)
        tokens = _TOKEN.findall(text)
        sent = tokens[: call.sampling.max_tokens_for(call.model)]
        await sleep(self._clock, self._first_token_seconds)
        for token in sent:
            on_deltas((token,))
            await sleep(self._clock, self._token_seconds)
        input_tokens = sum(len(_TOKEN.findall(_text(message))) for message in call.messages)
        counted = TokenCount(input_tokens=input_tokens, output_tokens=len(sent))
        if tool_call is not None and len(sent) == len(tokens):
            on_deltas((tool_call, Finished("tool_calls"), counted))
        else:
            on_deltas((Finished("stop" if len(sent) == len(tokens) else "length"), counted))

    async def _answer(self, call: ModelCall) -> str:
        """Return the answer; with a response format, a document that fits it.

        Raises:
            InvalidOutput: no document was found for the schema.
        """
        answer = " ".join(_sentences(call.messages))
        match call.response_format:
            case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
                return await to_thread.run_sync(_document, cast(dict[str, Any], schema), limiter=self._one_by_one)
            case {"type": "json_object"}:
                return orjson.dumps({"answer": answer.encode(errors="replace").decode()}).decode()
            case _:
                return answer


def _document(schema: dict[str, Any]) -> str:
    # Imported here: few ask for it, and what it needs takes time.
    from swarmstream.llm.providers.demo.document.find import find_document

    document = find_document(schema)
    if document is None:
        raise InvalidOutput("the demo model found no small document that fits this schema; a real one may")
    return document


def _action(call: ModelCall) -> tuple[str, ToolCallDelta] | None:
    """Return a text and a tool call, if there is a tool that the demo knows how to use; else None."""
    offered = {schema["function"]["name"] for schema in cast(list[dict[str, Any]], call.tools)}
    if "create_plan" in offered:
        first, second = {"id": "1", "title": "Look at the task"}, {"id": "2", "title": "Think it over"}
        plan = {"subtasks": [first, {**second, "depends_on": ["1"]}]}
        return "This is the demo model's plan, which is always the same. ", _tool_call("create_plan", plan)
    if "subtask_done" in offered:
        return "The demo model is done with this at once. ", _tool_call("subtask_done", {"result": "done"})
    sums = [match for message in call.messages if message["role"] == "user" for match in _SUM.findall(_text(message))]
    is_answered = any(message["role"] == "tool" for message in call.messages)
    if "calculator" in offered and sums and not is_answered:
        return "Let me calculate that. ", _tool_call("calculator", {"expression": sums[0].strip()})
    return None


def _tool_call(name: str, arguments: Mapping[str, object]) -> ToolCallDelta:
    return ToolCallDelta(0, f"demo_{name}", name, orjson.dumps(arguments).decode())


def _sentences(messages: Sequence[ChatMessage]) -> Iterator[str]:
    """Yield the sentences of the answer: instructions, task, earlier speakers, results of tools."""
    system = next((_text(message) for message in messages if message["role"] == "system"), "")
    before_calls = list(takewhile(lambda message: not message.get("tool_calls"), messages))
    users = [_text(message) for message in before_calls if message["role"] == "user"] or [""]
    since_last_answer = takewhile(lambda message: message["role"] != "assistant", reversed(before_calls))
    lately = [_text(message) for message in since_last_answer if message["role"] == "user"]
    task = next((text for text in lately if not _SPEAKER.fullmatch(text)), users[0])
    yield "This is swarmstream's built-in demo model, not a real LLM."
    if system:
        yield f'My instructions are "{_excerpt(system)}".'
    yield f'The task is "{_excerpt(task)}", and a real model would now think about it.'
    earlier = [
        match
        for text in users[1:]
        if text != task and (match := _SPEAKER.fullmatch(text)) and not _FAILED.fullmatch(text)
    ]
    for match in earlier:
        yield f"I have read the {len(match[2].split())} words that {match[1]} wrote before me."
    if not earlier:
        yield "Nobody has spoken to me before this, so I begin from the task alone."
    for message in messages:
        if message.get("tool_call_id") == _SUM_ID:
            yield f"The calculator says {_excerpt(_text(message))}."
    yield "Set a provider's key, for example OPENAI_API_KEY, and name one of its models to hear a real answer here."


def _text(message: ChatMessage) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def _excerpt(text: str) -> str:
    words = text.split()
    return " ".join(words[:_EXCERPT_WORDS]) + ("…" if len(words) > _EXCERPT_WORDS else "")
