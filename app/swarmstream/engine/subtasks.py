"""The subtasks of an autonomous agent's plan, in all the forms in which models write them."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

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

from swarmstream.errors import quote
from swarmstream.tools.errors import ToolError

MAX_SUBTASKS = 20
_MAX_TEXT = 2_000
_MAX_ID = 100

PLAN_EXPECTED = "What is expected now is a call of create_plan with at least one subtask; nothing else counts."


class Subtask(TypedDict):
    """A step of the plan, as the event `plan` shows it."""

    id: str
    title: str
    depends_on: list[str]


def in_order(subtasks: Sequence[Subtask]) -> Iterator[Subtask]:
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


def parse_plan(arguments: Mapping[str, JsonValue]) -> list[Subtask]:
    """Return the plan in the arguments of a call of `create_plan`.

    Raises:
        ToolError: it is not sound; the text is for the model.
    """
    try:
        read = _written_subtasks.validate_python(_subtasks_in(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, ("subtasks", *first["loc"])))
        raise ToolError(f"{PLAN_EXPECTED} {quote(where)}: {first['msg']}") from error
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
    _check(subtasks)
    return subtasks


def _check(subtasks: Sequence[Subtask]) -> None:
    """Check that subtasks have ids and titles, and depend on each other without circles.

    Raises:
        ToolError: they do not.
    """
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
