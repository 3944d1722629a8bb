"""One agent's turn: model calls with retries, fallbacks and clocks, told as events (ENGINE.md)."""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
from anyio import CancelScope, get_cancelled_exc_class

from app.engine.clocks import CallClock, TurnClocks
from app.errors import AppError, InternalError, ModelError, TurnTimeout, UpstreamInvalid
from app.events import Event, Failure, ReasoningDelta, TextDelta, TurnEnded, TurnFailed, TurnStarted, TurnStatus, Usage
from app.llm.base import ChatModel, Delta, Finished, ModelCall, Reasoning, TokenCount, ToolCallDelta
from app.swarm.conversation import ChatMessage
from app.swarm.models import ModelRef, Price
from app.swarm.plan import Agent
from app.text import SurrogateJoiner

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 8.0
_MAX_RETRY_AFTER_SECONDS = 30.0
_MAX_DELTA_LENGTH = 1 << 20
_MAX_ANSWER_LENGTH = 16 << 20
"""Of text and thoughts together: ten times what any model gives."""
_BYTES_PER_TOKEN = 4
_MAX_REASON_LENGTH = 40
_UNKNOWN_PRICE = Price(input=0.0, output=0.0)


class Recorder(Protocol):
    """Where a run's events go."""

    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        ...

    def say(self, delta: TextDelta | ReasoningDelta) -> object:
        """Store a delta; never waits."""
        ...

    def record(self, event: Event) -> None:
        """Store an event; never waits."""
        ...

    async def commit(self, event: Event) -> None:
        """Store an event and return once it, and all before it, will survive whatever the journal survives."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose word it is, and where in the plan."""

    agent: Agent
    number: int
    stage: int
    loop: int
    task_index: int | None


@dataclass(frozen=True, slots=True)
class TurnResult:
    """How a turn ended. `failure` is the code of what ended it, None if it succeeded."""

    agent: str
    output: str
    failure: str | None


class Speaker:
    """Takes turns with the models it is given, by lane."""

    def __init__(self, models: Mapping[str, ChatModel], clocks: TurnClocks) -> None:
        self._models = models
        self._clocks = clocks

    async def take_turn(self, turn: Turn, messages: Sequence[ChatMessage], recorder: Recorder) -> TurnResult:
        """Let the agent speak. A failed model call is a failed turn, not an exception; every turn that starts ends."""
        return await _Speech(turn, messages, recorder, self._models, self._clocks).deliver()


