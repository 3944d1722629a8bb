"""The Python face: agents and teams of them, run in this process by the server's own engine.

`__all__` is the one list of the names that `from swarmstream import …` has.
"""

from swarmstream.errors import AppError
from swarmstream.library.agent import Agent
from swarmstream.library.event_types import AgentEvent, TeamEvent
from swarmstream.library.handle import RunHandle
from swarmstream.library.outcomes import Cancelled, Failed, RunFailure, TimedOut
from swarmstream.library.workflows import AgentRearrange, ConcurrentWorkflow, SequentialWorkflow
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import tool

__all__ = [
    "Agent",
    "AgentEvent",
    "AgentRearrange",
    "AppError",
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
    "tool",
]
