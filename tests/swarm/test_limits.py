"""The operator's limits on a plan."""

from typing import Any

import pytest

from swarmstream.errors import LimitExceeded
from swarmstream.swarm.limits import PlanLimits
from tests.swarm.compiling import agents, names, refused, swarm_of


def test_as_many_agents_as_the_limit_says_and_not_one_more() -> None:
    limits = PlanLimits(max_agents=2)
    assert names(swarm_of({"agents": agents("A", "B")}, limits=limits)) == [["A"], ["B"]]
    detail = refused(LimitExceeded, {"agents": agents("A", "B", "C")}, at=("agents",), limits=limits)
    assert "2 (SWARMSTREAM_MAX_AGENTS)" in detail


def test_as_many_stages_as_the_limit_says_and_not_one_more() -> None:
    limits = PlanLimits(max_stages=3)
    assert len(swarm_of({"rearrange_flow": "A -> B -> A"}, limits=limits).plan.stages) == 3
    refused(LimitExceeded, {"rearrange_flow": "A -> B -> A -> B"}, at=("rearrange_flow",), limits=limits)


@pytest.mark.parametrize(
    ("fields", "turns"),
    [
        ({"max_loops": 12}, 24),
        ({"max_loops": 3, "task": None, "tasks": ["one", "two"]}, 12),
        ({"rearrange_flow": "A, B -> A", "max_loops": 2}, 6),
        ({"swarm_type": "ConcurrentWorkflow", "max_loops": 2}, 4),
    ],
)
def test_as_many_turns_as_the_limit_says_and_not_one_more(fields: dict[str, Any], turns: int) -> None:
    assert swarm_of(fields, limits=PlanLimits(max_turns=turns)).plan.turns == turns
    detail = refused(LimitExceeded, fields, at=("max_loops",), limits=PlanLimits(max_turns=turns - 1))
    assert f"{turns} turns" in detail
