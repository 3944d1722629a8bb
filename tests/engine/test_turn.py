"""One agent's turn when its model misbehaves (docs/engine.md, "When the model misbehaves")."""

import anyio
import pytest

from swarmstream.clock import sleep
from swarmstream.engine.run_context import RunContext
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.engine.turn import Turn, TurnRunner
from swarmstream.errors import (
    FirstTokenTimeout,
    ModelError,
    ProviderAuth,
    ProviderBusy,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnreachable,
    UpstreamTruncated,
)
from swarmstream.events import ReasoningDelta, TextDelta
from swarmstream.llm.base import Finished, ModelCall, OnDeltas, Reasoning, TokenCount, ToolCallDelta
from swarmstream.llm.messages import ChatMessage
from tests.engine.carrying_out import end_of, failure_of, soon, take_turn
from tests.fakes.clock import DrivenClock
from tests.fakes.recorder import KeptEvents
from tests.fakes.scripted_model import Line, ScriptedModel, swarm

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "error", [ProviderRateLimited, ProviderError, ProviderUnreachable, ProviderBusy, FirstTokenTimeout]
)
async def test_temporary_failures_are_retried(error: type[ModelError]) -> None:
    model = ScriptedModel({"A": [[soon(error)], [soon(error)], ["a"]]})
    end = end_of(await take_turn(model))
    assert (end.status, end.output) == ("success", "a")
    assert len(model.calls) == 3


@pytest.mark.parametrize("error", [ProviderAuth, ProviderRejected, UpstreamTruncated])
async def test_permanent_failures_are_not_retried(error: type[ModelError]) -> None:
    model = ScriptedModel({"A": [[soon(error)], ["a"]]})
    notes = await take_turn(model)
    assert (failure_of(notes).failure.code, failure_of(notes).attempts) == (error.code, 1)
    assert len(model.calls) == 1


@pytest.mark.parametrize("retries", [0, 1, 5])
async def test_there_are_as_many_retries_as_the_client_asked_for(retries: int) -> None:
    model = ScriptedModel({"A": [soon(ProviderError)]})
    notes = await take_turn(model, num_retries=retries)
    assert failure_of(notes).attempts == len(model.calls) == retries + 1


@pytest.mark.parametrize("token", ["a", Reasoning("hm")])
async def test_nothing_is_repeated_after_the_first_token(token: Line) -> None:
    model = ScriptedModel({"A": [[token, soon(ProviderError)], ["again"]], "B": ["b"]})
    notes = await take_turn(model, fallbacks=["B"])
    assert len(model.calls) == 1
    assert (failure_of(notes).failure.code, end_of(notes).status) == ("provider_error", "failed")
    assert end_of(notes).output == ("a" if token == "a" else "")


async def test_a_fallback_answers_when_the_first_model_could_not_begin() -> None:
    model = ScriptedModel({"A": [soon(ProviderError)], "B": [soon(ProviderAuth)], "C": ["c"]})
    end = end_of(await take_turn(model, fallbacks=["B", "C"], num_retries=1))
    assert (end.status, end.output, end.model) == ("success", "c", "C")
    assert [call.model.target for call in model.calls] == ["A", "A", "B", "C"]


async def test_the_last_models_failure_is_the_turns() -> None:
    model = ScriptedModel({"A": [soon(ProviderRejected)], "B": [soon(ProviderAuth)]})
    notes = await take_turn(model, fallbacks=["B"])
    assert (failure_of(notes).failure.code, failure_of(notes).attempts) == ("provider_auth", 2)


async def test_a_model_that_does_not_begin_or_falls_silent_is_cut() -> None:
    silent = ScriptedModel({"A": ["a"]}, order="-")
    notes = await take_turn(silent, TurnTimeouts(first_token_seconds=20), lasts=20, num_retries=0)
    assert failure_of(notes).failure.code == "first_token_timeout"
    halting = ScriptedModel({"A": ["a", "b"]}, order="A-")
    notes = await take_turn(halting, TurnTimeouts(idle_seconds=20), lasts=20, num_retries=0)
    assert (failure_of(notes).failure.code, end_of(notes).output) == ("idle_timeout", "a")


class Slow(ScriptedModel):
    """Speaks every eight seconds, and falls silent in the end."""

    def __init__(self, clock: DrivenClock, *line: Line) -> None:
        super().__init__({})
        self._clock = clock
        self._line = line

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        for delta in self._line:
            await sleep(self._clock, 8)
            assert not isinstance(delta, ModelError)
            on_deltas((delta,))
        await anyio.sleep_forever()


async def test_silence_counts_from_the_last_token() -> None:
    clock = DrivenClock()
    notes = await take_turn(
        Slow(clock, "a", "b", "c"), TurnTimeouts(first_token_seconds=9, idle_seconds=10), lasts=34, clock=clock
    )
    assert (failure_of(notes).failure.code, end_of(notes).output) == ("idle_timeout", "abc")


async def test_a_model_that_thinks_is_not_silent() -> None:
    clock = DrivenClock()
    thinker = Slow(clock, Reasoning("hm"), Reasoning(" hm"), "a", Finished("stop"))
    notes = await take_turn(thinker, TurnTimeouts(first_token_seconds=10, idle_seconds=10), lasts=37, clock=clock)
    assert [event.text for event in notes.events if isinstance(event, ReasoningDelta)] == ["hm", " hm"]
    assert end_of(notes).output == "a", "thoughts are not handed on"


