"""Supervisors whose engine has the models of a test."""

from collections.abc import Mapping

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.engine.stages import PlanRunner
from swarmstream.engine.turn import TurnRunner
from swarmstream.journal.base import Journal
from swarmstream.llm.base import ChatModel
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.supervisor import Supervisor


def supervisor_of(
    journal: Journal, models: Mapping[str, ChatModel], limits: RunLimits, clock: Clock = SYSTEM_CLOCK
) -> Supervisor:
    """Return a supervisor of runs that call these models, which are by lane."""
    return Supervisor(journal, PlanRunner(TurnRunner(models, limits.timeouts, clock=clock)), limits, clock)
