"""The outputs of turns, in the shapes of answers and of `end`."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from swarmstream.events import RunDescribed, ToolCall, TurnEnded
from swarmstream.journal.summary import Summary
from swarmstream.wire.shapes.outputs import AgentOutput, CallerToolCall, SwarmOutput, ToolCallFunction


def swarm_outputs(summary: Summary) -> list[SwarmOutput]:
    """Return an entry for each turn that has ended, in flow order."""
    return [
        SwarmOutput(role=turn.agent, content=_content(turn), **_text(turn), **task_index(turn.task_index))
        for turn in summary.answers
    ]


def agent_outputs(summary: Summary) -> list[AgentOutput]:
    """Return the same as `swarm_outputs` in the agent route's shape."""
    described = summary.described
    assert described is not None
    return [
        AgentOutput(
            role=turn.agent,
            content=_content(turn),
            **_text(turn),
            timestamp=timestamp(described, turn.t_ms),
            message_id=f"{described.job_id}-{turn.turn}",
        )
        for turn in summary.answers
    ]


def task_index(index: int | None) -> dict[str, Any]:
    """Return the field `task_index`, which is there only where the request had `tasks`."""
    return {} if index is None else {"task_index": index}


def _text(turn: TurnEnded) -> dict[str, Any]:
    return {"text": turn.output} if turn.tool_calls and turn.output else {}


def tool_calls(calls: Iterable[ToolCall]) -> list[CallerToolCall]:
    """Return the calls that the client is to run, as OpenAI's API writes them."""
    return [
        CallerToolCall(id=call.id, type="function", function=ToolCallFunction(name=call.name, arguments=call.arguments))
        for call in calls
    ]


def _content(turn: TurnEnded) -> str | list[CallerToolCall]:
    return tool_calls(turn.tool_calls) if turn.tool_calls else turn.output


def timestamp(described: RunDescribed, t_ms: int) -> str:
    """Return the time of an event `t_ms` milliseconds after the run began, as ISO 8601 in UTC."""
    return (described.created_at + timedelta(milliseconds=t_ms)).isoformat()
