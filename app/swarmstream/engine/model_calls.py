"""The model calls of one turn: with retries, fallbacks and clocks, passed on as they are heard (docs/engine.md)."""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from swarmstream.clock import SYSTEM_CLOCK, Clock, sleep, time_limit
from swarmstream.engine.budget import Budget, Reservation
from swarmstream.engine.call import Call, Reply
from swarmstream.engine.omissions import Omissions, RefusedFields
from swarmstream.engine.run_calls import RunCalls
from swarmstream.engine.timeouts import CallClock, TurnTimeouts
from swarmstream.errors import (
    ModelError,
    ProviderAuth,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    TurnTimeout,
    drop_tracebacks,
)
from swarmstream.events import Event, ReasoningDelta, TextDelta, Usage
from swarmstream.llm.base import (
    ChatMessage,
    ChatModel,
    Delta,
    Echo,
    Finished,
    JsonObject,
    ModelCall,
    Opened,
    Reasoning,
    TokenCount,
    ToolCallDelta,
)
from swarmstream.llm.model_ref import ModelRef, Price
from swarmstream.llm.prompt_size import BYTES_PER_TOKEN, PromptSize
from swarmstream.swarm.agents import Agent
from swarmstream.swarm.response_format import AnswerFormat

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 8.0
_MAX_RETRY_AFTER_SECONDS = 30.0
_MAX_REASON_LENGTH = 40
_REFUSALS = (ProviderAuth, ProviderRateLimited, ProviderRejected, ProviderError)
_UNKNOWN_PRICE = Price(input=0.0, output=0.0)


class Recorder(Protocol):
    """Where a run's events go."""

    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        ...

    def append_delta(self, delta: TextDelta | ReasoningDelta) -> object:
        """Store a delta; never waits."""
        ...

    def append(self, event: Event) -> None:
        """Store an event; never waits."""
        ...

    async def commit(self, event: Event) -> None:
        """Store an event and return once it, and all before it, will survive whatever the journal survives."""
        ...


