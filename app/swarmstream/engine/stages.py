"""The execution of a plan: stage after stage, the agents of a stage at once."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from anyio import TaskHandle, create_task_group
from anyio.lowlevel import checkpoint_if_cancelled

from swarmstream.engine.budget import Budget
from swarmstream.engine.handoff import MAX_HANDOFFS_IN_A_ROW, Handoff
from swarmstream.engine.model_calls import Recorder
from swarmstream.engine.replay import RecoveredTurns
from swarmstream.engine.run_calls import RunCalls
from swarmstream.engine.turn import Turn, TurnResult, TurnRunner
from swarmstream.events import TurnEnded
from swarmstream.llm.base import ChatMessage
from swarmstream.swarm.agents import Agent
from swarmstream.swarm.plan import Plan
from swarmstream.swarm.prompts import Said, prompt


@dataclass(frozen=True, slots=True)
class Execution:
    """One run's way through its plan, with what it needs from outside."""

    plan: Plan
    speaker: TurnRunner
    recorder: Recorder
    on_error: Literal["fail", "continue"]
    before_stage: Callable[[], Awaitable[None]]
    """Waits while no new turn may start."""
    budget: Budget | None = None
    calls: RunCalls = field(default_factory=RunCalls)
    past: RecoveredTurns = field(default_factory=RecoveredTurns)
    """What an earlier process has done of it."""
    _numbers: Iterator[int] = field(init=False)
    """Of the turns that begin now."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", count(self.past.next_number))

    async def run(self) -> bool:
        """Whether the plan was carried out to its end; False when a turn failed and `on_error` is `"fail"`."""
        for task_index, opening in enumerate(self.plan.openings):
            said: list[Said] = []
            for loop in range(1, self.plan.loops + 1):
                heard = len(said)
                for number, stage in enumerate(self.plan.stages, start=1):
                    await self.before_stage()
                    index = task_index if self.plan.indexed else None
                    speakers = [
                        self._turn(agent, number, loop, index, place) for place, agent in enumerate(stage.agents)
                    ]
                    results = await self._run_stage(speakers, opening, said)
                    if self.on_error == "fail" and any(result.failure for result in results):
                        return False
                    said += [Said(result.agent, result.output, result.failure) for result in results]
                if self.plan.hears_only_last_loop:
                    del said[:heard]
        return True

    async def _run_stage(
        self, turns: Sequence[Turn], opening: Sequence[ChatMessage], said: Sequence[Said]
    ) -> list[TurnResult]:
        """Results come back in stage order, whoever ends first; a failed turn says so, its siblings finish."""
        if len(turns) == 1:
            return [await self._take_turns(turns[0], opening, said)]
        handles: list[TaskHandle[TurnResult]] = []
        async with create_task_group() as tasks:
            handles += [
                tasks.create_task(self._take_turns(turn, opening, said), name=f"agent {turn.agent.name}")
                for turn in turns
            ]
        return [handle.return_value for handle in handles]

    async def _take_turns(self, turn: Turn, opening: Sequence[ChatMessage], said: Sequence[Said]) -> TurnResult:
        """The turn, and those of the agents that the word was passed to: the last one's result."""
        result = await self._take(turn, opening, said)
        passed = list(said)
        for row in count(1):
            if result.handoff is None:
                break
            told = "\n\n".join(text for text in (result.output, result.handoff.message) if text)
            passed += [Said(result.agent, told)] if told else []
            await self.before_stage()
            turn = self._turn(
                result.handoff.receiver,
                turn.stage,
                turn.loop,
                turn.task_index,
                turn.position,
                may_hand_off=row < MAX_HANDOFFS_IN_A_ROW,
                handed_by=turn.number,
            )
            result = await self._take(turn, opening, passed)
        return result

    def _turn(
        self,
        agent: Agent,
        stage: int,
        loop: int,
        task_index: int | None,
        position: int,
        *,
        may_hand_off: bool = True,
        handed_by: int | None = None,
    ) -> Turn:
        past = self.past.take(agent.name, stage=stage, loop=loop, task_index=task_index, handed_by=handed_by)
        number = past.started.turn if past else next(self._numbers)
        return Turn(agent, number, stage, loop, task_index, position, may_hand_off, past)

    async def _take(self, turn: Turn, opening: Sequence[ChatMessage], said: Sequence[Said]) -> TurnResult:
        if turn.past is not None and turn.past.ended is not None:
            return _result_of(turn, turn.past.ended)
        await checkpoint_if_cancelled()  # what was cancelled starts nothing more
        agent = turn.agent
        messages = prompt(
            agent=agent.name, rules=agent.rules, system_prompt=agent.system_prompt, opening=opening, said=said
        )
        return await self.speaker.take_turn(turn, messages, self.recorder, self.budget, self.calls)


def _result_of(turn: Turn, ended: TurnEnded) -> TurnResult:
    """What a turn came to that an earlier process has taken."""
    assert turn.past is not None
    receiver = next((agent for agent in turn.agent.handoffs if agent.name == ended.handed_to), None)
    handoff = Handoff(receiver, ended.handed_message) if receiver else None
    return TurnResult(turn.agent.name, ended.output, turn.past.failure, handoff)
