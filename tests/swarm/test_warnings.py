"""Fields without effect are named in warnings."""

import pytest

from tests.swarm.compiling import HI, agent_of, agents, names, swarm_of

WITHOUT_EFFECT = [
    "use_cases",
    "tags",
    "capabilities",
    "category",
    "is_free",
    "price_usd",
]


def test_unknown_fields_are_named_with_their_path() -> None:
    compiled = swarm_of(
        {
            "tempo": 1,
            "agents": [*agents("A"), {"agent_name": "B", "modle_name": "m", "max_token": 1}],
            "stream_options": {"colour": "red"},
            "task": None,
            "messages": [{**HI, "mood": "good"}],
        }
    )
    assert set(compiled.warnings) == {
        "unknown field tempo",
        "unknown field agents.1.modle_name; did you mean model_name?",
        "unknown field agents.1.max_token; did you mean max_tokens?",
        "unknown field stream_options.colour",
        "unknown field messages.0.mood",
    }
    assert len(compiled.warnings) == 5


def test_unknown_fields_of_an_agents_payload_are_named_with_their_path() -> None:
    compiled = agent_of(
        {"tempo": 1, "agent_config": {"agent_name": "A", "modle_name": "m"}, "history": [{**HI, "x": 1}]}
    )
    assert set(compiled.warnings) == {
        "unknown field tempo",
        "unknown field agent_config.modle_name; did you mean model_name?",
        "unknown field history.0.x",
    }


@pytest.mark.promise("W-6")
def test_at_most_twenty_warnings_come_back() -> None:
    assert len(swarm_of({f"x{number}": 1 for number in range(20)}).warnings) == 20
    warnings = swarm_of({f"x{number}": 1 for number in range(21)}).warnings
    assert warnings == tuple(f"unknown field x{number}" for number in range(20))


@pytest.mark.promise("W-14")
def test_a_field_is_named_by_at_most_a_hundred_printable_characters() -> None:
    fits, long = "y" * 100, "z" * 101
    assert swarm_of({fits: 1}).warnings == (f"unknown field {fits}",)
    assert swarm_of({long: 1}).warnings == (f"unknown field {'z' * 99}…",)
    assert swarm_of({"a\nb": 1}).warnings == ("unknown field a b",)


@pytest.mark.parametrize("field", WITHOUT_EFFECT)
def test_a_field_that_is_accepted_without_effect_is_not_named(field: str) -> None:
    spec = {"agent_name": "A", field: "x"}
    assert swarm_of({"agents": [spec]}).warnings == ()
    assert agent_of({"agent_config": spec}).warnings == ()
    assert swarm_of({"agents": [spec]}).plan == swarm_of({"agents": agents("A")}).plan


def test_no_known_field_is_named() -> None:
    compiled = swarm_of(
        {
            "name": "n",
            "description": "d",
            "service_tier": "flex",
            "return_history": True,
            "stream": True,
            "on_disconnect": "continue",
            "on_error": "continue",
            "timeout": 10,
            "metadata": {"unknown": {"to": "us"}},
            "stream_options": {"include_output": False, "coalesce_ms": 10_000},
            "agents": [{"agent_name": "A", "role": "boss", "description": "d", "streaming_on": True}],
        }
    )
    assert compiled.warnings == ()


def test_agents_that_are_not_in_the_flow_are_named() -> None:
    assert swarm_of({"rearrange_flow": "A"}).warnings == ('agent "B" is not in the flow',)


def test_a_flow_without_effect_is_named() -> None:
    compiled = swarm_of({"swarm_type": "SequentialWorkflow", "rearrange_flow": "B -> A -> ???"})
    assert compiled.warnings == ("rearrange_flow ignored: SequentialWorkflow has no flow",)
    assert names(compiled) == [["A"], ["B"]]
