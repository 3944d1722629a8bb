"""A misspelt field is named with the one that may be meant, and refused where the client asks for that (docs/wire.md,
section 1)."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from swarmstream.errors import AppError, InvalidRequest
from swarmstream.journal.records import RunRecord
from swarmstream.runs.compiled_job import job_from_record
from swarmstream.settings import misspelt_settings
from swarmstream.spelling import closest_name
from swarmstream.swarm.limits import PlanLimits
from swarmstream.tools.policy import AllowedTools
from tests.api.compiled import TASK, single, swarm
from tests.conftest import client, serving
from tests.fakes.scripted_model import AnyModel, ScriptedModel

HINTS: list[tuple[dict[str, Any], str]] = [
    ({"stram": True}, "unknown field stram; did you mean stream?"),
    ({"Stream": True}, "unknown field Stream; did you mean stream?"),
    ({"swarmType": "x"}, "unknown field swarmType; did you mean swarm_type?"),
    ({"agents": [{"instructions": "x"}]}, "unknown field agents.0.instructions; did you mean system_prompt?"),
    ({"agents": [{"temprature": 1}]}, "unknown field agents.0.temprature; did you mean temperature?"),
    ({"agents": [{"maxTokens": 1}]}, "unknown field agents.0.maxTokens; did you mean max_tokens?"),
    ({"agents": [{"seed": 1}]}, "unknown field agents.0.seed; did you mean llm_args.seed?"),
    ({"agents": [{"name": "x"}]}, "unknown field agents.0.name; did you mean agent_name?"),
    ({"agents": [{"model": "x"}]}, "unknown field agents.0.model; did you mean model_name?"),
    ({"agents": [{"task": "x"}]}, "unknown field agents.0.task; it belongs beside agents"),
    ({"model_name": "x"}, "unknown field model_name; it belongs in agents"),
    ({"prompt": "x"}, "unknown field prompt; did you mean task?"),
    ({"flow": "x"}, "unknown field flow; did you mean rearrange_flow?"),
    ({"stream_options": {"coalesce": 1}}, "unknown field stream_options.coalesce; did you mean coalesce_ms?"),
    ({"stream_options": {"coalesc_ms": 1}}, "unknown field stream_options.coalesc_ms; did you mean coalesce_ms?"),
    ({"user_name": "x"}, "unknown field user_name"),
    ({"agents": [{"user_name": "x"}]}, "unknown field agents.0.user_name"),
    ({"agents": [{"stopping_token": "x"}]}, "unknown field agents.0.stopping_token"),
    ({"agents": [{"streaming_callback": "x"}]}, "unknown field agents.0.streaming_callback"),
    ({"agents": [{"context_length": 1}]}, "unknown field agents.0.context_length"),
]


@pytest.mark.promise("W-7")
@pytest.mark.parametrize(("fields", "warning"), HINTS)
def test_the_warning_of_an_unknown_field_suggests_only_known_synonyms(fields: dict[str, Any], warning: str) -> None:
    assert warning in swarm(**fields).warnings


def test_hints_know_which_route_they_are_given_on() -> None:
    fields: dict[str, Any] = {"agent_config": {"agent_name": "A", "history": [TASK]}, "messages": [], "model_name": "m"}
    assert set(single(**fields).warnings) == {
        "unknown field messages; did you mean history?",
        "unknown field model_name; it belongs in agent_config",
        "unknown field agent_config.history; it belongs beside agent_config",
    }


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("flwo", ["flow"], "flow"),
        ("tsk", ["task"], "task"),
        ("agentnames", ["agent_name"], "agent_name"),
        ("max_stages", ["max_loops", "max_tokens"], None),
        ("top", ["stop"], "stop"),
        ("ab", ["abc"], None),
        ("", ["a"], None),
        ("mode", ["role"], None),
        ("temperature" * 10, ["temperature"], None),
        ("agent", ["agents", "agent_name"], "agents"),
        ("strea", ["streams", "stream"], "stream"),
        ("temperature", ["temprature"], "temprature"),
    ],
)
def test_a_name_is_meant_only_where_little_else_can_be(name: str, known: list[str], expected: str | None) -> None:
    assert closest_name(name, known) == expected


def refusal(call: Any, **fields: Any) -> AppError:
    with pytest.raises(InvalidRequest) as caught:
        call(strict=True, **fields)
    return caught.value


@pytest.mark.promise("W-8")
def test_strict_refuses_fields_without_effect_and_names_them_all() -> None:
    error = refusal(
        swarm,
        stram=True,
        director_settings={"a": 1},
        messages=[TASK],
        rearrange_flow="A",
        swarm_type="SequentialWorkflow",
        agents=[{"agent_name": "A", "instructions": "x", "selected_tools": ["create_file"]}],
    )
    assert error.detail == (
        "nothing would act on these fields (strict is set): stram (did you mean stream?), director_settings, "
        "agents.0.instructions (did you mean system_prompt?), agents.0.selected_tools, messages, rearrange_flow"
    )
    assert error.location == ("stram",)
    assert refusal(single, agent_config={"seeds": 1}).location == ("agent_config", "seeds")


def test_strict_lets_fields_with_an_effect_through() -> None:
    compiled = swarm(strict=True, agents=[{"reasoning_effort": "extreme"}])
    assert len(compiled.warnings) == 2


@pytest.mark.anyio
async def test_a_strict_refusal_of_very_many_and_long_names_is_a_small_answer() -> None:
    nasty = ['"\\\x01😀' * 30 + str(number) for number in range(40)]
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url, client(url) as http:
        payload = {"agents": [{"model_name": "demo/A"}], "task": "go", "strict": True, **dict.fromkeys(nasty, 1)}
        answer = await http.post("/v1/swarm/completions", json=payload)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert len(answer.content) <= 4096
        assert answer.json()["detail"].endswith("…")


def test_a_strict_run_that_was_accepted_goes_on_after_a_change_of_release() -> None:
    """As if `colour` had been a field of the release that accepted it."""
    body = json.dumps({"agent_config": {"agent_name": "A"}, "task": "go", "strict": True, "colour": 1}).encode()
    record = RunRecord(job_id="agent-1", kind="agent", owner="", created_at=datetime.now(UTC), body=body)
    assert job_from_record(record, AnyModel(), PlanLimits(), AllowedTools()).warnings == ("unknown field colour",)


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SWARMSTREAM_TOOL", "; did you mean SWARMSTREAM_TOOLS?"),
        ("SWARMSTREAM_API_KEY", "; did you mean SWARMSTREAM_API_KEYS?"),
        ("SWARMSTREAM_LOGLEVEL", "; did you mean SWARMSTREAM_LOG_LEVEL?"),
        ("swarmstream_prot", "; did you mean SWARMSTREAM_PORT?"),
        ("SWARMSTREAM_MODEL", "; did you mean SWARMSTREAM_DEFAULT_MODEL?"),
        ("SWARMSTREAM_CORS", "; did you mean SWARMSTREAM_CORS_ORIGINS?"),
        ("SWARMSTREAM_WORKERS", ""),
        ("SWARMSTREAM_", ""),
    ],
)
def test_a_misspelt_setting_is_named_with_the_one_that_may_be_meant(variable: str, hint: str) -> None:
    assert misspelt_settings([variable, "SWARMSTREAM_PORT"]) == [f"{variable} is not a setting of this version{hint}"]
