"""The model calls of a turn: fallbacks, retries, and the one stream that gets through (docs/engine.md).

    call ─ models, in order ─ retries ─ without refused fields ─ stream
           until one answers  paused    at once, no retry        one request

Each level repeats the one to its right, and only as long as no delta has come: what clients have seen of a reply is not
taken back, so the turn fails with it. A model that has answered stays for the rest of the turn.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmstream.clock import Clock
from swarmstream.engine.allowance import Allowance
from swarmstream.engine.estimates import usage_of
from swarmstream.engine.model_input import ModelInput
from swarmstream.engine.omissions import Omissions, RefusedFields
from swarmstream.engine.reply import PartialReply, Reply
from swarmstream.engine.reply_stream import ReplyStream
from swarmstream.engine.retry import pause_seconds
from swarmstream.engine.run_context import RunContext
from swarmstream.engine.timeouts import CallTimer, Deadline, TurnTimeouts
from swarmstream.errors import (
    ModelError,
    ProviderAuth,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    TurnTimeout,
    drop_tracebacks,
)
from swarmstream.events import Usage
from swarmstream.llm.base import ChatModel
from swarmstream.llm.messages import ChatMessage, JsonObject
from swarmstream.llm.model_ref import ModelRef
from swarmstream.swarm.plan import Agent
from swarmstream.swarm.response_format import AnswerFormat

logger = logging.getLogger(__name__)

_REFUSALS = (ProviderAuth, ProviderRateLimited, ProviderRejected, ProviderError)


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """The ways to models, and the rules for using them, that all turns of a process share."""

    models: Mapping[str, ChatModel]
    """By lane."""
    timeouts: TurnTimeouts
    refused: RefusedFields
    clock: Clock


class ModelCalls:
    """An agent's model calls within one turn, one after another."""

    def __init__(self, agent: Agent, turn: int, access: ModelAccess, run: RunContext) -> None:
        """`turn` is the turn's number."""
        self.clock = access.clock
        self.turn_deadline = Deadline(
            min(access.timeouts.turn_seconds, agent.timeout_seconds or math.inf), access.clock
        )
        self.omissions = Omissions(agent.sampling, access.refused)
        self.reply = PartialReply(agent.models[0])
        """The reply to the present request, or to the last one."""
        self.attempts = 0
        """Requests of the present call."""
        self._agent = agent
        self._turn = turn
        self._access = access
        self._run = run
        self._allowance = Allowance(run.budget, run.calls)
        self._candidates: Sequence[ModelRef] = agent.models
        """The models that are left to try."""
        self._asked = ModelInput()
        self._step = 0
        """The number of the present call."""
        self._spent = Usage()
        """Of the requests before the present one."""
        self._tool_call_ids: set[str] = set()

    @property
    def usage(self) -> Usage:
        """The usage of all requests so far."""
        return self._spent + self._present_usage()

    async def prepare(self) -> None:
        """Prepare the models, which no timeout counts, and begin the turn's time."""
        for backend in {model.backend for model in self._agent.models}:
            await self._access.models[backend].ready()
        self.turn_deadline.start()

    async def call(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[JsonObject] = (),
        answer_format: AnswerFormat | None = None,
    ) -> Reply:
        """Try the agent's models in order until one has begun to answer; return when its reply is complete.

        Raises:
            ModelError: the last model's failure, or that of the one that had begun to answer.
        """
        self._begin_request(self._candidates[0])
        self._asked = ModelInput(messages, tools, answer_format)
        self._step += 1
        self.attempts = 0
        while len(self._candidates) > 1:
            try:
                await self._call_with_retries(self._candidates[0])
            except ModelError as error:
                if self.reply.deltas or isinstance(error, TurnTimeout):
                    raise
                logger.info("agent %s: %s of %s, falling back", self._agent.name, error.code, self.reply.model.target)
                self._candidates = self._candidates[1:]
            else:
                break
        else:
            await self._call_with_retries(self._candidates[0])
        self._candidates = self._candidates[:1]
        reply = self.reply.finished(self._step, self._tool_call_ids)
        self._tool_call_ids.update(call.id for call in reply.tool_calls)
        return reply

    async def _call_with_retries(self, model: ModelRef) -> None:
        self.omissions.begin()
        for retry in range(self._agent.max_retries + 1):
            try:
                await self._call_without_refused_fields(model)
            except ModelError as error:
                if self.reply.deltas or not error.repeatable or retry == self._agent.max_retries:
                    raise
                logger.info("agent %s: %s, trying again", self._agent.name, error.code)
                await self.turn_deadline.pause(pause_seconds(retry, error.retry_after_seconds))
            else:
                return

    async def _call_without_refused_fields(self, model: ModelRef) -> None:
        """Make the request, and at once again without each field that the provider refuses."""
        while True:
            self.attempts += 1
            self._begin_request(model)
            try:
                await self._stream()
            except ProviderRejected as error:
                if self.reply.deltas or not self.omissions.learn(model, error):
                    raise
                logger.info("agent %s: %s refuses a field, asking without it", self._agent.name, model.target)
            else:
                self.omissions.confirm(model)
                return

    async def _stream(self) -> None:
        """Make the present request, once; its deltas become events as they come."""
        reply, allowance, model = self.reply, self._allowance, self.reply.model
        with self.turn_deadline.limit():
            await allowance.acquire(self._asked, model, self._agent.sampling)
        timer = CallTimer(self._access.timeouts, self.turn_deadline, self.clock)
        stream = ReplyStream(
            reply,
            self._run.recorder,
            timer,
            allowance,
            agent=self._agent.name,
            turn=self._turn,
            step=self._step,
            on_repeated=self._count_repeated,
        )
        try:
            request = self._asked.request(model, allowance.capped(self._agent.sampling), self.omissions.of(model))
            with timer:
                await self._access.models[model.backend].stream(request, stream.on_deltas)
        except ModelError as error:
            drop_tracebacks(error)  # the adapter has logged what there is to know
            if isinstance(error, _REFUSALS) and not reply.deltas and reply.token_count is None:
                reply.is_opened = False  # refused inside of what began as an answer
            raise
        finally:
            stream.end()
            allowance.release(self._present_usage(), finish_reason=reply.finish_reason)

    def _begin_request(self, model: ModelRef) -> None:
        self._spent += self._present_usage()
        self.reply = PartialReply(model)

    def _count_repeated(self) -> None:
        self.attempts += 1
        self._run.calls.repeat()

    def _present_usage(self) -> Usage:
        return usage_of(self.reply, self._allowance.prompt, self._asked.tools)
