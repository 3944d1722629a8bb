"""One agent's turn: its model calls and its tool calls, from `TurnStarted` to `TurnEnded` (docs/engine.md, "One turn").

A turn that has written its beginning writes its end, whatever happens between:

    begin ── prepare ── open tools ─┬─ loop: call the model, answer its tools ─┬─ keep to the format ── end
                                    └─ plan, work on the subtasks, sum up ─────┘

| the way out | status | output |
|---|---|---|
| a reply without tool calls | success | its text |
| `max_loops` is reached: one more call, without tools | success | its text |
| calls of the client's tools, none of which is run here | success | the text beside them; `tool_calls` |
| a handoff is accepted | success | the text beside it; `handed_to` |
| `ModelError`: the model, its answer, the plan or the deadline | failed | what there was of it |
| cancellation of the run | cancelled | what there was of it |
| any other exception, a bug of ours | failed | what there was of it; ends the run |

The beginning is committed before the first model call: if the process dies, the next one can take back what readers
saw of the turn only if the journal knows that it began. The end is appended before any other turn begins, for that one
commits its own beginning and with it all before it. A cancelled turn still goes through `finally`, so its end and the
usage of its open call are in the journal before the run ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from anyio import CancelScope, get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.engine.failures import as_failure
from swarmstream.engine.final_answer import answer_without_tools, keep_to_format
from swarmstream.engine.handoff import MAX_HANDOFFS_IN_A_ROW, Handoff, Handoffs
from swarmstream.engine.model_calls import ModelAccess, ModelCalls
from swarmstream.engine.omissions import RefusedFields
from swarmstream.engine.planning import AutonomousTurn
from swarmstream.engine.replay import RecoveredTurn
from swarmstream.engine.run_context import RunContext
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.engine.tool_calls import ToolCalls
from swarmstream.engine.toolsets import ClientTools, ServerTools, Toolset, without_taken
from swarmstream.errors import InternalError, ModelError
from swarmstream.events import Failure, ToolCall, TurnEnded, TurnFailed, TurnRestarted, TurnStarted, TurnStatus
from swarmstream.llm.base import ChatModel
from swarmstream.llm.messages import ChatMessage
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.swarm.plan import Agent
from swarmstream.tools.mcp.hub import McpHub, McpTools

_LEFT_OUT = "an MCP server's tool is left out: the agent has another one of this name"


@dataclass(frozen=True, slots=True)
class Turn:
    """An agent's turn, and its place in the plan."""

    agent: Agent
    number: int
    stage: int
    loop: int
    task_index: int | None
    position: int = 0
    """Of the agent in its stage, from 0; a receiver of a handoff has the position of the giver."""
    handoffs_left: int = MAX_HANDOFFS_IN_A_ROW
    recovered: RecoveredTurn | None = None
    """Its earlier attempt, which a crash interrupted or which came to its end."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The outcome of a turn. `failure` is the code of what ended it, None if it succeeded."""

    agent: str
    output: str
    failure: str | None
    handoff: Handoff | None = None
    """The turn that follows gives the answer instead."""


