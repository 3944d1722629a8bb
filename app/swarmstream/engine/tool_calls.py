"""The tools of one turn: what its model is offered, and how its calls are answered (docs/engine.md, "One turn")."""

import re
from collections.abc import Iterable, Mapping, Sequence

from anyio import TaskHandle, create_task_group
from pydantic import JsonValue
from pydantic_core import from_json

from swarmstream.clock import Clock
from swarmstream.engine.recorder import Recorder
from swarmstream.engine.reply import Reply
from swarmstream.engine.timeouts import Deadline
from swarmstream.engine.toolsets import Toolset
from swarmstream.errors import quote
from swarmstream.events import CustomEvent, ToolCall, ToolEnded, ToolStarted
from swarmstream.llm.messages import ChatMessage, JsonObject
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError

_CANCELLED = "the call was cancelled"

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME_LENGTH = 64


class ToolCalls:
    """The tool calls of one turn. Of two tools with one name, that of the first toolset counts."""

    def __init__(
        self,
        agent: str,
        turn: int,
        recorder: Recorder,
        deadline: Deadline,
        clock: Clock,
        toolsets: Sequence[Toolset] = (),
    ) -> None:
        self.toolsets = toolsets
        self._tools: dict[str, Tool | None] = {}
        for toolset in toolsets:
            for name, tool in toolset.tools.items():
                self._tools.setdefault(name, tool)
        self._agent = agent
        self._turn = turn
        self._recorder = recorder
        self._deadline = deadline
        self._clock = clock

    def with_toolsets(self, toolsets: Sequence[Toolset]) -> "ToolCalls":
        """Return the same turn with these toolsets instead."""
        return ToolCalls(self._agent, self._turn, self._recorder, self._deadline, self._clock, toolsets)

    @property
    def ends_turn(self) -> bool:
        """True once a call has ended the turn."""
        return any(toolset.ends_turn for toolset in self.toolsets)

    def schemas(self) -> list[JsonObject]:
        """Return what the model is offered, in OpenAI's format."""
        offered: dict[str, JsonObject] = {}
        for toolset in self.toolsets:
            for name, schema in toolset.schemas().items():
                offered.setdefault(name, schema)
        return list(offered.values())

    def left_to_client(self, calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
        """Return those of the calls that the client is to answer: their tools are offered, but not ours."""
        return tuple(call for call in calls if call.name in self._tools and self._tools[call.name] is None)

    async def answer(self, reply: Reply) -> list[ChatMessage]:
        """Run the tools that the reply calls, all at once; return the messages that the model goes on from.

        A tool that fails is answered by its error; it does not run again.

        Raises:
            TurnTimeout: the turn's deadline came first.
        """
        calls = reply.tool_calls
        for call in calls:
            self._recorder.append(ToolStarted(self._recorder.now_ms(), self._agent, self._turn, call))
        handles: list[TaskHandle[str]] = []
        with self._deadline.limit():
            async with create_task_group() as tasks:
                handles += [tasks.create_task(self._run(call), name=f"tool {call.name}") for call in calls]
        answers = [
            {"role": "tool", "tool_call_id": _provider_id(reply, call), "content": handle.return_value}
            for call, handle in zip(calls, handles, strict=True)
        ]
        return [_as_message(reply), *answers]

    def report_fault(self, number: int, tool: str, message: str) -> None:
        """Append a failed call, the turn's fault of this number: tools that are missing show to readers as one."""
        call = ToolCall(f"fault_{number}", tool, "")
        now_ms = self._recorder.now_ms()
        self._recorder.append(ToolStarted(now_ms, self._agent, self._turn, call))
        self._append_end(call, message, now_ms, is_error=True)

    def write(self, name: str, data: JsonValue) -> None:
        """Append a `custom` event."""
        self._recorder.append(CustomEvent(self._recorder.now_ms(), self._agent, self._turn, name, data))

    async def _run(self, call: ToolCall) -> str:
        began_ms = self._recorder.now_ms()
        is_error = True
        output = _CANCELLED
        try:
            tool = _named(call.name, self._tools)
            context = ToolContext(
                agent=self._agent, turn=self._turn, tool_call_id=call.id, tool=call.name, sink=self.write
            )
            output = await tool.call(call.arguments, context, self._clock)
            is_error = False
        except ToolError as error:
            output = str(error)
        finally:
            self._append_end(call, output, began_ms, is_error=is_error)
        return output

    def _append_end(self, call: ToolCall, output: str, began_ms: int, *, is_error: bool) -> None:
        now_ms = self._recorder.now_ms()
        seconds = (now_ms - began_ms) / 1000
        self._recorder.append(ToolEnded(now_ms, self._agent, self._turn, call.id, call.name, output, is_error, seconds))


def _named(name: str, tools: Mapping[str, Tool | None]) -> Tool:
    """Return the tool of this name.

    Raises:
        ToolError: none is answered here.
    """
    tool = tools.get(name)
    if tool is None:
        ours = [other for other, known in tools.items() if known is not None]
        listed = f"there are {', '.join(ours)}" if ours else "there are none"
        raise ToolError(f"there is no tool {quote(name)}; {listed}")
    return tool


def _as_message(reply: Reply) -> ChatMessage:
    """Return the reply as the assistant's message in the next call."""
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": _valid_name(call.name), "arguments": _readable(call.arguments)},
            **reply.extras.get(call.id, {}),
        }
        for call in reply.tool_calls
    ]
    return {"role": "assistant", "content": reply.text or None, "tool_calls": calls, **reply.echo}


def _provider_id(reply: Reply, call: ToolCall) -> str:
    return reply.extras.get(call.id, {}).get("id", call.id)


def _valid_name(name: str) -> str:
    """Return the name, or one like it that tools can have: providers refuse others even in earlier messages."""
    return _NOT_IN_NAMES.sub("_", name)[:_MAX_NAME_LENGTH] or "unknown"


def _readable(arguments: str) -> str:
    """Return the arguments, or `{}` where they are not a JSON object: some adapters and providers parse them."""
    try:
        return arguments if isinstance(from_json(arguments.encode(), allow_inf_nan=False), dict) else "{}"
    except ValueError:
        return "{}"
