"""One agent's turn: model calls with retries, fallbacks and clocks, told as events (ENGINE.md)."""

import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from anyio import CancelScope, fail_after, get_cancelled_exc_class, sleep

from app.engine.clocks import SilenceClock
from app.engine.text import SurrogateJoiner
from app.errors import AppError, InternalError, ModelError, TurnTimeout, UpstreamInvalid
from app.events import Event, Failure, ReasoningDelta, TextDelta, TurnEnded, TurnFailed, TurnStarted, TurnStatus, Usage
from app.llm.base import ChatModel, Finished, ModelCall, Opened, Reasoning, TokenCount
from app.swarm.conversation import ChatMessage
from app.swarm.models import ModelRef, Price
from app.swarm.plan import Agent

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 8.0
_MAX_RETRY_AFTER_SECONDS = 30.0
_MAX_DELTA_LENGTH = 1 << 20
_BYTES_PER_TOKEN = 4
_UNKNOWN_PRICE = Price(input=0.0, output=0.0)


class Recorder(Protocol):
    """Where a run's events go."""

    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        ...

    def record(self, event: Event) -> None:
        """Store an event; never waits."""
        ...

    async def commit(self, event: Event) -> None:
        """Store an event and return once it, and all before it, will survive whatever the journal survives."""
        ...


@dataclass(frozen=True, slots=True)
class TurnClocks:
    """What the operator grants a turn, in seconds."""

    first_token_seconds: float = 60.0
    idle_seconds: float = 60.0
    turn_seconds: float = 600.0


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


@dataclass(slots=True)
class _Answer:
    """What has come of a turn so far."""

    model: ModelRef
    pieces: list[str] = field(default_factory=list[str])
    attempts: int = 0
    thought_length: int = 0
    heard: bool = False
    """Whether the present call has given a token: from then on nothing is repeated."""
    finish_reason: str | None = None
    opened: bool = False
    count: TokenCount | None = None
    spent: Usage = field(default_factory=Usage)
    """What earlier calls of this turn consumed."""