class _Speech:
    """One turn in progress: its model calls, and what has come of them so far."""

    def __init__(
        self,
        turn: Turn,
        messages: Sequence[ChatMessage],
        recorder: Recorder,
        models: Mapping[str, ChatModel],
        clocks: TurnClocks,
    ) -> None:
        self._turn = turn
        self._agent = turn.agent
        self._messages = messages
        self._recorder = recorder
        self._models = models
        self._clocks = clocks
        self._began_ms = recorder.now_ms()
        self._seconds = min(clocks.turn_seconds, self._agent.timeout_seconds or math.inf)
        self._ends = math.inf
        self._attempts = 0
        self._pieces: list[str] = []
        self._spent = Usage()
        """What the calls before the present one consumed."""
        self._call = _Call(self._agent.models[0])

    async def deliver(self) -> TurnResult:
        self._record_start()
        status: TurnStatus = "success"
        failure: AppError | None = None
        try:
            for lane in {model.lane for model in self._agent.models}:
                await self._models[lane].ready()
            self._ends = anyio.current_time() + self._seconds
            await self._speak()
        except ModelError as error:
            status, failure = "failed", error
        except get_cancelled_exc_class():
            status = "cancelled"
            raise
        except BaseException:
            status, failure = "failed", InternalError("something went wrong in this server")
            raise
        finally:
            with CancelScope(shield=True):
                await self._record_end(status, failure)
        return TurnResult(self._agent.name, "".join(self._pieces), failure.code if failure else None)

    async def _speak(self) -> None:
        """Try the agent's models in order, each with its retries, until one has begun to speak."""
        *others, last = self._agent.models
        for model in others:
            try:
                await self._speak_with_retries(model)
            except ModelError as error:
                if self._call.heard or isinstance(error, TurnTimeout):
                    raise
                logger.info("agent %s: %s of %s, falling back", self._agent.name, error.code, model.target)
            else:
                return
        await self._speak_with_retries(last)

    async def _speak_with_retries(self, model: ModelRef) -> None:
        """Nothing is repeated after the first token of a call: the turn then fails with what it has."""
        for retry in range(self._agent.max_retries + 1):
            self._attempts += 1
            self._spent += self._consumed()
            self._call = _Call(model)
            try:
                await self._listen()
            except ModelError as error:
                if self._call.heard or not error.repeatable or retry == self._agent.max_retries:
                    raise
                logger.info("agent %s: %s, trying again", self._agent.name, error.code)
                await self._pause(_pause_seconds(retry, error.retry_after_seconds))
            else:
                return

    async def _pause(self, seconds: float) -> None:
        left = max(0.0, self._ends - anyio.current_time())  # the loop may have been late to tell of the failure
        await anyio.sleep(min(seconds, left))
        if seconds >= left:
            raise self._overtime()

    def _overtime(self) -> TurnTimeout:
        return TurnTimeout(f"the turn took longer than {self._seconds:g} s")

    async def _listen(self) -> None:
        """Make the present call, and pass on what is heard as it is heard."""
        call = self._call
        clock = CallClock(self._clocks, turn_ends=self._ends, overtime=self._overtime)
        asked = ModelCall(call.model, self._messages, self._agent.sampling)

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
        finally:
            t_ms = self._recorder.now_ms()
            self._think(t_ms, call.thought.end())
            self._speak_up(t_ms, call.text.end())

    def _take_in(self, deltas: Sequence[Delta]) -> None:
        """Pass on what has arrived at once."""
        call = self._call
        t_ms = self._recorder.now_ms()
        for delta in deltas:
            if isinstance(delta, str):
                call.hear(len(delta))
                self._speak_up(t_ms, delta if delta.isascii() and not call.text.held else call.text.feed(delta))
            elif isinstance(delta, Reasoning):
                call.hear(len(delta.text))
                self._think(t_ms, call.thought.feed(delta.text))
            elif isinstance(delta, ToolCallDelta):
                call.hear(len(delta.arguments))  # of a tool that nobody offered
            elif isinstance(delta, Finished):
                call.finish_reason = _word(delta.reason)
            elif isinstance(delta, TokenCount):
                call.count = delta
            else:  # Opened
                call.opened = True

    def _speak_up(self, t_ms: int, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._recorder.say(TextDelta(t_ms, self._agent.name, self._turn.number, text))

    def _think(self, t_ms: int, text: str) -> None:
        if text:
            self._call.thought_length += len(text)
            self._recorder.say(ReasoningDelta(t_ms, self._agent.name, self._turn.number, text))

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
        return TokenCount(
            input_tokens=sum(_estimated_tokens(str(message.get("content") or "")) for message in self._messages),
            output_tokens=_estimated_tokens("".join(self._pieces)) + self._call.thought_length // _BYTES_PER_TOKEN,
        )

    def _record_start(self) -> None:
        turn, model = self._turn, self._call.model
        self._recorder.record(
            TurnStarted(
                self._began_ms,
                agent=self._agent.name,
                turn=turn.number,
                stage=turn.stage,
                loop=turn.loop,
                task_index=turn.task_index,
                model=model.name,
                lane=model.lane,
            )
        )

    async def _record_end(self, status: TurnStatus, failure: AppError | None) -> None:
        ended_ms = self._recorder.now_ms()
        seconds = (ended_ms - self._began_ms) / 1000
        if failure is not None:
            self._recorder.record(
                TurnFailed(
                    ended_ms,
                    agent=self._agent.name,
                    turn=self._turn.number,
                    failure=as_failure(failure, who=self._agent.name),
                    attempts=self._attempts,
                    elapsed_seconds=seconds,
                )
            )
        await self._recorder.commit(
            TurnEnded(
                ended_ms,
                agent=self._agent.name,
                turn=self._turn.number,
                task_index=self._turn.task_index,
                model=self._call.model.name,
                output="".join(self._pieces),
                status=status,
                finish_reason=self._call.finish_reason,
                usage=self._spent + self._consumed(),
                duration_seconds=seconds,
            )
        )


@dataclass(slots=True)
class _Call:
    """One model call as far as it has come."""

    model: ModelRef
    opened: bool = False
    heard: int = 0
    """How many deltas it has given: from the first one on, nothing is repeated."""
    length: int = 0
    """Of all that it has said and thought."""
    thought_length: int = 0
    finish_reason: str | None = None
    count: TokenCount | None = None
    text: SurrogateJoiner = field(default_factory=SurrogateJoiner)
    thought: SurrogateJoiner = field(default_factory=SurrogateJoiner)

    def hear(self, length: int) -> None:
        """A delta of this length has come.

        Raises:
            UpstreamInvalid: it is too large, or all of them are.
        """
        self.heard += 1
        self.length += length
        if length > _MAX_DELTA_LENGTH or self.length > _MAX_ANSWER_LENGTH:
            raise UpstreamInvalid("the provider sent more than an answer can be")


def as_failure(error: AppError, *, who: str | None = None) -> Failure:
    """The error as events carry it; `who` is the agent it happened to."""
    message = f"{who}: {error.detail}" if who else error.detail
    return Failure(code=error.code, message=message, status=error.status, retryable=error.retryable)


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
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def _pause_seconds(retry: int, retry_after_seconds: float | None) -> float:
    """What the provider asked for, up to a cap; else exponential, jittered so that siblings do not return at once."""
    if retry_after_seconds is not None:
        return min(max(retry_after_seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)
    return min(_FIRST_BACKOFF_SECONDS * 2**retry, _MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1.0)
