"""The summary of a run: the fold of its events that every answer is made from."""

from dataclasses import dataclass, field, replace

from swarmstream.events import (
    AgentUsage,
    Event,
    Failure,
    ReasoningDelta,
    RunDescribed,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
    TurnEnded,
    TurnFailed,
    TurnRestarted,
    TurnStarted,
    Usage,
    UsageTotalled,
)


@dataclass(slots=True)
class Summary:
    """The state of a run after the events seen so far."""

    described: RunDescribed | None = None
    started: RunStarted | None = None
    open_turns: dict[int, TurnStarted] = field(default_factory=dict[int, TurnStarted])
    """The turns that have begun and not ended, by number."""
    turns: dict[int, TurnEnded] = field(default_factory=dict[int, TurnEnded])
    """The turns that have ended, by number."""
    failure: Failure | None = None
    """The failure of the run, or of the first turn that failed."""
    failed_turn: TurnFailed | None = None
    """The first turn that failed."""
    failures: dict[int, Failure] = field(default_factory=dict[int, Failure])
    """The failures of turns, by number."""
    stopped: RunFailed | None = None
    """The event that stopped the run from outside its turns."""
    usage: UsageTotalled | None = None
    ended: RunEnded | None = None

    def observe(self, event: Event) -> None:
        """Bring the state up to this event."""
        match event:
            case TextDelta() | ReasoningDelta():
                pass
            case TurnStarted():
                self.open_turns[event.turn] = event
            case TurnRestarted():
                if self.failed_turn is not None and self.failed_turn.turn == event.turn:
                    self.failure = self.failed_turn = None  # that attempt was cut before its end
            case TurnEnded():
                self.open_turns.pop(event.turn, None)
                self.turns[event.turn] = event
            case TurnFailed():
                self.failure = self.failure or event.failure
                self.failed_turn = self.failed_turn or event
                self.failures[event.turn] = event.failure
            case RunFailed():
                self.failure = event.failure
                self.stopped = event
            case RunDescribed():
                self.described = event
            case RunStarted():
                self.started = event
            case UsageTotalled():
                self.usage = event
            case RunEnded():
                self.ended = event
            case _:
                pass

    def copy(self) -> "Summary":
        """Return a summary that goes its own way from here on; the events in it are shared."""
        return replace(self, open_turns=self.open_turns.copy(), turns=self.turns.copy(), failures=self.failures.copy())

    @property
    def answers(self) -> list[TurnEnded]:
        """The turns that have ended, in flow order: within a stage, after an agent's come those it handed off to."""
        return sorted(
            self.turns.values(),
            key=lambda turn: (turn.task_index or 0, turn.loop, turn.stage, turn.position, turn.turn),
        )

    @property
    def failed_agents(self) -> tuple[str, ...]:
        """The names of the agents with a failed turn, each once, in flow order."""
        return tuple(dict.fromkeys(turn.agent for turn in self.answers if turn.status == "failed"))

    def total(self, t_ms: int) -> UsageTotalled:
        """Return the usage of all turns that have ended, in total and by agent."""
        by_agent: dict[str, AgentUsage] = {}
        for turn in self.answers:
            before = by_agent.get(turn.agent, AgentUsage(turn.agent, 0, Usage()))
            by_agent[turn.agent] = AgentUsage(turn.agent, before.turns + 1, before.usage + turn.usage)
        total = sum((usage.usage for usage in by_agent.values()), Usage())
        return UsageTotalled(t_ms, total, tuple(by_agent.values()))