class ModelCalls:
    """An agent's model calls within one turn, one after another."""

    def __init__(
        self,
        agent: Agent,
        turn: int,
        recorder: Recorder,
        models: Mapping[str, ChatModel],
        timeouts: TurnTimeouts,
        budget: Budget | None = None,
        clock: Clock = SYSTEM_CLOCK,
        calls: RunCalls | None = None,
        refused: RefusedFields | None = None,
    ) -> None:
        self.clock = clock
        self.attempts = 0
        """Of the present call."""
        self.ends = math.inf
        """When the turn's time is over, by the clock."""
        self._agent = agent
        self._turn = turn
        self._recorder = recorder
        self._models = models
        self._timeouts = timeouts
        self._budget = budget
        self._reservation: Reservation | None = None
        """The present call's share of the budget."""
        self._calls = calls or RunCalls()
        self._omissions = Omissions(agent.sampling, RefusedFields(clock) if refused is None else refused)
        self._size = PromptSize()
        """Of what the present call asks."""
        self._held = 0
        """What the present call holds of the room for prompts."""
        self._seconds = min(timeouts.turn_seconds, agent.timeout_seconds or math.inf)
        self._candidates: Sequence[ModelRef] = agent.models
        """The models that are left to try: one that has answered speaks for the rest of the turn."""
        self._asked: Sequence[ChatMessage] = ()
        self._offered: Sequence[JsonObject] = ()
        self._format: AnswerFormat | None = None
        self._spent = Usage()
        """What the calls before the present one consumed."""
        self._step = 0
        self._ids: set[str] = set()
        """Of the tool calls so far: what clients tell them apart by."""
        self._call = Call(agent.models[0])

    @property
    def model(self) -> ModelRef:
        """Whom the present call asks."""
        return self._call.model

    @property
    def text(self) -> str:
        """What the present call has said so far."""
        return "".join(self._call.pieces)

    @property
    def finish_reason(self) -> str | None:
        """Why the present call ended."""
        return self._call.finish_reason

    @property
    def usage(self) -> Usage:
        """What all calls so far consumed."""
        return self._spent + self._consumed()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was learnt of the models since the run began, for the reader."""
        return self._omissions.warnings

    async def ready(self) -> None:
        """Prepare the models, outside all clocks, and begin the turn's time."""
        for lane in {model.lane for model in self._agent.models}:
            await self._models[lane].ready()
        self.ends = self.clock.now() + self._seconds

    async def ask(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[JsonObject] = (),
        answer_format: AnswerFormat | None = None,
    ) -> Reply:
        """Try the agent's models in order, each with its retries, until one has begun to speak; returns when it ends.

        Raises:
            ModelError: none did, or the one that did broke off.
        """
        self._begin_call(self._candidates[0])
        self._asked, self._offered, self._format = messages, tools, answer_format
        self._step += 1
        self.attempts = 0
        while len(self._candidates) > 1:
            try:
                await self._ask_with_retries(self._candidates[0])
            except ModelError as error:
                if self._call.heard or isinstance(error, TurnTimeout):
                    raise
                logger.info("agent %s: %s of %s, falling back", self._agent.name, error.code, self.model.target)
                self._candidates = self._candidates[1:]
            else:
                break
        else:
            await self._ask_with_retries(self._candidates[0])
        self._candidates = self._candidates[:1]
        reply = self._call.reply(self._step, self._ids)
        self._ids.update(call.id for call in reply.tool_calls)
        return reply

    def timeout_error(self) -> TurnTimeout:
        """What has happened when the turn's time is over."""
        return TurnTimeout(f"the turn took longer than {self._seconds:g} s")

    async def _ask_with_retries(self, model: ModelRef) -> None:
        """Nothing is repeated after the first token of a call: the turn then fails with what it has."""
        self._omissions.begin()
        for retry in range(self._agent.max_retries + 1):
            try:
                await self._ask_fittingly(model)
            except ModelError as error:
                if self._call.heard or not error.repeatable or retry == self._agent.max_retries:
                    raise
                logger.info("agent %s: %s, trying again", self._agent.name, error.code)
                await self._pause(_pause_seconds(retry, error.retry_after_seconds))
            else:
                return

    async def _ask_fittingly(self, model: ModelRef) -> None:
        """Make the call, and at once again without each field that the provider refuses: that is no retry."""
        while True:
            self.attempts += 1
            self._begin_call(model)
            try:
                await self._listen()
            except ProviderRejected as error:
                if self._call.heard or not self._omissions.learn(model, error):
                    raise
                logger.info("agent %s: %s refuses a field, asking without it", self._agent.name, model.target)
            else:
                self._omissions.confirm(model)
                return

    def _begin_call(self, model: ModelRef) -> None:
        self._spent += self._consumed()
        self._call = Call(model)

    async def _pause(self, seconds: float) -> None:
        left = max(0.0, self.ends - self.clock.now())  # the loop may have been late to tell of the failure
        await sleep(self.clock, min(seconds, left))
        if seconds >= left:
            raise self.timeout_error()

    async def _listen(self) -> None:
        """Make the present call, and pass on what is heard as it is heard."""
        call = self._call
        await self._reserve(call.model)
        clock = CallClock(self._timeouts, turn_ends=self.ends, timeout_error=self.timeout_error, clock=self.clock)
        asked = self._model_call(call.model)

        def hear(deltas: Sequence[Delta]) -> None:
            heard = call.heard
            self._take_in(deltas)
            if call.heard > heard:
                clock.hear(is_first=not heard)
            if call.finish_reason is not None:
                clock.complete()

        try:
            with clock:
                await self._models[call.model.lane].stream(asked, hear)
        except ModelError as error:
            drop_tracebacks(error)  # the adapter has logged what there is to know
            if isinstance(error, _REFUSALS) and not call.heard and call.count is None:
                call.opened = False  # refused inside of what began as an answer
            raise
        finally:
            t_ms = self._recorder.now_ms()
            self._think(t_ms, call.thought.end())
            self._speak_up(t_ms, call.text.end())
            self._settle()

    async def _reserve(self, model: ModelRef) -> None:
        """Take the call's share of the run's budget, if there is one, and room for its prompt; waits for others to
        leave something over."""
        wanted = self._agent.sampling.max_tokens_of(model)
        try:
            with time_limit(self.clock, self.ends - self.clock.now()) as scope:
                self._size = await self._calls.measure(self._asked)
                if self._budget is not None:
                    self._reservation = await self._budget.reserve(self._estimated_input(), wanted, model.price)
                self._held = await self._calls.begin(self._size)
        except BaseException:
            self._settle()
            raise
        if scope.cancelled_caught:
            self._settle()
            raise self.timeout_error()

    def _settle(self) -> None:
        held, self._held = self._held, 0
        self._calls.end(held)
        if self._budget is None or self._reservation is None:
            return
        reservation, self._reservation = self._reservation, None
        self._budget.settle(reservation, self._consumed())
        if reservation.is_lowered and self._call.finish_reason == "length":
            self._budget.exhaust()  # an answer that the budget cut off is none

    def _is_over_budget(self) -> bool:
        """Providers need not keep to `max_tokens`: whether, by our own count, the call has gone beyond its share."""
        if self._budget is None or self._reservation is None:
            return False
        return self._budget.watch(self._reservation, self._call.length // BYTES_PER_TOKEN)

    def _model_call(self, model: ModelRef) -> ModelCall:
        """What the model is asked; one that cannot be held to a format is told it in words."""
        sampling = self._agent.sampling
        if self._reservation is not None and self._reservation.is_lowered:
            sampling = replace(sampling, max_tokens=self._reservation.max_tokens)
        without = self._omissions.of(model)
        if self._format is None:
            return ModelCall(model, self._asked, sampling, self._offered, without=without)
        if model.takes_schemas:
            return ModelCall(model, self._asked, sampling, self._offered, self._format.request, without)
        return ModelCall(model, _instructed(self._asked, self._format), sampling, self._offered, without=without)

    def _take_in(self, deltas: Sequence[Delta]) -> None:
        """Pass on what has arrived at once."""
        call = self._call
        t_ms = self._recorder.now_ms()
        is_watched = self._reservation is not None
        for delta in deltas:
            if is_watched and self._is_over_budget():
                return  # what came with it is not the run's any more
            if isinstance(delta, str):
                call.hear(len(delta))
                self._speak_up(t_ms, delta if delta.isascii() and not call.text.held else call.text.feed(delta))
            elif isinstance(delta, Reasoning):
                call.hear(len(delta.text))
                self._think(t_ms, call.thought.feed(delta.text))
            elif isinstance(delta, ToolCallDelta):
                call.hear(len(delta.arguments))
                call.take(delta)
            elif isinstance(delta, Finished):
                call.finish_reason = _word(delta.reason)
            elif isinstance(delta, TokenCount):
                call.count = delta
            elif isinstance(delta, Echo):
                call.echo |= delta.fields
            elif isinstance(delta, Opened):
                call.opened = True
            else:  # Repeated
                self.attempts += 1
                self._calls.repeat()

    def _speak_up(self, t_ms: int, text: str) -> None:
        if text:
            self._call.pieces.append(text)
            self._recorder.append_delta(TextDelta(t_ms, self._agent.name, self._turn, text, self._step))

    def _think(self, t_ms: int, text: str) -> None:
        if text:
            self._call.thought_length += len(text)
            self._recorder.append_delta(ReasoningDelta(t_ms, self._agent.name, self._turn, text))

    def _consumed(self) -> Usage:
        """The provider's figures for the present call; our own count where it gave none but had begun to answer."""
        call = self._call
        if not call.opened:
            return Usage()
        counted = call.count
        is_estimated = counted is None
        if counted is None or call.finish_reason is None:
            ours = self._estimate()
            counted = counted or ours
            # Some providers begin with figures and end with better ones: what was cut in between has only the first.
            if ours.output_tokens > counted.output_tokens:
                counted, is_estimated = replace(counted, output_tokens=ours.output_tokens), True
        return _charged(counted, call.model.price, is_estimated=is_estimated)

    def _estimate(self) -> TokenCount:
        call = self._call
        said = _estimated_tokens(self.text) + (call.thought_length + call.arguments_length) // BYTES_PER_TOKEN
        return TokenCount(input_tokens=self._estimated_input(), output_tokens=said)

    def _estimated_input(self) -> int:
        return self._size.tokens + sum(_estimated_tokens(str(tool)) for tool in self._offered)


def _instructed(messages: Sequence[ChatMessage], answer_format: AnswerFormat) -> list[ChatMessage]:
    """The messages, with the format at the end of the system prompt."""
    words = answer_format.in_words()
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


def _word(reason: str) -> str:
    """A word of the protocol's; whatever else a provider writes in its place does not go to clients."""
    return reason if len(reason) <= _MAX_REASON_LENGTH and reason.isascii() else "unknown"


def _charged(count: TokenCount, price: Price | None, *, is_estimated: bool) -> Usage:
    usage = (price or _UNKNOWN_PRICE).charge(
        input_tokens=count.input_tokens,
        output_tokens=count.output_tokens,
        cached_input_tokens=count.cached_input_tokens,
        reasoning_tokens=count.reasoning_tokens,
    )
    if price is not None and not is_estimated:
        return usage
    return replace(usage, priced=price is not None, estimated=is_estimated)


def _estimated_tokens(text: str) -> int:
    """Four bytes a token: the rule of thumb that providers give for their tokenizers."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _pause_seconds(retry: int, retry_after_seconds: float | None) -> float:
    """What the provider asked for, up to a cap; else exponential, jittered so that siblings do not return at once."""
    if retry_after_seconds is not None:
        return min(max(retry_after_seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)
    return min(_FIRST_BACKOFF_SECONDS * 2**retry, _MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1.0)
