"""The Python face: agents and teams of them, run in this process by the server's own engine."""

from app.library.agent import Agent
from app.library.ends import Cancelled, Failed, RunFailure, TimedOut
from app.library.event_types import AgentEvent, TeamEvent
from app.library.handle import RunHandle
from app.library.payload import frames_of_payload
from app.library.workflows import AgentRearrange, ConcurrentWorkflow, SequentialWorkflow
from app.tools.tool import ToolContext, ToolError, tool

__all__ = [
    "Agent",
    "AgentEvent",
    "AgentRearrange",
    "Cancelled",
    "ConcurrentWorkflow",
    "Failed",
    "RunFailure",
    "RunHandle",
    "SequentialWorkflow",
    "TeamEvent",
    "TimedOut",
    "ToolContext",
    "ToolError",
    "frames_of_payload",
    "tool",
]