class TurnRunner:
    """Takes turns, with the models and the MCP servers of one process."""

    def __init__(
        self,
        models: Mapping[str, ChatModel],
        timeouts: TurnTimeouts,
        mcp: McpHub | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`models` are by lane."""
        self._access = ModelAccess(models, timeouts, RefusedFields(clock), clock)
        self._mcp = mcp or McpHub(AllowedHosts(()), clock=clock)

    async def take_turn(self, turn: Turn, messages: Sequence[ChatMessage], run: RunContext) -> TurnResult:
        """Take the turn. A model call that fails is a failed turn and raises nothing; every turn that begins ends."""
        calls = ModelCalls(turn.agent, turn.number, self._access, run)
        return await _TurnInProgress(turn, messages, run, calls, self._mcp).take()


class _TurnInProgress:
    """A turn in progress, taken once."""

    def __init__(
        self, turn: Turn, messages: Sequence[ChatMessage], run: RunContext, calls: ModelCalls, mcp: McpHub
    ) -> None:
        self._turn = turn
        self._agent = turn.agent
        self._messages = messages
        self._recorder = run.recorder
        self._calls = calls
        self._mcp = mcp
        self._began_ms = run.recorder.now_ms()
        self._handoffs = Handoffs(turn.agent.handoffs) if turn.agent.handoffs and turn.handoffs_left > 0 else None
        self._left_to_client: tuple[ToolCall, ...] = ()

    async def take(self) -> TurnResult:
        await self._commit_start()
        status: TurnStatus = "success"
        failure: Failure | None = None
        try:
            await checkpoint_if_cancelled()  # the commit above is shielded
            await self._calls.prepare()
            async with self._mcp.session(self._agent.mcp_servers) as session:
                await self._answer(self._tool_calls(session))
        except ModelError as error:
            status, failure = "failed", as_failure(error, agent=self._agent.name)
        except get_cancelled_exc_class():
            status = "cancelled"
            raise
        except BaseException:
            bug = InternalError("something went wrong in this server")
            status, failure = "failed", as_failure(bug, agent=self._agent.name)
            raise
        finally:
            self._append_end(status, failure)
        code = failure.code if failure else None
        return TurnResult(self._agent.name, self._calls.reply.text, code, self._handoff_unless(failure))

    def _handoff_unless(self, failure: Failure | None) -> Handoff | None:
        """Return the accepted handoff; a turn that failed makes none."""
        return self._handoffs.accepted if self._handoffs and failure is None else None

    def _tool_calls(self, session: McpTools) -> ToolCalls:
        """Return the turn's tools of all kinds; of MCP servers those whose names are not taken by others."""
        client_tools = ClientTools(self._agent.client_tools)
        toolsets: list[Toolset] = [ServerTools(self._agent.tools)]
        if self._handoffs is not None:
            toolsets.append(self._handoffs)
        mcp_tools, taken = without_taken(session.tools, [*toolsets, client_tools])
        toolsets += [mcp_tools, client_tools]
        tool_calls = ToolCalls(
            self._agent.name, self._turn.number, self._recorder, self._calls.turn_deadline, self._calls.clock, toolsets
        )
        faults = [(urlsplit(fault.server.url).hostname or "mcp", fault.message) for fault in session.faults]
        faults += [(name, _LEFT_OUT) for name in taken]
        for number, (name, message) in enumerate(faults, start=1):
            tool_calls.report_fault(number, name, message)
        return tool_calls

    async def _answer(self, tools: ToolCalls) -> None:
        answer_format = self._agent.answer_format
        if self._agent.max_loops is None:
            messages = await AutonomousTurn(self._calls, tools, self._messages).run(answer_format)
        else:
            messages = await self._converse(tools, self._agent.max_loops)
        if messages is not None and answer_format is not None:
            await keep_to_format(self._calls, messages, answer_format, agent=self._agent.name)

    async def _converse(self, tools: ToolCalls, max_loops: int) -> list[ChatMessage] | None:
        """Call the model until it calls no tool; return the messages that it answered, None if another one is to."""
        messages = list(self._messages)
        schemas = tools.schemas()
        for _ in range(max_loops):
            reply = await self._calls.call(messages, schemas, self._agent.answer_format)
            if not reply.tool_calls:
                return messages
            if left_to_client := tools.left_to_client(reply.tool_calls):
                # Our tools that were called beside them do not run: the client could not pass their results on.
                self._left_to_client = left_to_client
                return None
            messages += await tools.answer(reply)
            if tools.ends_turn:
                return None
        return await answer_without_tools(self._calls, messages, self._agent.answer_format)

    async def _commit_start(self) -> None:
        turn, model = self._turn, self._calls.reply.model
        if turn.recovered is None:
            started = TurnStarted(
                self._began_ms,
                agent=self._agent.name,
                turn=turn.number,
                stage=turn.stage,
                loop=turn.loop,
                task_index=turn.task_index,
                model=model.name,
                lane=model.backend,
            )
        else:
            recovered = turn.recovered
            recovered.attempts += 1
            started = TurnRestarted(
                self._began_ms, self._agent.name, turn.number, recovered.attempts, recovered.next_event_id
            )
        with CancelScope(shield=True):
            await self._recorder.commit(started)

    def _append_end(self, status: TurnStatus, failure: Failure | None) -> None:
        calls, turn = self._calls, self._turn
        ended_ms = self._recorder.now_ms()
        seconds = (ended_ms - self._began_ms) / 1000
        if failure is not None:
            self._recorder.append(
                TurnFailed(
                    ended_ms,
                    agent=self._agent.name,
                    turn=turn.number,
                    failure=failure,
                    attempts=calls.attempts,
                    elapsed_seconds=seconds,
                )
            )
        handoff = self._handoff_unless(failure)
        self._recorder.append(
            TurnEnded(
                ended_ms,
                agent=self._agent.name,
                turn=turn.number,
                task_index=turn.task_index,
                model=calls.reply.model.name,
                output=calls.reply.text,
                status=status,
                finish_reason=calls.reply.finish_reason,
                usage=calls.usage,
                duration_seconds=seconds,
                tool_calls=self._left_to_client,
                handed_to=handoff.receiver.name if handoff else None,
                handed_message=handoff.message if handoff else "",
                stage=turn.stage,
                loop=turn.loop,
                position=turn.position,
                warnings=calls.omissions.warnings,
            )
        )
