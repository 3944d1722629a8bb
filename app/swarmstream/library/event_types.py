"""The events that `run_stream(with_events=True)` yields, as types: `event["type"]` tells which one it is."""

from typing import Literal, NotRequired, TypeAlias

from swarmstream.wire.shapes.events import (
    AgentEndFrame,
    AgentMetadataFrame,
    AgentRunEndFrame,
    AgentStartFrame,
    AgentUsageFrame,
    CustomFrame,
    ErrorFrame,
    Frame,
    ReasoningFrame,
    StartFrame,
    SwarmEndFrame,
    SwarmMetadataFrame,
    SwarmUsageFrame,
    ToolEndFrame,
    ToolStartFrame,
)


class StartEvent(StartFrame):
    type: Literal["start"]


class AgentStartEvent(AgentStartFrame):
    type: Literal["agent_start"]


class TokenEvent(Frame):
    """A piece of an answer; `step` is there from the turn's second model call on."""

    type: Literal["token"]
    agent: str
    turn: int
    token: str
    step: NotRequired[int]


class ReasoningEvent(ReasoningFrame):
    type: Literal["reasoning"]


class ToolStartEvent(ToolStartFrame):
    type: Literal["tool_start"]


class ToolEndEvent(ToolEndFrame):
    type: Literal["tool_end"]


class CustomEvent(CustomFrame):
    type: Literal["custom"]


class AgentEndEvent(AgentEndFrame):
    type: Literal["agent_end"]


class ErrorEvent(ErrorFrame):
    type: Literal["error"]


class AgentUsageEvent(AgentUsageFrame):
    type: Literal["usage"]


class SwarmUsageEvent(SwarmUsageFrame):
    type: Literal["usage"]


class AgentRunEndEvent(AgentRunEndFrame):
    type: Literal["end"]


class SwarmEndEvent(SwarmEndFrame):
    type: Literal["end"]


AgentEvent: TypeAlias = (
    AgentMetadataFrame
    | StartEvent
    | AgentStartEvent
    | TokenEvent
    | ReasoningEvent
    | ToolStartEvent
    | ToolEndEvent
    | CustomEvent
    | AgentEndEvent
    | ErrorEvent
    | AgentUsageEvent
    | AgentRunEndEvent
)
"""An event of one agent's run."""

TeamEvent: TypeAlias = (
    SwarmMetadataFrame
    | StartEvent
    | AgentStartEvent
    | TokenEvent
    | ReasoningEvent
    | ToolStartEvent
    | ToolEndEvent
    | CustomEvent
    | AgentEndEvent
    | ErrorEvent
    | SwarmUsageEvent
    | SwarmEndEvent
)
"""An event of a team's run."""
