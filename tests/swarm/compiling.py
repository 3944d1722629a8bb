"""Payloads compiled to plans, and refusals of them."""

from typing import Any

import pytest
from pydantic import ValidationError

from swarmstream.errors import AppError
from swarmstream.llm.model_ref import ModelRegistry
from swarmstream.llm.registry import Registry
from swarmstream.swarm.compile import Compiled, compile_agent, compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from swarmstream.swarm.plan import Agent
from tests.fakes.scripted_model import AnyModel

Loc = tuple[str | int, ...]
OPENAI = Registry(default_model="gpt-4.1-mini", environ={"OPENAI_API_KEY": "test"})
"""A registry with the real tables: gpt-4 writes at most 4,096 tokens, gpt-4.1-mini 32,768."""


def agents(*names: str) -> list[dict[str, Any]]:
    return [{"agent_name": name} for name in names]


def swarm_of(
    fields: dict[str, Any], *, models: ModelRegistry | None = None, limits: PlanLimits | None = None
) -> Compiled:
    """The plan of a swarm with these fields; without others it is two agents, one after another, with a task."""
    request = SwarmRequest.model_validate({"agents": agents("A", "B"), "task": "go", **fields})
    return compile_swarm(request, models or AnyModel(), limits or PlanLimits())


def agent_of(fields: dict[str, Any], *, models: ModelRegistry | None = None) -> Compiled:
    request = AgentRequest.model_validate({"agent_config": {"agent_name": "A"}, "task": "go", **fields})
    return compile_agent(request, models or AnyModel(), PlanLimits())


def one(spec: dict[str, Any], *, models: ModelRegistry | None = None, **fields: Any) -> Agent:
    """The agent that this spec becomes in a swarm."""
    compiled = swarm_of({"agents": [{"agent_name": "A", **spec}], **fields}, models=models)
    return compiled.plan.stages[0].agents[0]


def refused(error: type[AppError], fields: dict[str, Any], *, at: Loc, **options: Any) -> str:
    """Return the detail of the refusal of a swarm with these fields."""
    with pytest.raises(error) as caught:
        swarm_of(fields, **options)
    assert type(caught.value) is error
    assert caught.value.location == at
    return caught.value.detail


def agent_refused(error: type[AppError], fields: dict[str, Any], *, at: Loc, **options: Any) -> str:
    with pytest.raises(error) as caught:
        agent_of(fields, **options)
    assert type(caught.value) is error
    assert caught.value.location == at
    return caught.value.detail


def names(compiled: Compiled) -> list[list[str]]:
    return [[agent.name for agent in stage.agents] for stage in compiled.plan.stages]


def invalid_at(model: type[SwarmRequest | AgentRequest], payload: dict[str, Any]) -> list[Loc]:
    """Where a payload is of the wrong shape."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(payload)
    return [error["loc"] for error in caught.value.errors()]


HI = {"role": "user", "content": "hi"}