class Speaker:
    """Takes turns with the models it is given."""

    def __init__(self, models: Mapping[str, ChatModel], clocks: TurnClocks) -> None:
        self._models = models
        self._clocks = clocks

    async def take_turn(self, turn: Turn, messages: Sequence[ChatMessage], recorder: Recorder) -> TurnResult:
        """Let the agent speak. A failed model call is a failed turn, not an exception; every turn that starts ends.

        Nothing is repeated after the first token of a call: the turn then fails with what it has.
        """
        agent = turn.agent
        answer = _Answer(agent.models[0])
        began_ms = recorder.now_ms()
        recorder.record(
            TurnStarted(
                began_ms,
                agent=agent.name,
                turn=turn.number,
                stage=turn.stage,
                loop=turn.loop,
                task_index=turn.task_index,
                model=answer.model.name,
                lane=answer.model.lane,
            )
        )
        status: TurnStatus = "success"
        failure: AppError | None = None
        try:
            await self._speak_in_time(turn, messages, answer, recorder)
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
                await self._end(turn, messages, answer, recorder, status, failure, began_ms)
        return TurnResult(agent.name, "".join(answer.pieces), failure.code if failure else None)

    async def _speak_in_time(
        self, turn: Turn, messages: Sequence[ChatMessage], answer: _Answer, recorder: Recorder
    ) -> None:
        seconds = min(self._clocks.turn_seconds, turn.agent.timeout_seconds or self._clocks.turn_seconds)
        try:
            with fail_after(seconds):
                await self._speak(turn, messages, answer, recorder)
        except TimeoutError:
            raise TurnTimeout(f"the turn took longer than {seconds:g} s") from None

    async def _speak(self, turn: Turn, messages: Sequence[ChatMessage], answer: _Answer, recorder: Recorder) -> None:
        """Try the agent's models in order, each with its retries, until one has begun to speak."""
        *others, last = turn.agent.models
        for model in others:
            try:
                await self._speak_with_retries(turn, model, messages, answer, recorder)
            except ModelError as error:
                if answer.heard:
                    raise
                logger.info("agent %s: %s of %s, falling back", turn.agent.name, error.code, model.target)
                _book(answer, messages)
            else:
                return
        await self._speak_with_retries(turn, last, messages, answer, recorder)

    async def _speak_with_retries(
        self, turn: Turn, model: ModelRef, messages: Sequence[ChatMessage], answer: _Answer, recorder: Recorder
    ) -> None:
        answer.model = model
        for retry in range(turn.agent.max_retries + 1):
            answer.attempts += 1
            try:
                await self._call(turn, model, messages, answer, recorder)
            except ModelError as error:
                if answer.heard or not error.repeatable or retry == turn.agent.max_retries:
                    raise
                logger.info("agent %s: %s, trying again", turn.agent.name, error.code)
                _book(answer, messages)
                await sleep(_pause_seconds(retry, error.retry_after_seconds))
            else:
                return

    async def _call(
        self, turn: Turn, model: ModelRef, messages: Sequence[ChatMessage], answer: _Answer, recorder: Recorder
    ) -> None:
        name, number, now_ms, record = turn.agent.name, turn.number, recorder.now_ms, recorder.record
        text, thought = SurrogateJoiner(), SurrogateJoiner()
        call = ModelCall(model, messages, turn.agent.sampling)
        clock = SilenceClock(
            first_token_seconds=self._clocks.first_token_seconds, idle_seconds=self._clocks.idle_seconds
        )
        with clock:
            async with aclosing(self._models[model.lane].stream(call)) as deltas:
                async for delta in deltas:
                    if isinstance(delta, str):
                        answer.heard = True
                        clock.heard()
                        if len(delta) > _MAX_DELTA_LENGTH:
                            raise UpstreamInvalid("the provider sent a chunk that is too large")
                        if piece := text.feed(delta):
                            answer.pieces.append(piece)
                            record(TextDelta(now_ms(), name, number, piece))
                    elif isinstance(delta, Reasoning):
                        answer.heard = True
                        clock.heard()
                        if piece := thought.feed(delta.text):
                            answer.thought_length += len(piece)
                            record(ReasoningDelta(now_ms(), name, number, piece))
                    elif isinstance(delta, Opened):
                        answer.opened = True
                    elif isinstance(delta, Finished):
                        answer.finish_reason = delta.reason
                    else:
                        answer.count = delta
        if orphan := thought.end():
            record(ReasoningDelta(now_ms(), name, number, orphan))
        if orphan := text.end():
            answer.pieces.append(orphan)
            record(TextDelta(now_ms(), name, number, orphan))

    async def _end(
        self,
        turn: Turn,
        messages: Sequence[ChatMessage],
        answer: _Answer,
        recorder: Recorder,
        status: TurnStatus,
        failure: AppError | None,
        began_ms: int,
    ) -> None:
        ended_ms = recorder.now_ms()
        seconds = (ended_ms - began_ms) / 1000
        if failure is not None:
            recorder.record(
                TurnFailed(
                    ended_ms,
                    agent=turn.agent.name,
                    turn=turn.number,
                    failure=as_failure(failure, who=turn.agent.name),
                    attempts=answer.attempts,
                    elapsed_seconds=seconds,
                )
            )
        await recorder.commit(
            TurnEnded(
                ended_ms,
                agent=turn.agent.name,
                turn=turn.number,
                task_index=turn.task_index,
                model=answer.model.name,
                output="".join(answer.pieces),
                status=status,
                finish_reason=answer.finish_reason,
                usage=answer.spent + _consumed(answer, messages),
                duration_seconds=seconds,
            )
        )


def as_failure(error: AppError, *, who: str | None = None) -> Failure:
    """The error as events carry it; `who` is the agent it happened to."""
    message = f"{who}: {error.detail}" if who else error.detail
    return Failure(code=error.code, message=message, status=error.status, retryable=error.retryable)


def _book(answer: _Answer, messages: Sequence[ChatMessage]) -> None:
    """Put aside what a failed call consumed, at its model's price, before another one is made."""
    answer.spent += _consumed(answer, messages)
    answer.opened, answer.count, answer.finish_reason = False, None, None


def _consumed(answer: _Answer, messages: Sequence[ChatMessage]) -> Usage:
    """The provider's figures for the present call; our own count where it gave none but had begun to answer."""
    if not answer.opened:
        return Usage()
    counted = answer.count or TokenCount(
        input_tokens=sum(_estimated_tokens(str(message.get("content") or "")) for message in messages),
        output_tokens=_estimated_tokens("".join(answer.pieces)) + answer.thought_length // _BYTES_PER_TOKEN,
    )
    price = answer.model.price
    usage = (price or _UNKNOWN_PRICE).charge(
        input_tokens=counted.input_tokens,
        output_tokens=counted.output_tokens,
        cached_input_tokens=counted.cached_input_tokens,
        reasoning_tokens=counted.reasoning_tokens,
    )
    return replace(usage, priced=price is not None, estimated=answer.count is None)


def _estimated_tokens(text: str) -> int:
    """Four bytes a token: the rule of thumb that providers give for their tokenizers."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def _pause_seconds(retry: int, retry_after_seconds: float | None) -> float:
    """What the provider asked for, up to a cap; else exponential, jittered so that siblings do not return at once."""
    if retry_after_seconds is not None:
        return min(max(retry_after_seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)
    return min(_FIRST_BACKOFF_SECONDS * 2**retry, _MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1.0)
