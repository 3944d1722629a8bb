"""The tools of one turn: what its model is offered, and how what it calls is answered (docs/engine.md, "One turn")."""

import re
from collections.abc import Iterable
from typing import cast

from anyio import TaskHandle, create_task_group
from pydantic import JsonValue
from pydantic_core import from_json

from swarmstream.clock import time_limit
from swarmstream.engine.call import Reply
from swarmstream.engine.model_calls import ModelCalls, Recorder
from swarmstream.errors import quote
from swarmstream.events import CustomEvent, ToolCall, ToolEnded, ToolStarted
from swarmstream.llm.base import ChatMessage, JsonObject
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import Tool

_CANCELLED = "the call was cancelled"

_IN_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME_LENGTH = 64


class ToolUse:
    """Tools by name, on behalf of one turn. The first of a name counts."""

    def __init__(self, agent: str, turn: int, recorder: Recorder, speech: ModelCalls) -> None:
        self._agent = agent
        self._turn = turn
        self._recorder = recorder
        self._speech = speech
        self._tools: dict[str, Tool] = {}
        self._callers: dict[str, JsonObject] = {}

    def add(self, tools: Iterable[Tool]) -> None:
        """Offer these, too."""
        for tool in tools:
            self._tools.setdefault(tool.name, tool)

    def add_callers(self, schemas: Iterable[JsonObject]) -> None:
        """Offer tools that the caller runs."""
        for schema in schemas:
            self._callers[cast(str, cast(JsonObject, schema["function"])["name"])] = schema

    def has(self, name: str) -> bool:
        """Whether a tool of this name is offered."""
        return name in self._tools or name in self._callers

    def only(self, tools: Iterable[Tool]) -> "ToolUse":
        """The same turn with nothing but these."""
        use = ToolUse(self._agent, self._turn, self._recorder, self._speech)
        use.add(tools)
        return use

    def having(self, tools: Iterable[Tool]) -> "ToolUse":
        """The same turn with these as well, which come first."""
        use = self.only(tools)
        use.add(self._tools.values())
        return use

    def schemas(self) -> list[JsonObject]:
        """What the model is offered, in the format of OpenAI's API."""
        ours = [tool.schema() for tool in self._tools.values() if tool.name not in self._callers]
        return [*ours, *self._callers.values()]

    def callers(self, calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
        """Those of the calls that are the caller's to answer."""
        return tuple(call for call in calls if call.name in self._callers)

    async def answer(self, reply: Reply) -> list[ChatMessage]:
        """Run what the model called, all at once; the messages that it goes on from.

        Whatever goes wrong is told to the model, once.

        Raises:
            TurnTimeout: the turn's time was over first.
        """
        calls = reply.tool_calls
        for call in calls:
            self._recorder.append(ToolStarted(self._recorder.now_ms(), self._agent, self._turn, call))
        handles: list[TaskHandle[str]] = []
        with time_limit(clock := self._speech.clock, self._speech.ends - clock.now()) as scope:
            async with create_task_group() as tasks:
                handles += [tasks.create_task(self._run(call), name=f"tool {call.name}") for call in calls]
        if scope.cancelled_caught:
            raise self._speech.timeout_error()
        answers = [
            {"role": "tool", "tool_call_id": _id(reply, call), "content": handle.return_value}
            for call, handle in zip(calls, handles, strict=True)
        ]
        return [_calling(reply), *answers]

    def tell_fault(self, number: int, tool: str, message: str) -> None:
        """Some tools cannot be offered: the reader learns of it as of a call that failed."""
        call = ToolCall(f"fault_{number}", tool, "")
        now_ms = self._recorder.now_ms()
        self._recorder.append(ToolStarted(now_ms, self._agent, self._turn, call))
        self._record_end(call, message, now_ms, is_error=True)

    def write(self, name: str, data: JsonValue) -> None:
        """Write to the run's stream."""
        self._recorder.append(CustomEvent(self._recorder.now_ms(), self._agent, self._turn, name, data))

    async def _run(self, call: ToolCall) -> str:
        began_ms = self._recorder.now_ms()
        is_error = True
        output = _CANCELLED
        try:
            output = await self._perform(call)
            is_error = False
        except ToolError as error:
            output = str(error)
        finally:
            self._record_end(call, output, began_ms, is_error=is_error)
        return output

    async def _perform(self, call: ToolCall) -> str:
        tool = self._tools.get(call.name)
        if tool is None:
            known = f"there are {', '.join(self._tools)}" if self._tools else "there are none"
            raise ToolError(f"there is no tool {quote(call.name)}; {known}")
        context = ToolContext(agent=self._agent, turn=self._turn, tool_call_id=call.id, tool=call.name, sink=self.write)
        return await tool.call(call.arguments, context, self._speech.clock)

    def _record_end(self, call: ToolCall, output: str, began_ms: int, *, is_error: bool) -> None:
        now_ms = self._recorder.now_ms()
        seconds = (now_ms - began_ms) / 1000
        self._recorder.append(ToolEnded(now_ms, self._agent, self._turn, call.id, call.name, output, is_error, seconds))


def _calling(reply: Reply) -> ChatMessage:
    """What the model said, as it is told of it in the next call."""
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": _possible(call.name), "arguments": _readable(call.arguments)},
            **reply.extras.get(call.id, {}),
        }
        for call in reply.tool_calls
    ]
    return {"role": "assistant", "content": reply.text or None, "tool_calls": calls, **reply.echo}


def _id(reply: Reply, call: ToolCall) -> str:
    """As the provider calls it."""
    return reply.extras.get(call.id, {}).get("id", call.id)


def _possible(name: str) -> str:
    """The name; where no tool can have it, one like it, for providers refuse others even in what was said before."""
    return _IN_NO_NAME.sub("_", name)[:_MAX_NAME_LENGTH] or "unknown"


def _readable(arguments: str) -> str:
    """The arguments; none where they are no JSON object, for some adapters and providers read them."""
    try:
        return arguments if isinstance(from_json(arguments.encode(), allow_inf_nan=False), dict) else "{}"
    except ValueError:
        return "{}"
