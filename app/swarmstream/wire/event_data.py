"""An event as its name and its `data` (docs/wire.md, section 4)."""

from typing import Any, assert_never, cast

import orjson

from swarmstream.events import (
    CustomEvent,
    Event,
    ReasoningDelta,
    RunDescribed,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnFailed,
    TurnRestarted,
    TurnStarted,
    UsageTotalled,
)
from swarmstream.journal.summary import Summary
from swarmstream.wire.outputs import agent_outputs, swarm_outputs, task_index, timestamp, tool_calls
from swarmstream.wire.shapes.events import (
    AgentEndFrame,
    AgentMetadataFrame,
    AgentRunEndFrame,
    AgentStartFrame,
    AgentUsageFrame,
    ChunkFrame,
    CustomFrame,
    ErrorFrame,
    EventData,
    ReasoningFrame,
    StartFrame,
    SwarmEndFrame,
    SwarmMetadataFrame,
    SwarmUsageFrame,
    ToolEndFrame,
    ToolStartFrame,
    TurnRestartFrame,
)
from swarmstream.wire.shapes.usage import AgentRunUsage
from swarmstream.wire.usage import agent_usage, swarm_usage, turn_usage


def event_data(event: Event, summary: Summary) -> tuple[str, EventData]:
    """Return the name and the `data` of an event; `summary` has observed it and all before it.

    A `chunk` comes without `output`, which `RunFold.outputs` is for.
    """
    is_swarm = summary.described is not None and summary.described.kind == "swarm"
    match event:
        case RunDescribed():
            return "metadata", _swarm_metadata(event) if is_swarm else _agent_metadata(event)
        case RunStarted():
            message = "Swarm started" if is_swarm else "Starting agent processing..."
            return "start", StartFrame(t=event.t_ms, message=message, status="started")
        case TurnStarted():
            return "agent_start", _agent_start(event)
        case ToolStarted() | ToolEnded() | CustomEvent():
            return _action(event)
        case TurnRestarted():
            return "turn_restart", TurnRestartFrame(
                agent=event.agent,
                turn=event.turn,
                attempt=event.attempt,
                discard_from=event.discard_from,
                t=event.t_ms,
            )
        case TurnEnded():
            return "agent_end", _agent_end(event)
        case TurnFailed():
            return "error", _turn_error(event)
        case RunFailed():
            return "error", _run_error(event)
        case UsageTotalled():
            if is_swarm:
                return "usage", SwarmUsageFrame(t=event.t_ms, **swarm_usage(event))
            return "usage", AgentUsageFrame(t=event.t_ms, **agent_usage(event))
        case RunEnded():
            return "end", _swarm_end(event, summary) if is_swarm else _agent_run_end(event, summary)
        case TextDelta():
            return "chunk", _chunk(event)
        case ReasoningDelta():
            return "reasoning", ReasoningFrame(agent=event.agent, turn=event.turn, content=event.text, t=event.t_ms)
        case _:
            assert_never(event)


def _chunk(event: TextDelta) -> ChunkFrame:
    chunk = ChunkFrame(agent=event.agent, turn=event.turn, content=event.text, t=event.t_ms)
    if event.step > 1:
        chunk["step"] = event.step
    return chunk


def _swarm_metadata(event: RunDescribed) -> SwarmMetadataFrame:
    return SwarmMetadataFrame(
        type="metadata",
        job_id=event.job_id,
        swarm_name=event.name,
        swarm_type=event.swarm_type or "",
        number_of_agents=event.number_of_agents,
        description=event.description,
        service_tier=event.service_tier,
        warnings=list(event.warnings),
        metadata=event.metadata,
        max_calls=event.max_calls,
        t=event.t_ms,
    )


def _agent_metadata(event: RunDescribed) -> AgentMetadataFrame:
    return AgentMetadataFrame(
        type="metadata",
        job_id=event.job_id,
        name=event.name,
        description=event.description,
        temperature=event.temperature,
        timestamp=timestamp(event, 0),
        success=True,
        stream=True,
        warnings=list(event.warnings),
        metadata=event.metadata,
        max_calls=event.max_calls,
        t=event.t_ms,
    )


