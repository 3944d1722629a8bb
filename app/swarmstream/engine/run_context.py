"""The things of a run that all its turns share."""

from dataclasses import dataclass, field

from swarmstream.engine.budget import Budget
from swarmstream.engine.recorder import Recorder
from swarmstream.engine.run_calls import RunCalls


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run as its turns see it."""

    recorder: Recorder
    budget: Budget | None = None
    """None: the run may spend as much as it wants."""
    calls: RunCalls = field(default_factory=RunCalls)
