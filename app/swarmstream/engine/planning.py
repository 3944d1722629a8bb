"""The turn of an autonomous agent: it plans its work, executes the plan, and sums up (docs/engine.md, "One turn")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from swarmstream.engine.caller import Caller
from swarmstream.engine.final_answer import answer_without_tools
from swarmstream.engine.reply import Reply
from swarmstream.engine.subtasks import MAX_SUBTASKS, PLAN_EXPECTED, Subtask, in_order, parse_plan
from swarmstream.engine.tool_calls import ToolCalls
from swarmstream.engine.toolsets import ServerTools
from swarmstream.errors import PlanFailed
from swarmstream.llm.messages import ChatMessage, JsonObject
from swarmstream.swarm.response_format import AnswerFormat
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError

MAX_PLAN_TRIES = 3
MAX_CALLS_PER_SUBTASK = 8
MAX_CALLS = 50
"""Of the whole turn, before its summary."""

_PLAN_FIRST = (
    "Plan first. Call create_plan with the subtasks that this takes, each with an id, a title and the ids of the "
    "subtasks that it depends on. Do not begin to work on them yet."
)
_DONE_EXPECTED = "Go on, or call subtask_done if this subtask is done."
_SUM_UP = (
    "The work is done. Now write the answer to the task itself, whole, from what you have found out. "
    "It is all that the reader gets to see."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PlanTool(Tool):
    """The tool of a planning model; the first sound plan fills `subtasks`."""

    subtasks: list[Subtask] = field(default_factory=list[Subtask])

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        if self.subtasks:
            raise ToolError("there is a plan already")
        self.subtasks.extend(parse_plan(values))
        return "the plan is accepted"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _DoneTool(Tool):
    """The tool by which a model ends its subtask; its call fills `results`."""

    results: list[str] = field(default_factory=list[str])

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        result = values.get("result")
        self.results.append(result if isinstance(result, str) else "")
        return "the subtask is done"


class AutonomousTurn:
    """One turn of an agent that decides by itself how often it calls its model, within bounds."""

    def __init__(self, calls: Caller, tools: ToolCalls, messages: Sequence[ChatMessage]) -> None:
        self._calls = calls
        self._tools = tools
        self._messages = list(messages)
        self._calls_left = MAX_CALLS

    async def run(self, answer_format: AnswerFormat | None) -> list[ChatMessage]:
        """Plan, execute, sum up; return the messages that the summary answered.

        Raises:
            PlanFailed: the model did not come up with a plan.
            ModelError: one of its calls failed.
        """
        subtasks = await self._plan()
        for subtask in in_order(subtasks):
            await self._work_on(subtask)
        self._instruct(_SUM_UP)
        return await answer_without_tools(self._calls, self._messages, answer_format)

    async def _plan(self) -> list[Subtask]:
        planning = _plan_tool()
        tools = self._tools.with_toolsets([ServerTools([planning])])
        self._instruct(_PLAN_FIRST)
        for _ in range(MAX_PLAN_TRIES):
            reply = await self._call(tools)
            if planning.subtasks:
                self._tools.write("plan", {"subtasks": cast(list[JsonValue], planning.subtasks)})
                return planning.subtasks
            if not reply.tool_calls:
                self._instruct(PLAN_EXPECTED)
        raise PlanFailed(f"the model did not come up with a plan in {MAX_PLAN_TRIES} tries")

    async def _work_on(self, subtask: Subtask) -> None:
        self._tools.write("subtask_start", {"id": subtask["id"], "title": subtask["title"]})
        status = await self._execute(subtask) if self._calls_left else "skipped"
        self._tools.write("subtask_end", {"id": subtask["id"], "title": subtask["title"], "status": status})

    async def _execute(self, subtask: Subtask) -> str:
        """Return the subtask's status: `done`, or `unfinished` where the bound on calls came first."""
        done = _done_tool()
        tools = self._tools.with_toolsets([ServerTools([done]), *self._tools.toolsets])
        self._instruct(f"Work on subtask {subtask['id']} now: {subtask['title']}. Call subtask_done when it is done.")
        was_reminded = False
        for _ in range(min(MAX_CALLS_PER_SUBTASK, self._calls_left)):
            reply = await self._call(tools)
            if done.results or (was_reminded and not reply.tool_calls):
                return "done"
            if not reply.tool_calls:
                was_reminded = True
                self._instruct(_DONE_EXPECTED)
        return "unfinished"

    async def _call(self, tools: ToolCalls) -> Reply:
        """Call the model, run the tools that it calls, and extend the conversation by both."""
        self._calls_left -= 1
        reply = await self._calls.call(self._messages, tools.schemas())
        if reply.tool_calls:
            self._messages += await tools.answer(reply)
        elif reply.text:
            self._messages.append({"role": "assistant", "content": reply.text})
        return reply

    def _instruct(self, text: str) -> None:
        self._messages.append({"role": "user", "content": text})


def _plan_tool() -> _PlanTool:
    text: JsonObject = {"type": "string"}
    subtask: JsonObject = {
        "type": "object",
        "properties": {"id": text, "title": text, "depends_on": {"type": "array", "items": text}},
        "required": ["id", "title"],
    }
    return _PlanTool(
        name="create_plan",
        description="Lay down the subtasks of the work. depends_on has the ids of subtasks that come before.",
        parameters={
            "type": "object",
            "properties": {"subtasks": {"type": "array", "items": subtask, "minItems": 1, "maxItems": MAX_SUBTASKS}},
            "required": ["subtasks"],
        },
    )


def _done_tool() -> _DoneTool:
    return _DoneTool(
        name="subtask_done",
        description="Say that the present subtask is done.",
        parameters={
            "type": "object",
            "properties": {"result": {"type": "string", "description": "What came of it, in short."}},
        },
    )