def _agent_start(event: TurnStarted) -> AgentStartFrame:
    return AgentStartFrame(
        agent=event.agent,
        turn=event.turn,
        stage=event.stage,
        loop=event.loop,
        model=event.model,
        lane=event.lane,
        t=event.t_ms,
        **task_index(event.task_index),
    )


def _action(event: ToolStarted | ToolEnded | CustomEvent) -> tuple[str, EventData]:
    """Return the name and the `data` of what an agent does beside streaming text."""
    match event:
        case ToolStarted():
            return "tool_start", _tool_start(event)
        case ToolEnded():
            return "tool_end", _tool_end(event)
        case CustomEvent():
            return "custom", CustomFrame(
                agent=event.agent, turn=event.turn, name=event.name, data=event.data, t=event.t_ms
            )


def _tool_start(event: ToolStarted) -> ToolStartFrame:
    return ToolStartFrame(
        agent=event.agent,
        turn=event.turn,
        tool_call_id=event.call.id,
        tool=event.call.name,
        arguments=_arguments(event.call.arguments),
        t=event.t_ms,
    )


def _arguments(text: str) -> dict[str, Any] | str:
    """Return a call's arguments as an object where they are one that orjson can write again, else as they are. An empty
    text is an empty object."""
    if not text.strip():
        return {}
    try:
        arguments: Any = orjson.loads(text)
        orjson.dumps([arguments])  # nested as deep as in its frame
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text
    return cast(dict[str, Any], arguments) if isinstance(arguments, dict) else text


def _tool_end(event: ToolEnded) -> ToolEndFrame:
    return ToolEndFrame(
        agent=event.agent,
        turn=event.turn,
        tool_call_id=event.tool_call_id,
        tool=event.tool,
        output=event.output,
        is_error=event.is_error,
        duration=event.duration_seconds,
        t=event.t_ms,
    )


def _agent_end(event: TurnEnded) -> AgentEndFrame:
    optional: dict[str, Any] = {"tool_calls": tool_calls(event.tool_calls)} if event.tool_calls else {}
    if event.warnings:
        optional["warnings"] = list(event.warnings)
    return AgentEndFrame(
        agent=event.agent,
        turn=event.turn,
        model=event.model,
        output=event.output,
        status=event.status,
        finish_reason=event.finish_reason,
        usage=turn_usage(event.usage),
        duration=event.duration_seconds,
        t=event.t_ms,
        **task_index(event.task_index),
        **optional,
    )


def _turn_error(event: TurnFailed) -> ErrorFrame:
    return ErrorFrame(
        error=event.failure.message,
        code=event.failure.code,
        retryable=event.failure.retryable,
        agent=event.agent,
        turn=event.turn,
        attempts=event.attempts,
        elapsed_seconds=event.elapsed_seconds,
        t=event.t_ms,
    )


def _run_error(event: RunFailed) -> ErrorFrame:
    timed_out: dict[str, Any] = {}
    if event.timeout_seconds is not None:
        timed_out = {"timeout": event.timeout_seconds, "active_agents": list(event.active_agents)}
    return ErrorFrame(
        error=event.failure.message,
        code=event.failure.code,
        retryable=event.failure.retryable,
        elapsed_seconds=event.elapsed_seconds,
        t=event.t_ms,
        **timed_out,
    )


def _swarm_end(event: RunEnded, summary: Summary) -> SwarmEndFrame:
    assert summary.described is not None
    return SwarmEndFrame(
        job_id=summary.described.job_id,
        status=event.status,
        execution_time=event.duration_seconds,
        output=swarm_outputs(summary),
        failed_agents=list(event.failed_agents),
        t=event.t_ms,
    )


def _agent_run_end(event: RunEnded, summary: Summary) -> AgentRunEndFrame:
    assert summary.described is not None
    assert summary.usage is not None
    return AgentRunEndFrame(
        job_id=summary.described.job_id,
        status=event.status,
        execution_time=event.duration_seconds,
        outputs=agent_outputs(summary),
        usage=AgentRunUsage(**agent_usage(summary.usage)),
        complete=event.status == "success",
        timestamp=timestamp(summary.described, event.t_ms),
        failed_agents=list(event.failed_agents),
        t=event.t_ms,
    )