async def test_a_turn_has_a_timeout_of_its_own() -> None:
    notes = await take_turn(ScriptedModel({"A": ["a", "b"]}, order="A-"), TurnTimeouts(turn_seconds=50), lasts=50)
    assert failure_of(notes).failure.code == "turn_timeout"
    notes = await take_turn(ScriptedModel({"A": ["a", "b"]}, order="A-"), timeout=30, lasts=30)
    assert (failure_of(notes).failure.code, end_of(notes).output) == ("turn_timeout", "a")


async def test_a_turns_time_runs_while_it_waits_to_retry() -> None:
    model = ScriptedModel({"A": [ProviderRateLimited("no", retry_after_seconds=20)]})
    notes = await take_turn(model, TurnTimeouts(turn_seconds=12.5), lasts=12.5)
    assert (failure_of(notes).failure.code, failure_of(notes).attempts) == ("turn_timeout", 1)
    assert failure_of(notes).failure.message == "A: the turn took longer than 12.5 s"


async def test_a_complete_answer_does_not_wait_for_figures_that_never_come() -> None:
    model = ScriptedModel({"A": ["a", Finished("stop"), "b"]}, order="A-")
    end = end_of(await take_turn(model, TurnTimeouts(idle_seconds=3), lasts=3))
    assert (end.status, end.output, end.finish_reason) == ("success", "a", "stop")
    assert end.usage.estimated


async def test_figures_that_keep_coming_do_not_delay_a_complete_answer() -> None:
    model = ScriptedModel({"A": ["a", Finished("stop"), TokenCount(1, 1), "b"]}, order="A-")
    end = end_of(await take_turn(model, TurnTimeouts(idle_seconds=5, turn_seconds=4), lasts=4))
    assert (end.status, end.finish_reason, end.usage.output_tokens) == ("success", "stop", 1)


async def test_no_fallback_is_called_after_the_deadline() -> None:
    model = ScriptedModel({"A": [ProviderRateLimited("no", retry_after_seconds=20)], "B": ["b"]})
    notes = await take_turn(model, TurnTimeouts(turn_seconds=15), lasts=15, fallbacks=["B"])
    assert failure_of(notes).failure.code == "turn_timeout"
    assert [call.model.target for call in model.calls] == ["A"]


async def test_a_failure_that_comes_after_the_deadline_is_a_turn_timeout() -> None:
    class Late(ScriptedModel):
        async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
            self.calls.append(call)
            clock.stall(10)  # the loop is busy when the turn ends
            raise ProviderError("no")

    clock = DrivenClock()
    notes = await take_turn(Late({}), TurnTimeouts(turn_seconds=5), clock=clock)
    assert failure_of(notes).failure.code == "turn_timeout"


@pytest.mark.parametrize("reason", ["\ud800", "x" * 41, "sk-ключ"])
async def test_an_unknown_finish_reason_is_not_passed_on(reason: str) -> None:
    assert end_of(await take_turn(ScriptedModel({"A": ["a", Finished(reason)]}))).finish_reason == "unknown"


async def test_a_reply_has_a_largest_length() -> None:
    notes = await take_turn(ScriptedModel({"A": ["x" * (1 << 20)] * 17}))
    assert failure_of(notes).failure.code == "upstream_invalid"
    assert len(end_of(notes).output) == 16 << 20


async def test_a_tool_call_counts_as_the_first_token() -> None:
    model = ScriptedModel({"A": [ToolCallDelta(0, "call_1", "add", "{}"), "a"]}, order="-")
    notes = await take_turn(model, TurnTimeouts(first_token_seconds=5, idle_seconds=8), lasts=8, num_retries=0)
    assert failure_of(notes).failure.code == "idle_timeout"


async def test_a_cancelled_turn_ends_cancelled_with_its_text_so_far() -> None:
    model = ScriptedModel({"A": ["a", "b"]}, order="A-")
    compiled = swarm()
    turn = Turn(compiled.plan.stages[0].agents[0], number=1, stage=1, loop=1, task_index=None)
    notes = KeptEvents()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            messages: list[ChatMessage] = []
            tasks.start_soon(
                TurnRunner({"scripted": model}, TurnTimeouts()).take_turn, turn, messages, RunContext(notes)
            )
            await notes.until(TextDelta)
            tasks.cancel_scope.cancel()
    assert (end_of(notes).status, end_of(notes).output) == ("cancelled", "a")
    assert end_of(notes).usage.estimated
    assert model.open == 0


async def test_a_delta_that_is_too_large_fails_the_turn() -> None:
    notes = await take_turn(ScriptedModel({"A": ["x" * (1 << 20), "y" * ((1 << 20) + 1)]}))
    assert failure_of(notes).failure.code == "upstream_invalid"
    assert len(end_of(notes).output) == 1 << 20


async def test_reasoning_that_is_too_large_fails_the_turn() -> None:
    notes = await take_turn(ScriptedModel({"A": [Reasoning("y" * ((1 << 20) + 1))]}))
    assert failure_of(notes).failure.code == "upstream_invalid"
