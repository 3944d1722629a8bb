"""One agent's turn: it speaks, uses its tools, passes the word on; told as events (docs/engine.md, "One turn")."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from anyio import CancelScope, get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.engine.budget import Budget
from swarmstream.engine.final_answer import last_word
from swarmstream.engine.handoff import Handoff, HandoffTool, handoff_tool
from swarmstream.engine.model_calls import ModelCalls, Recorder
from swarmstream.engine.omissions import RefusedFields
from swarmstream.engine.planning import Autonomy
from swarmstream.engine.replay import RecoveredTurn
from swarmstream.engine.run_calls import RunCalls
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.engine.tool_calls import ToolUse
from swarmstream.errors import AppError, InternalError, InvalidOutput, ModelError
from swarmstream.events import Failure, ToolCall, TurnEnded, TurnFailed, TurnRestarted, TurnStarted, TurnStatus
from swarmstream.llm.base import ChatMessage, ChatModel
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.swarm.agents import Agent
from swarmstream.tools.mcp.hub import McpHub, McpTools

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose word it is, and where in the plan."""

    agent: Agent
    number: int
    stage: int
    loop: int
    task_index: int | None
    position: int = 0
    may_hand_off: bool = True
    past: RecoveredTurn | None = None
    """Its earlier attempt, where a crash interrupted it."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """How a turn ended. `failure` is the code of what ended it, None if it succeeded."""

    agent: str
    output: str
    failure: str | None
    handoff: Handoff | None = None
    """Whose answer stands for this one's."""


