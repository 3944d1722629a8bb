"""swarmstream: teams of LLM agents, every token streamed and tagged with its speaker; over HTTP and from Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarmstream.library import (
        Agent,
        AgentEvent,
        AgentRearrange,
        AppError,
        Cancelled,
        ConcurrentWorkflow,
        Failed,
        RunFailure,
        RunHandle,
        SequentialWorkflow,
        TeamEvent,
        TimedOut,
        ToolContext,
        ToolError,
        tool,
    )

__version__ = "0.1.0"

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


def __getattr__(name: str) -> Any:
    """The Python face is imported by whoever asks for it: a server and the command line start without."""
    if name in __all__:
        from swarmstream import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
