"""The shapes of outputs: what turns answered, as answers and `end` events list it."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class ToolCallFunction(TypedDict):
    """`arguments` is the model's own text, JSON if it could write that."""

    name: str
    """The name of the tool."""
    arguments: str
    """The model's own text: JSON, if it could write that."""


class CallerToolCall(TypedDict):
    """A call that the caller is to run, as OpenAI's API has it."""

    id: str
    """What the message with the result gives as its `tool_call_id`."""
    type: Literal["function"]
    """The kind of tool; there is one."""
    function: ToolCallFunction
    """The tool that is called, and with what."""


class SwarmOutput(TypedDict):
    """One turn's answer; `role` is the agent's name, `content` its text or the tool calls that the caller is to run."""

    role: str
    """The agent's name."""
    content: str | list[CallerToolCall]
    """The agent's answer, or the tool calls that the caller is to run."""
    text: NotRequired[str]
    """What was said beside the tool calls; there only with them."""
    task_index: NotRequired[int]
    """The task that the turn works on, from 0; there only where the request had `tasks`."""


class AgentOutput(TypedDict):
    """The agent's answer; `role` is its name, `content` its text or the tool calls that the caller is to run."""

    role: str
    """The agent's name."""
    content: str | list[CallerToolCall]
    """The agent's answer, or the tool calls that the caller is to run."""
    text: NotRequired[str]
    """What was said beside the tool calls; there only with them."""
    timestamp: str
    """When the turn ended, as ISO 8601 in UTC."""
    message_id: str
    """An id of the answer: the run's with the turn's number."""
