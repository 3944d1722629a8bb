"""What happened in a run, as the `data` of docs/wire.md's events (section 4)."""

from collections.abc import Iterable, Iterator
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
from swarmstream.journal.records import Entry
from swarmstream.journal.summary import Summary
from swarmstream.wire import answers
from swarmstream.wire.shapes.events import (
    AgentEndFrame,
    AgentMetadataFrame,
    AgentRunEndFrame,
    AgentStartFrame,
    AgentUsageFrame,
    ChunkFrame,
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
    TurnRestartFrame,
)
from swarmstream.wire.shapes.usage import AgentRunUsage


class FrameMaker:
    """One reader's frames as dicts: `{"id", "event", "data"}`. It must be shown every event from the first on."""

    def __init__(self, *, include_output: bool, after: int = 0) -> None:
        """`after` is the number of the last event that the reader has already."""
        self._include_output = include_output
        self._after = after
        self._summary = Summary()
        self._outputs: dict[int, str] = {}

    def frames(self, entries: Iterable[Entry]) -> Iterator[dict[str, Any]]:
        """The frames of these events that the reader does not have."""
        for number, event in entries:
            self._summary.observe(event)
            if self._include_output:
                self._note(event)
            if number <= self._after:
                continue
            name, data = frame(event, self._summary)
            fields = dict(data)
            if self._include_output and isinstance(event, TextDelta):
                fields["output"] = self._outputs[event.turn]
            yield {"id": number, "event": name, "data": fields}

    def _note(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._outputs[event.turn] = self._outputs.get(event.turn, "") + event.text
        elif isinstance(event, TurnEnded | TurnRestarted):
            self._outputs.pop(event.turn, None)


def frame(event: Event, summary: Summary) -> tuple[str, Frame]:
    """The name and the `data` of an event; `summary` has observed it and all before it.

    A `chunk` comes without `output`, which is its reader's business.
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
            return _act(event)
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
                return "usage", SwarmUsageFrame(t=event.t_ms, **answers.swarm_usage(event))
            return "usage", AgentUsageFrame(t=event.t_ms, **answers.agent_usage(event))
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
        timestamp=answers.timestamp(event, 0),
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
        **_task_index(event.task_index),
    )


def _act(event: ToolStarted | ToolEnded | CustomEvent) -> tuple[str, Frame]:
    """What an agent does beside speaking."""
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
    """As an object if they are one, which orjson can write again; none at all are an empty one."""
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
    some: dict[str, Any] = {"tool_calls": answers.tool_calls(event.tool_calls)} if event.tool_calls else {}
    if event.warnings:
        some["warnings"] = list(event.warnings)
    return AgentEndFrame(
        agent=event.agent,
        turn=event.turn,
        model=event.model,
        output=event.output,
        status=event.status,
        finish_reason=event.finish_reason,
        usage=answers.turn_usage(event.usage),
        duration=event.duration_seconds,
        t=event.t_ms,
        **_task_index(event.task_index),
        **some,
    )


def _task_index(task_index: int | None) -> dict[str, Any]:
    return {} if task_index is None else {"task_index": task_index}


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
        output=answers.swarm_outputs(summary),
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
        outputs=answers.agent_outputs(summary),
        usage=AgentRunUsage(**answers.agent_usage(summary.usage)),
        complete=event.status == "success",
        timestamp=answers.timestamp(summary.described, event.t_ms),
        failed_agents=list(event.failed_agents),
        t=event.t_ms,
    )
