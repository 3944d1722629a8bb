"""The things of a run that all its turns share."""

from dataclasses import dataclass, field

from swarmstream.engine.budget import Budget
from swarmstream.engine.recorder import Recorder
from swarmstream.engine.run_calls import RunCalls


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run's recorder, its budget and its count of model calls."""

    recorder: Recorder
    budget: Budget | None = None
    """None: the run may spend as much as it wants."""
    calls: RunCalls = field(default_factory=RunCalls)
