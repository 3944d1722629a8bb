"""The models, options, limits and prompts of an agent (docs/wire.md, section 2)."""

from typing import Any

import pytest

from swarmstream.errors import AppError, NoCredentials, UnknownModel, UnsupportedOption
from swarmstream.llm.registry import Registry
from swarmstream.swarm.prompts import prompt as prompt_of
from tests.swarm.compiling import OPENAI, Loc, agent_of, agent_refused, agents, one, refused, swarm_of

LLM_ARGS = [
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
]
AGENT_OPTIONS: list[tuple[str, Any]] = [
    ("response_format", {}),
    ("tools_list_dictionary", []),
    ("selected_tools", []),
    ("selected_tools", ""),
    ("mcp_url", ""),
    ("mcp_config", {}),
    ("mcp_configs", []),
    ("mcp_configs", {}),
    ("handoffs", []),
]


@pytest.mark.parametrize(("option", "empty"), AGENT_OPTIONS)
def test_an_option_of_an_agent_may_be_empty(option: str, empty: Any) -> None:
    for nothing in (empty, None):
        spec = {"agent_name": "B", option: nothing}
        assert swarm_of({"agents": [spec]}).warnings == ()
        assert agent_of({"agent_config": spec}).warnings == ()


def test_running_in_the_foreground_can_be_requested() -> None:
    assert swarm_of({"background": False}).warnings == ()


@pytest.mark.promise("W-25")
@pytest.mark.parametrize("name", ["api_key", "api_base", "base_url", "model", "messages", "extra_headers", "Top_p"])
def test_llm_args_beyond_the_list_are_refused(name: str) -> None:
    detail = refused(
        UnsupportedOption,
        {"agents": [*agents("A"), {"agent_name": "B", "llm_args": {"seed": 1, name: "x"}}]},
        at=("agents", 1, "llm_args", name),
    )
    assert f'"{name}"' in detail
    assert all(allowed in detail for allowed in LLM_ARGS)


def test_llm_args_of_the_list_are_handed_on() -> None:
    wanted = {name: [name] for name in LLM_ARGS}
    assert one({"llm_args": wanted}).sampling.llm_args == wanted


@pytest.mark.parametrize(
    ("spec", "error", "field"),
    [
        ({"model_name": "nonsense"}, UnknownModel, ("model_name",)),
        ({"model_name": "claude-sonnet-4-5"}, NoCredentials, ("model_name",)),
        ({"fallbacks": ["gpt-4", "nonsense"]}, UnknownModel, ("fallbacks", 1)),
        ({"fallbacks": ["claude-sonnet-4-5"]}, NoCredentials, ("fallbacks", 0)),
    ],
)
def test_a_model_that_cannot_be_called_is_refused_where_it_is_named(
    spec: dict[str, Any], error: type[AppError], field: Loc
) -> None:
    spec = {"agent_name": "B", **spec}
    refused(error, {"agents": [*agents("A"), spec]}, at=("agents", 1, *field), models=OPENAI)
    agent_refused(error, {"agent_config": spec}, at=("agent_config", *field), models=OPENAI)


def test_a_default_model_that_cannot_be_called_is_refused_for_the_agent_that_needs_it() -> None:
    nothing = Registry(default_model="gpt-4.1-mini", environ={})
    detail = refused(
        NoCredentials,
        {"agents": [{"agent_name": "A", "model_name": "demo/swarm"}, {"agent_name": "B"}]},
        at=("agents", 1, "model_name"),
        models=nothing,
    )
    assert "OPENAI_API_KEY" in detail


def test_an_agents_models_are_its_own_or_the_default_then_its_fallbacks() -> None:
    def models(spec: dict[str, Any]) -> list[str]:
        return [model.name for model in one(spec).models]

    assert models({}) == ["default"]
    assert models({"model_name": "m"}) == ["m"]
    assert models({"fallbacks": ["x", "y"]}) == ["default", "x", "y"]


@pytest.mark.parametrize(
    ("spec", "max_tokens"),
    [
        ({"model_name": "gpt-4"}, 4096),
        ({"model_name": "gpt-4", "max_tokens": None}, 4096),
        ({"model_name": "gpt-4", "max_tokens": 8192}, 8192),
        ({"model_name": "gpt-4", "max_tokens": 5000}, 5000),
        ({"model_name": "gpt-4", "max_tokens": 1}, 1),
        ({"model_name": "gpt-4.1-mini"}, 8192),
        ({"model_name": "gpt-4.1-mini", "max_tokens": 32768}, 32768),
        ({"model_name": "openai/that-no-table-knows"}, 8192),
    ],
)
def test_only_the_default_of_max_tokens_is_lowered_to_the_models_limit(spec: dict[str, Any], max_tokens: int) -> None:
    agent = one(spec, models=OPENAI)
    assert agent.sampling.max_tokens_for(agent.models[0]) == max_tokens


def test_an_agent_without_fields_has_the_contracts_defaults() -> None:
    agent = one({})
    assert agent.system_prompt is None
    assert (agent.max_retries, agent.timeout_seconds) == (2, None)
    assert (agent.sampling.max_tokens_for(agent.models[0]), agent.sampling.temperature) == (8192, None)
    assert (agent.sampling.reasoning_effort, agent.sampling.thinking_tokens) == (None, None)
    assert agent.sampling.llm_args == {}
    assert swarm_of({}).plan.loops == 1


def test_all_fields_of_an_agent_reach_its_plan() -> None:
    spec = {
        "temperature": 0,
        "max_tokens": 7,
        "reasoning_effort": "low",
        "thinking_tokens": 1024,
        "num_retries": 0,
        "timeout": 2.5,
    }
    agent = one(spec)
    assert agent.sampling.temperature == 0
    assert agent.sampling.max_tokens == 7
    assert (agent.sampling.reasoning_effort, agent.sampling.thinking_tokens) == ("low", 1024)
    assert (agent.max_retries, agent.timeout_seconds) == (0, 2.5)


@pytest.mark.parametrize(
    ("rules", "prompt", "content"),
    [
        ("Be kind.", "You are A.", "Be kind.\n\nYou are A."),
        ("Be kind.", None, "Be kind."),
        ("Be kind.", "", "Be kind."),
        (None, "You are A.", "You are A."),
        ("", "You are A.", "You are A."),
        (None, None, None),
        ("", "", None),
    ],
)
def test_rules_come_before_every_system_prompt(rules: str | None, prompt: str | None, content: str | None) -> None:
    agent = one({"system_prompt": prompt}, rules=rules)
    messages = prompt_of(agent="A", rules=agent.rules, system_prompt=agent.system_prompt, opening=(), transcript=())
    assert messages == ([{"role": "system", "content": content}] if content else [])


def test_rules_are_one_text_for_all_agents() -> None:
    """A copy for each would make gigabytes of a request of a megabyte."""
    rules = "Be kind."
    compiled = swarm_of({"agents": [{"agent_name": "A", "handoffs": agents("C")}, *agents("B")], "rules": rules})
    first, second = (stage.agents[0] for stage in compiled.plan.stages)
    assert all(agent.rules is rules for agent in (first, second, *first.handoffs))
