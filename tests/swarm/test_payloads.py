"""The shapes of payloads: nulls, types, bounds, names."""

from typing import Any

import pytest
from pydantic import ValidationError

from swarmstream.swarm.messages import Message
from swarmstream.swarm.payloads import AgentRequest, AgentSpec, SwarmRequest
from tests.swarm.compiling import HI, OPENAI, agents, invalid_at, names, swarm_of


@pytest.mark.promise("W-3")
def test_nulls_mean_not_given() -> None:
    sparse: dict[str, Any] = {"agents": agents("A"), "task": "go"}
    full = {
        **dict.fromkeys(SwarmRequest.model_fields),
        "task": "go",
        "agents": [{**dict.fromkeys(AgentSpec.model_fields), "agent_name": "A"}],
        "stream_options": {"include_output": None, "coalesce_ms": None},
        "of_no_kind": None,
    }
    assert SwarmRequest.model_validate(full) == SwarmRequest.model_validate(sparse)
    assert swarm_of(full, models=OPENAI) == swarm_of(sparse, models=OPENAI)


def test_nulls_in_an_agents_payload_mean_not_given() -> None:
    sparse: dict[str, Any] = {"agent_config": {"agent_name": "A"}, "history": [HI]}
    full = {
        **dict.fromkeys(AgentRequest.model_fields),
        "agent_config": {**dict.fromkeys(AgentSpec.model_fields), "agent_name": "A"},
        "history": [{**dict.fromkeys(Message.model_fields), **HI}],
    }
    assert AgentRequest.model_validate(full) == AgentRequest.model_validate(sparse)


def test_a_null_counts_as_not_given_in_required_fields_too() -> None:
    assert invalid_at(AgentRequest, {"agent_config": None, "task": "go"}) == [("agent_config",)]


def each(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(field, value) for field, values in table.items() for value in values]


