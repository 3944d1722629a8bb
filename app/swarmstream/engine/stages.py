"""The execution of plans: stage after stage, the agents of a stage at once."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from anyio import TaskHandle, create_task_group
from anyio.lowlevel import checkpoint_if_cancelled

from swarmstream.engine.handoff import MAX_HANDOFFS_IN_A_ROW, Handoff
from swarmstream.engine.replay import RecoveredTurns
from swarmstream.engine.run_context import RunContext
from swarmstream.engine.transcript import Transcript
from swarmstream.engine.turn import Turn, TurnResult, TurnRunner
from swarmstream.events import TurnEnded
from swarmstream.llm.messages import ChatMessage
from swarmstream.swarm.plan import Agent, Plan
from swarmstream.swarm.prompts import TranscriptEntry, prompt


@dataclass(frozen=True, slots=True)
class PlanRunner:
    """Carries out the plans of all runs of a process."""

    runner: TurnRunner

    async def carry_out(
        self,
        plan: Plan,
        run: RunContext,
        *,
        on_error: Literal["fail", "continue"],
        before_turn: Callable[[], Awaitable[None]],
        recovered: RecoveredTurns,
    ) -> bool:
        """Take all turns of the plan; return False where a turn failed and `on_error` is `"fail"`, which ends it."""
        return await Execution(plan, self.runner, run, on_error, before_turn, recovered).carry_out()


@dataclass(frozen=True, slots=True)
class Execution:
    """The execution of one run's plan."""

    plan: Plan
    runner: TurnRunner
    run: RunContext
    on_error: Literal["fail", "continue"]
    before_turn: Callable[[], Awaitable[None]]
    """Waits while no new turn may begin."""
    recovered: RecoveredTurns = field(default_factory=RecoveredTurns)
    """The turns that an earlier process took or began."""
    _numbers: Iterator[int] = field(init=False)
    """Of the turns that begin now."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", count(self.recovered.next_number))

    async def carry_out(self) -> bool:
        """Take all turns of the plan; return False where a turn failed and `on_error` is `"fail"`, which ends it."""
        for task_index, opening in self.plan.conversations():
            transcript = Transcript(self.plan.hears)
            for loop in range(1, self.plan.loops + 1):
                transcript.begin_loop()
                for number, stage in enumerate(self.plan.stages, start=1):
                    await self.before_turn()
                    turns = [
                        self._turn(agent, number, loop, task_index, position)
                        for position, agent in enumerate(stage.agents)
                    ]
                    results = await self._run_stage(turns, opening, transcript.entries)
                    if self.on_error == "fail" and any(result.failure for result in results):
                        return False
                    transcript.add_stage(
                        TranscriptEntry(result.agent, result.output, result.failure) for result in results
                    )
        return True

    async def _run_stage(
        self, turns: Sequence[Turn], opening: Sequence[ChatMessage], transcript: Sequence[TranscriptEntry]
    ) -> list[TurnResult]:
        """Take the turns of a stage at once; return their results in stage order, whichever ends first.

        A turn that fails leaves its siblings alone: they are paid for.
        """
        if len(turns) == 1:
            return [await self._take_turns(turns[0], opening, transcript)]
        handles: list[TaskHandle[TurnResult]] = []
        async with create_task_group() as tasks:
            handles += [
                tasks.create_task(self._take_turns(turn, opening, transcript), name=f"agent {turn.agent.name}")
                for turn in turns
            ]
        return [handle.return_value for handle in handles]

    async def _take_turns(
        self, turn: Turn, opening: Sequence[ChatMessage], transcript: Sequence[TranscriptEntry]
    ) -> TurnResult:
        """Take the turn, and those of the agents that it is handed off to; return the last one's result."""
        result = await self._take_turn(turn, opening, transcript)
        extended = list(transcript)
        for handoffs in count(1):
            if result.handoff is None:
                break
            text = "\n\n".join(text for text in (result.output, result.handoff.message) if text)
            extended += [TranscriptEntry(result.agent, text)] if text else []
            await self.before_turn()
            turn = self._turn(
                result.handoff.receiver,
                turn.stage,
                turn.loop,
                turn.task_index,
                turn.position,
                handoffs_left=MAX_HANDOFFS_IN_A_ROW - handoffs,
                handed_by=turn.number,
            )
            result = await self._take_turn(turn, opening, extended)
        return result

    def _turn(
        self,
        agent: Agent,
        stage: int,
        loop: int,
        task_index: int | None,
        position: int,
        *,
        handoffs_left: int = MAX_HANDOFFS_IN_A_ROW,
        handed_by: int | None = None,
    ) -> Turn:
        """Return the turn of the agent at this place of the plan, with the number that it had if it is recovered."""
        recovered = self.recovered.find(agent.name, stage=stage, loop=loop, task_index=task_index, handed_by=handed_by)
        number = recovered.started.turn if recovered else next(self._numbers)
        return Turn(agent, number, stage, loop, task_index, position, handoffs_left, recovered)

    async def _take_turn(
        self, turn: Turn, opening: Sequence[ChatMessage], transcript: Sequence[TranscriptEntry]
    ) -> TurnResult:
        if turn.recovered is not None and turn.recovered.ended is not None:
            return _recovered_result(turn, turn.recovered.ended, turn.recovered.failure)
        await checkpoint_if_cancelled()  # a cancelled run begins no turn
        agent = turn.agent
        messages = prompt(
            agent=agent.name,
            rules=agent.rules,
            system_prompt=agent.system_prompt,
            opening=opening,
            transcript=transcript,
        )
        return await self.runner.take_turn(turn, messages, self.run)


def _recovered_result(turn: Turn, ended: TurnEnded, failure: str | None) -> TurnResult:
    """Return the result of a turn that an earlier process took to its end."""
    receiver = next((agent for agent in turn.agent.handoffs if agent.name == ended.handed_to), None)
    handoff = Handoff(receiver, ended.handed_message) if receiver else None
    return TurnResult(turn.agent.name, ended.output, failure, handoff)
