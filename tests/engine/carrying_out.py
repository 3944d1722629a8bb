"""Turns and plans carried out by a scripted model, without a server."""

from typing import Any

import anyio

from swarmstream.engine.run_context import RunContext
from swarmstream.engine.stages import Execution
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.engine.turn import Turn, TurnRunner
from swarmstream.errors import ModelError
from swarmstream.events import Event, TurnEnded, TurnFailed
from swarmstream.swarm.compile import Compiled
from tests.fakes.clock import DrivenClock
from tests.fakes.recorder import KeptEvents
from tests.fakes.scripted_model import ScriptedModel, swarm


async def carry_out(compiled: Compiled, model: ScriptedModel, *, on_error: Any = "fail") -> tuple[bool, list[Event]]:
    notes = KeptEvents()
    execution = Execution(
        compiled.plan,
        TurnRunner({"scripted": model}, TurnTimeouts()),
        RunContext(notes),
        on_error,
        anyio.lowlevel.checkpoint,
    )
    with anyio.fail_after(30):
        succeeded = await execution.carry_out()
    return succeeded, notes.events


async def take_turn(
    model: ScriptedModel,
    timeouts: TurnTimeouts | None = None,
    *,
    lasts: float = 0.0,
    clock: DrivenClock | None = None,
    **agent: Any,
) -> KeptEvents:
    """What happens in a turn of agent A, and of its fallbacks; it `lasts` so many seconds, neither more nor less."""
    compiled = swarm(agents=[{"agent_name": "A", "model_name": "A", **agent}])
    turn = Turn(compiled.plan.stages[0].agents[0], number=1, stage=1, loop=1, task_index=None)
    clock = clock or DrivenClock()
    notes = KeptEvents(clock)
    speaker = TurnRunner({"scripted": model}, timeouts or TurnTimeouts(), clock=clock)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speaker.take_turn, turn, list(compiled.plan.openings[0]), RunContext(notes))
            if lasts:
                await clock.advance(lasts - 0.001)
                assert not isinstance(notes.events[-1], TurnEnded), "it ends too early"
                await clock.advance(0.001)
    assert model.open == 0, "every stream was closed"
    assert clock.pending == [], "nothing waits any more"
    return notes


def end_of(notes: KeptEvents) -> TurnEnded:
    end = notes.events[-1]
    assert isinstance(end, TurnEnded)
    return end


def failure_of(notes: KeptEvents) -> TurnFailed:
    failed = notes.events[-2]
    assert isinstance(failed, TurnFailed)
    return failed


def soon(error: type[ModelError]) -> ModelError:
    """An error after which the provider asks to come back at once: what is tried again is, without a pause."""
    return error("no", retry_after_seconds=0)
