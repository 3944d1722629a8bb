"""The turn of an autonomous agent: it plans its work, executes the plan, and sums up (docs/engine.md, "One turn")."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json
from typing_extensions import TypedDict

from swarmstream.engine.final_answer import answer_without_tools
from swarmstream.engine.model_calls import ModelCalls
from swarmstream.engine.reply import Reply
from swarmstream.engine.tool_calls import ToolCalls
from swarmstream.engine.toolsets import ServerTools
from swarmstream.errors import PlanFailed, quote
from swarmstream.llm.base import ChatMessage, JsonObject
from swarmstream.swarm.response_format import AnswerFormat
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import Tool

MAX_PLAN_TRIES = 3
MAX_SUBTASKS = 20
MAX_CALLS_PER_SUBTASK = 8
MAX_CALLS = 50
"""Of the whole turn, before its summary."""
_MAX_TEXT = 2_000
_MAX_ID = 100

_PLAN_FIRST = (
    "Plan first. Call create_plan with the subtasks that this takes, each with an id, a title and the ids of the "
    "subtasks that it depends on. Do not begin to work on them yet."
)
_PLAN_EXPECTED = "What is expected now is a call of create_plan with at least one subtask; nothing else counts."
_DONE_EXPECTED = "Go on, or call subtask_done if this subtask is done."
_SUM_UP = (
    "The work is done. Now write the answer to the task itself, whole, from what you have found out. "
    "It is all that the reader gets to see."
)


class Subtask(TypedDict):
    """A step of the plan, as the event `plan` shows it."""

    id: str
    title: str
    depends_on: list[str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PlanTool(Tool):
    """The tool of a planning model; the first sound plan fills `subtasks`."""

    subtasks: list[Subtask] = field(default_factory=list[Subtask])

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        if self.subtasks:
            raise ToolError("there is a plan already")
        self.subtasks.extend(_checked_plan(_subtasks_in(values)))
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

    def __init__(self, calls: ModelCalls, tools: ToolCalls, messages: Sequence[ChatMessage]) -> None:
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
        for subtask in _in_order(subtasks):
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
                self._instruct(_PLAN_EXPECTED)
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


def _in_order(subtasks: Sequence[Subtask]) -> Iterator[Subtask]:
    """Yield each subtask after all that it depends on, else in the model's order."""
    waiting = list(subtasks)
    done: set[str] = set()
    while waiting:
        following = next(subtask for subtask in waiting if done.issuperset(subtask["depends_on"]))
        waiting.remove(following)
        done.add(following["id"])
        yield following


class _WrittenSubtask(BaseModel):
    """A subtask as models write it, also under the names of other frameworks."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    id: str | None = Field(None, validation_alias=AliasChoices("id", "step_id", "task_id", "subtask_id"))
    title: str | None = Field(None, validation_alias=AliasChoices("title", "name", "task"))
    description: str | None = None
    depends_on: list[str] | None = Field(None, validation_alias=AliasChoices("depends_on", "dependencies"))

    @model_validator(mode="before")
    @classmethod
    def _as_object(cls, value: Any) -> Any:
        return {"title": value} if isinstance(value, str) else value

    @field_validator("depends_on", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int) else value


_written_subtasks = TypeAdapter(list[_WrittenSubtask])


def _subtasks_in(values: Mapping[str, JsonValue]) -> JsonValue:
    """Return the subtasks in the arguments of a plan, under any name that models have for them."""
    found = next((values[name] for name in ("subtasks", "steps", "tasks", "plan") if name in values), None)
    if not isinstance(found, str):
        return found
    try:
        return from_json(found)
    except ValueError:
        return found


def _checked_plan(written: JsonValue) -> list[Subtask]:
    """Return the plan.

    Raises:
        ToolError: it is not sound; the text is for the model.
    """
    try:
        read = _written_subtasks.validate_python(written)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, ("subtasks", *first["loc"])))
        raise ToolError(f"{_PLAN_EXPECTED} {quote(where)}: {first['msg']}") from error
    if not 1 <= len(read) <= MAX_SUBTASKS:
        raise ToolError(f"a plan has 1 to {MAX_SUBTASKS} subtasks")
    subtasks = [
        Subtask(
            id=(item.id or str(number))[:_MAX_ID],
            title=(item.title or item.description or "")[:_MAX_TEXT],
            depends_on=[other[:_MAX_ID] for other in item.depends_on or ()],
        )
        for number, item in enumerate(read, start=1)
    ]
    ids = {subtask["id"] for subtask in subtasks}
    if len(ids) < len(subtasks):
        raise ToolError("two subtasks have the same id")
    for subtask in subtasks:
        if not subtask["title"].strip():
            raise ToolError(f"the subtask {quote(subtask['id'])} has no title")
        for other in subtask["depends_on"]:
            if other not in ids:
                raise ToolError(f"{quote(subtask['id'])} depends on {quote(other)}, which is no subtask")
    try:
        TopologicalSorter({subtask["id"]: subtask["depends_on"] for subtask in subtasks}).prepare()
    except CycleError as error:
        raise ToolError("subtasks depend on each other in a circle") from error
    return subtasks


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