class TurnRunner:
    """Takes turns with the models it is given, by lane, and with the tools of MCP servers."""

    def __init__(
        self,
        models: Mapping[str, ChatModel],
        timeouts: TurnTimeouts,
        mcp: McpHub | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._models = models
        self._timeouts = timeouts
        self._mcp = mcp or McpHub(AllowedHosts(()), clock=clock)
        self._clock = clock
        self._refused = RefusedFields(clock)

    async def take_turn(
        self,
        turn: Turn,
        messages: Sequence[ChatMessage],
        recorder: Recorder,
        budget: Budget | None = None,
        calls: RunCalls | None = None,
    ) -> TurnResult:
        """Let the agent speak. A failed model call is a failed turn, not an exception; every turn that starts ends."""
        speech = ModelCalls(
            turn.agent, turn.number, recorder, self._models, self._timeouts, budget, self._clock, calls, self._refused
        )
        return await _TurnInProgress(turn, messages, recorder, speech, self._mcp).take()


class _TurnInProgress:
    """One turn in progress."""

    def __init__(
        self, turn: Turn, messages: Sequence[ChatMessage], recorder: Recorder, speech: ModelCalls, mcp: McpHub
    ) -> None:
        self._turn = turn
        self._agent = turn.agent
        self._messages = messages
        self._recorder = recorder
        self._speech = speech
        self._mcp = mcp
        self._began_ms = recorder.now_ms()
        self._tool_calls: tuple[ToolCall, ...] = ()
        self._handoff: HandoffTool | None = None
        if turn.agent.handoffs and turn.may_hand_off:
            self._handoff = handoff_tool(turn.agent.handoffs)

    async def take(self) -> TurnResult:
        await self._record_start()
        status: TurnStatus = "success"
        failure: Failure | None = None
        try:
            await checkpoint_if_cancelled()  # while its beginning was written
            await self._speech.ready()
            await self._act()
        except ModelError as error:
            status, failure = "failed", as_failure(error, who=self._agent.name)
        except get_cancelled_exc_class():
            status = "cancelled"
            raise
        except BaseException:
            bug = InternalError("something went wrong in this server")
            status, failure = "failed", as_failure(bug, who=self._agent.name)
            raise
        finally:
            self._record_end(status, failure)
        code = failure.code if failure else None
        return TurnResult(self._agent.name, self._speech.text, code, self._passed(failure))

    def _passed(self, failure: Failure | None) -> Handoff | None:
        """Whom the word was passed to, by a turn that did not fail."""
        return self._handoff.passed[0] if self._handoff and self._handoff.passed and failure is None else None

    async def _act(self) -> None:
        """Come to an answer: the text of the last call."""
        if not self._agent.mcp_servers:
            await self._answer(self._tools(None))
            return
        async with self._mcp.session(self._agent.mcp_servers) as session:
            await self._answer(self._tools(session))

    def _tools(self, session: McpTools | None) -> ToolUse:
        tools = ToolUse(self._agent.name, self._turn.number, self._recorder, self._speech)
        tools.add(self._agent.tools)
        tools.add_callers(self._agent.caller_tools)
        if self._handoff is not None:
            tools.add([self._handoff])
        if session is not None:
            faults = [(urlsplit(fault.server.url).hostname or "mcp", fault.message) for fault in session.faults]
            taken = [tool.name for tool in session.tools if tools.has(tool.name)]
            faults += [
                (name, "an MCP server's tool is left out: the agent has another one of this name") for name in taken
            ]
            tools.add(session.tools)
            for number, (name, message) in enumerate(faults, start=1):
                tools.tell_fault(number, name, message)
        return tools

    async def _answer(self, tools: ToolUse) -> None:
        if self._agent.max_loops is None:
            messages = await Autonomy(self._speech, tools, self._messages).pursue(self._agent.answer_format)
        else:
            messages = await self._converse(tools, self._agent.max_loops)
        if messages is not None:
            await self._keep_to_format(messages)

    async def _converse(self, tools: ToolUse, max_loops: int) -> list[ChatMessage] | None:
        """Call the model until it calls no tool; the messages that it answered then. None if another has to answer
        first: the caller, or whom the word was passed to."""
        messages = list(self._messages)
        schemas = tools.schemas()
        for _ in range(max_loops):
            reply = await self._speech.ask(messages, schemas, self._agent.answer_format)
            if not reply.tool_calls:
                return messages
            if asked := tools.callers(reply.tool_calls):
                # Tools of ours that it called beside them wait: their results would be lost on the way.
                self._tool_calls = asked
                return None
            messages += await tools.answer(reply)
            if self._handoff is not None and self._handoff.passed:
                return None
        return await last_word(self._speech, messages, self._agent.answer_format)

    async def _keep_to_format(self, messages: list[ChatMessage]) -> None:
        """Have an answer that is not what was asked for written anew, once."""
        answer_format = self._agent.answer_format
        if answer_format is None:
            return
        complaint = answer_format.complaint(self._speech.text)
        if complaint is None:
            return
        logger.info("agent %s: the answer does not fit its format, asking again", self._agent.name)
        wrong = [{"role": "assistant", "content": self._speech.text}] if self._speech.text else []
        told = f"This answer cannot be used.\nWhat is wrong: {complaint}.\n{answer_format.in_words()}"
        await self._speech.ask([*messages, *wrong, {"role": "user", "content": told}], (), answer_format)
        complaint = answer_format.complaint(self._speech.text)
        if complaint is not None:
            raise InvalidOutput(f"the model's answer does not keep to its format: {complaint}")

    async def _record_start(self) -> None:
        """Before anything else: what readers have seen of a turn can be called back only if the journal knows of it."""
        turn, model = self._turn, self._speech.model
        if turn.past is None:
            started = TurnStarted(
                self._began_ms,
                agent=self._agent.name,
                turn=turn.number,
                stage=turn.stage,
                loop=turn.loop,
                task_index=turn.task_index,
                model=model.name,
                lane=model.lane,
            )
        else:
            turn.past.attempts += 1
            started = TurnRestarted(
                self._began_ms, self._agent.name, turn.number, turn.past.attempts, turn.past.next_event_id
            )
        with CancelScope(shield=True):
            await self._recorder.commit(started)

    def _record_end(self, status: TurnStatus, failure: Failure | None) -> None:
        ended_ms = self._recorder.now_ms()
        seconds = (ended_ms - self._began_ms) / 1000
        if failure is not None:
            self._recorder.append(
                TurnFailed(
                    ended_ms,
                    agent=self._agent.name,
                    turn=self._turn.number,
                    failure=failure,
                    attempts=self._speech.attempts,
                    elapsed_seconds=seconds,
                )
            )
        passed = self._passed(failure)
        # Safe before any other turn begins, for that commits its own beginning.
        self._recorder.append(
            TurnEnded(
                ended_ms,
                agent=self._agent.name,
                turn=self._turn.number,
                task_index=self._turn.task_index,
                model=self._speech.model.name,
                output=self._speech.text,
                status=status,
                finish_reason=self._speech.finish_reason,
                usage=self._speech.usage,
                duration_seconds=seconds,
                tool_calls=self._tool_calls,
                handed_to=passed.receiver.name if passed else None,
                handed_message=passed.message if passed else "",
                stage=self._turn.stage,
                loop=self._turn.loop,
                position=self._turn.position,
                warnings=self._speech.warnings,
            )
        )


def as_failure(error: AppError, *, who: str | None = None) -> Failure:
    """The error as events carry it; `who` is the agent it happened to."""
    message = f"{who}: {error.detail}" if who else error.detail
    return Failure(code=error.code, message=message, status=error.status, retryable=error.retryable)
