"""Swarm types arrange agents into stages; what cannot be arranged is refused (docs/wire.md, section 2)."""

from typing import Any

import pytest

from swarmstream.errors import (
    DuplicateAgent,
    FlowSyntaxError,
    InvalidRequest,
    LimitExceeded,
    NoCredentials,
    NoTask,
    UnknownAgent,
    UnknownModel,
    UnknownSwarmType,
    UnsupportedOption,
)
from swarmstream.swarm.compile import compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.payloads import SwarmRequest
from tests.fakes.scripted_model import AnyModel
from tests.swarm.compiling import agents, names, refused, swarm_of

OURS = ["SequentialWorkflow", "AgentRearrange", "ConcurrentWorkflow"]


@pytest.mark.parametrize(
    ("fields", "swarm_type", "stages"),
    [
        ({}, "SequentialWorkflow", [["A"], ["B"], ["C"]]),
        ({"swarm_type": "SequentialWorkflow"}, "SequentialWorkflow", [["A"], ["B"], ["C"]]),
        ({"swarm_type": "ConcurrentWorkflow"}, "ConcurrentWorkflow", [["A", "B", "C"]]),
        ({"rearrange_flow": "B, A -> C -> B"}, "AgentRearrange", [["B", "A"], ["C"], ["B"]]),
        ({"swarm_type": "AgentRearrange", "rearrange_flow": "C->A,B"}, "AgentRearrange", [["C"], ["A", "B"]]),
    ],
)
def test_each_swarm_type_has_its_stages(fields: dict[str, Any], swarm_type: str, stages: list[list[str]]) -> None:
    compiled = swarm_of({"agents": agents("A", "B", "C"), **fields})
    assert compiled.swarm_type == swarm_type
    assert names(compiled) == stages
    assert compiled.plan.hears == ("previous_loop" if swarm_type == "ConcurrentWorkflow" else "everything")


@pytest.mark.promise("W-28")
@pytest.mark.parametrize("asked", ["MixtureOfAgents", "HierarchicalSwarm", "auto", "sequentialworkflow", " "])
def test_a_swarm_type_that_we_do_not_run_is_refused_with_those_that_we_do(asked: str) -> None:
    detail = refused(UnknownSwarmType, {"swarm_type": asked}, at=("swarm_type",))
    assert f'"{asked}"' in detail
    assert all(name in detail for name in OURS)


def test_a_long_swarm_type_is_quoted_in_part() -> None:
    assert len(refused(UnknownSwarmType, {"swarm_type": "x" * 5000}, at=("swarm_type",))) < 250


@pytest.mark.parametrize("no_agents", [[], None])
def test_a_swarm_without_agents_is_refused(no_agents: Any) -> None:
    refused(InvalidRequest, {"agents": no_agents}, at=("agents",))
    with pytest.raises(InvalidRequest):
        compile_swarm(SwarmRequest(task="go"), AnyModel(), PlanLimits())


@pytest.mark.promise("W-23")
@pytest.mark.parametrize("twin", ["B", " B", "\tB\n"])
def test_two_agents_of_one_name_are_refused_at_the_second(twin: str) -> None:
    detail = refused(DuplicateAgent, {"agents": agents("A", "B", "C", twin)}, at=("agents", 3, "agent_name"))
    assert '"B"' in detail


@pytest.mark.parametrize(
    ("flow", "name", "column"),
    [("A -> Bx", "Bx", 6), ("A, b -> B", "b", 4), ("A -> B -> Nobody Here, A", "Nobody Here", 11)],
)
def test_a_flow_that_names_no_agent_is_refused_with_the_column(flow: str, name: str, column: int) -> None:
    detail = refused(UnknownAgent, {"rearrange_flow": flow}, at=("rearrange_flow",))
    assert f'"{name}"' in detail
    assert f"column {column})" in detail


def test_a_flow_that_cannot_be_read_is_refused_with_the_column() -> None:
    assert "(column 6)" in refused(FlowSyntaxError, {"rearrange_flow": "A -> -> B"}, at=("rearrange_flow",))


def test_a_rearrangement_without_a_flow_is_refused() -> None:
    refused(InvalidRequest, {"swarm_type": "AgentRearrange"}, at=("rearrange_flow",))
    refused(FlowSyntaxError, {"swarm_type": "AgentRearrange", "rearrange_flow": " "}, at=("rearrange_flow",))


def test_every_refusal_of_a_payload_is_the_clients_to_mend() -> None:
    refusals = [
        DuplicateAgent,
        FlowSyntaxError,
        InvalidRequest,
        LimitExceeded,
        NoCredentials,
        NoTask,
        UnknownAgent,
        UnknownModel,
        UnknownSwarmType,
        UnsupportedOption,
    ]
    assert {error.status for error in refusals} == {400}
    assert not any(error.retryable for error in refusals)
    assert len({error.code for error in refusals}) == len(refusals)