WRONG_IN_A_SWARM: dict[str, list[Any]] = {
    "max_loops": [True, "1.5", 1.5, 0, "0", "auto", "", "9" * 5000],
    "stream": ["maybe", 2],
    "background": ["", []],
    "return_history": ["perhaps"],
    "task": [5, ["go"]],
    "tasks": ["go", [5], [None]],
    "messages": [
        {"0": "hi"},
        {"role": "user", "content": 5},
        "hi",
        ["hi"],
        [{"content": "hi"}],
        [{"role": "robot", "content": "hi"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": ["hi"]}],
    ],
    "agents": [{"agent_name": "A"}, ["A"], "A"],
    "timeout": [True, 0, "0", -1, float("inf"), float("nan"), "inf", "NaN", "1e999", "9" * 5000, "5 s"],
    "max_cost_usd": ["-1", 0, "1e999", True],
    "max_total_tokens": [1.5, 0, "1e9999", True],
    "metadata": [[], {"big": "x" * 4096}],
    "stream_options": [
        [],
        {"include_output": 7},
        {"coalesce_ms": -1},
        {"coalesce_ms": 10001},
        {"coalesce_ms": 1.5},
        {"coalesce_ms": False},
    ],
    "on_disconnect": ["stay", True],
    "on_error": ["ignore"],
    "swarm_type": [5],
    "rearrange_flow": [["A", "B"]],
    "rules": [["be kind"]],
    "img": [{"url": "https://example.com/a.png"}],
    "strict": ["perhaps"],
    "history": ["hi", ["hi"]],
    "imgs": ["https://example.com/a.png", [5]],
    "tools_enabled": ["search"],
    "service_tier": [1],
    "description": [1],
}


@pytest.mark.parametrize(("field", "value"), each(WRONG_IN_A_SWARM))
def test_a_swarms_field_of_the_wrong_type_is_a_validation_error(field: str, value: Any) -> None:
    locations = invalid_at(SwarmRequest, {"agents": agents("A"), "task": "go", field: value})
    assert {location[0] for location in locations} == {field}


WRONG_IN_AN_AGENT: dict[str, list[Any]] = {
    "agent_name": [5, ["A"]],
    "max_loops": [True, "0", "Auto", 1.5, 0],
    "max_tokens": [True, "many", 1.5, 0, -1],
    "temperature": ["hot", True, float("nan"), float("inf"), "nan", "1e999"],
    "top_p": ["all", True, "inf"],
    "llm_args": [[], "seed"],
    "reasoning_effort": [1, "x" * 101, "a\n"],
    "thinking_tokens": [0, "x"],
    "streaming_on": ["maybe", 2],
    "timeout": ["long", 0, False],
    "num_retries": [-1, 6, True, "6"],
    "fallbacks": ["gpt-4", [""], [5]],
    "model_name": [5, "", "m" * 201, "gpt\n4", "gpt\u20284"],
    "role": [5],
    "system_prompt": [5],
    "description": [["d"]],
    "selected_tools": [[5]],
    "tools_list_dictionary": [["f"]],
    "tools_dictionary": [["f"]],
    "response_format": ["json"],
    "mcp_url": [5],
    "handoffs": [["B"]],
}


@pytest.mark.parametrize(("field", "value"), each(WRONG_IN_AN_AGENT))
def test_an_agents_field_of_the_wrong_type_is_a_validation_error(field: str, value: Any) -> None:
    spec = {"agent_name": "B", field: value}
    in_swarm = invalid_at(SwarmRequest, {"agents": [*agents("A"), spec], "task": "go"})
    assert {location[:3] for location in in_swarm} == {("agents", 1, field)}
    alone = invalid_at(AgentRequest, {"agent_config": spec, "task": "go"})
    assert {location[:2] for location in alone} == {("agent_config", field)}


WRONG_BESIDE_AN_AGENT: dict[str, list[Any]] = {
    "history": ["hi", ["hi"], {"a": "hi"}],
    "imgs": ["https://example.com/a.png", [5]],
    "tools_enabled": ["search"],
    "task": [5],
    "stream": ["maybe"],
}


@pytest.mark.parametrize(("field", "value"), each(WRONG_BESIDE_AN_AGENT))
def test_an_agent_payloads_field_of_the_wrong_type_is_a_validation_error(field: str, value: Any) -> None:
    locations = invalid_at(AgentRequest, {"agent_config": {"agent_name": "A"}, "task": "go", field: value})
    assert {location[0] for location in locations} == {field}


OUTERMOST: dict[str, list[Any]] = {
    "timeout": [1],
    "temperature": [1, 0.0],
    "num_retries": [5],
    "max_tokens": [1],
    "model_name": ["m" * 200],
    "thinking_tokens": [1],
}


@pytest.mark.parametrize(("field", "value"), each(OUTERMOST))
def test_the_outermost_values_of_an_agents_fields_are_accepted(field: str, value: Any) -> None:
    assert getattr(AgentSpec.model_validate({"agent_name": "A", field: value}), field) == value


def test_metadata_is_not_nested_deeper_than_an_answer_can_hold_it() -> None:
    deep: dict[str, Any] = {}
    for _ in range(252):
        deep = {"k": deep}
    with pytest.raises(ValidationError, match="nested too deeply"):
        SwarmRequest.model_validate({"metadata": {"k": {"k": deep}}})


@pytest.mark.promise("W-31")
def test_metadata_is_measured_in_bytes_of_json() -> None:
    fits = {"k": "é" * ((4096 - len('{"k":""}')) // 2)}
    assert SwarmRequest.model_validate({"metadata": fits}).metadata == fits
    assert invalid_at(SwarmRequest, {"metadata": {"k": fits["k"] + "e"}}) == [("metadata",)]


CONTROLS = ["\0", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("control", CONTROLS)
def test_names_hold_no_control_characters_and_no_line_separators(control: str) -> None:
    name = f"A{control}B"
    assert invalid_at(SwarmRequest, {"agents": agents(name), "task": "go"}) == [("agents", 0, "agent_name")]
    assert invalid_at(AgentRequest, {"agent_config": {"agent_name": name}}) == [("agent_config", "agent_name")]
    assert invalid_at(SwarmRequest, {"name": name}) == [("name",)]


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_names_have_at_most_a_hundred_characters(letter: str) -> None:
    assert AgentSpec(agent_name=letter * 100).agent_name == letter * 100
    assert SwarmRequest(name=letter * 100).name == letter * 100
    assert invalid_at(SwarmRequest, {"agents": agents(letter * 101)}) == [("agents", 0, "agent_name")]
    assert invalid_at(SwarmRequest, {"name": letter * 101}) == [("name",)]


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u00a0", "\u2028"])
def test_an_agent_has_a_name(name: str) -> None:
    assert invalid_at(SwarmRequest, {"agents": agents(name)}) == [("agents", 0, "agent_name")]


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\u00a0", "\u2003", "\u2028"])
def test_space_around_an_agents_name_is_no_part_of_it(space: str) -> None:
    name = f"{space}{'x' * 98} y{space}"
    compiled = swarm_of({"agents": agents(name, "B"), "rearrange_flow": f"B -> {name}"})
    assert names(compiled) == [["B"], ["x" * 98 + " y"]]
