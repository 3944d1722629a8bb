"""Agents whose answers must be JSON: the format reaches the provider, and answers are checked against it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.engine.run_context import RunContext
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.engine.turn import Turn, TurnRunner
from swarmstream.llm.model_ref import ModelRef
from swarmstream.swarm.prompts import prompt
from tests.clients.runs import answer_of, named, run
from tests.conftest import client, serving
from tests.engine.carrying_out import end_of, failure_of
from tests.fakes.answers import call, calling, in_turn, offered, saying
from tests.fakes.recorder import KeptEvents
from tests.fakes.scripted_model import ScriptedModel, swarm
from tests.fakes.upstream import provider

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}
NAMED: dict[str, Any] = {"name": "total", "schema": SCHEMA, "strict": True}
OPENAIS: dict[str, Any] = {"type": "json_schema", "json_schema": NAMED}
FITS = '{"sum": 3}'


@pytest.mark.parametrize(
    ("requested", "asked"),
    [
        (OPENAIS, OPENAIS),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
            {"type": "json_schema", "json_schema": {"schema": SCHEMA, "name": "answer"}},
        ),
        (SCHEMA, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "text"}, None),
        ({}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_the_format_reaches_the_provider(requested: Any, asked: Any, lane: str, tmp_path: Path) -> None:
    events, exchanges = await run(
        saying('{"sum"', ": 3}"), tmp_path, {"response_format": requested}, settings={"lane": lane}
    )
    assert exchanges[0].body.get("response_format") == asked
    assert exchanges[0].body["messages"] == [{"role": "user", "content": "go"}], "no words where a schema holds"
    assert len(exchanges) == 1
    assert events[-1].data["outputs"][0]["content"] == FITS


WRONG: dict[str, tuple[str, str]] = {
    "text": ("the sum is 3", "it is not JSON"),
    "nothing": ("", "it is not JSON"),
    "a code fence": (f"```json\n{FITS}\n```", "it is not JSON"),
    "a wrong type": ('{"sum": "three"}', '"sum"'),
    "a key missing": ("{}", "sum"),
    "one key too many": ('{"sum": 3, "x": 1}', "x"),
    "half of it": ('{"sum": 3', "it is not JSON"),
    "no number": ('{"sum": NaN}', "it is not JSON"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_answer_that_does_not_fit_is_written_anew_once(case: str, tmp_path: Path) -> None:
    wrong, reason = WRONG[case]
    script = in_turn(saying(*([wrong] if wrong else [])), saying(FITS))
    events, exchanges = await run(script, tmp_path, {"response_format": OPENAIS, "system_prompt": "S"})
    assert len(exchanges) == 2
    assert exchanges[1].body["response_format"] == OPENAIS
    *before, reminder = exchanges[1].body["messages"]
    earlier = [{"role": "assistant", "content": wrong}] if wrong else []
    assert before == [*exchanges[0].body["messages"], *earlier]
    assert reminder["role"] == "user"
    assert reminder["content"].startswith("This answer cannot be used.\nWhat is wrong: ")
    assert reason in reminder["content"]
    assert json.dumps(SCHEMA, separators=(",", ":")) in reminder["content"]
    end = named(events, "agent_end")[0].data
    assert (end["status"], end["output"]) == ("success", FITS)
    assert end["usage"]["total_tokens"] == 20
    assert named(events, "chunk")[-1].data["step"] == 2
    assert not named(events, "error")


async def test_white_space_around_json_is_accepted(tmp_path: Path) -> None:
    _, exchanges = await run(saying(f"\n {FITS}\n"), tmp_path, {"response_format": SCHEMA})
    assert len(exchanges) == 1


async def test_an_answer_that_does_not_fit_twice_fails_the_turn(tmp_path: Path) -> None:
    agent = {"response_format": SCHEMA}
    events, exchanges = await run(saying("three"), tmp_path, agent)
    assert len(exchanges) == 2
    (error,) = named(events, "error")
    assert error.data["code"] == "invalid_output"
    assert error.data["error"].startswith("A: the model's answer does not keep to its format: it is not JSON")
    end = named(events, "agent_end")[0].data
    assert (end["status"], end["output"]) == ("failed", "three")
    assert events[-1].data["usage"]["total_tokens"] == 20
    answer = await answer_of(saying("three"), tmp_path, {"agent_config": {"agent_name": "A", **agent}})
    assert (answer.status_code, answer.json()["code"]) == (502, "invalid_output")


async def test_any_object_fits_where_no_schema_is_given(tmp_path: Path) -> None:
    agent = {"response_format": {"type": "json_object"}}
    for text, expected in (('{"a": [1]}', 1), ("[1]", 2), ("1", 2)):
        _, exchanges = await run(in_turn(saying(text), saying("{}")), tmp_path, agent)
        assert len(exchanges) == expected, text


async def test_tools_and_a_format_go_together(tmp_path: Path) -> None:
    script = in_turn(calling(call("add", {"a": 1, "b": 2}), text="Hm."), saying("three"), saying(FITS))
    agent = {"selected_tools": ["add"], "max_loops": 3, "response_format": OPENAIS}
    events, exchanges = await run(script, tmp_path, agent)
    assert [exchange.body["response_format"] for exchange in exchanges] == [OPENAIS] * 3
    assert [offered(exchange) for exchange in exchanges] == [["add"], ["add"], []], "what is mended calls no tools"
    assert [message["role"] for message in exchanges[2].body["messages"]] == [
        *("user", "assistant", "tool", "assistant", "user")
    ]
    assert events[-1].data["outputs"][0]["content"] == FITS


async def test_tool_calls_for_the_client_are_not_held_to_the_format(tmp_path: Path) -> None:
    function: dict[str, Any] = {"name": "ask", "parameters": {"type": "object", "properties": {}}}
    agent = {"tools_list_dictionary": [function], "response_format": SCHEMA}
    events, exchanges = await run(calling(call("ask"), text="Hm."), tmp_path, agent)
    assert len(exchanges) == 1
    assert events[-1].data["status"] == "success"


async def _without_schemas(model: ScriptedModel, **agent: Any) -> KeptEvents:
    """What happens in a turn whose model cannot be held to a schema."""
    compiled = swarm(agents=[{"agent_name": "A", "model_name": "A", "response_format": SCHEMA, **agent}])
    own = compiled.plan.stages[0].agents[0]
    refs: tuple[ModelRef, ...] = tuple(replace(ref, takes_schemas=ref.name == "takes") for ref in own.models)
    turn = Turn(replace(own, models=refs), number=1, stage=1, loop=1, task_index=None)
    notes = KeptEvents()
    with anyio.fail_after(30):
        messages = prompt(agent="A", system_prompt=own.system_prompt, opening=compiled.plan.openings[0], transcript=())
        await TurnRunner({"scripted": model}, TurnTimeouts()).take_turn(turn, messages, RunContext(notes))
    return notes


@pytest.mark.parametrize("system_prompt", [None, "S"])
async def test_a_model_that_takes_no_schemas_gets_the_format_in_its_prompt(system_prompt: str | None) -> None:
    model = ScriptedModel({"A": [["three"], [FITS]]})
    notes = await _without_schemas(model, system_prompt=system_prompt)
    assert (end_of(notes).status, end_of(notes).output) == ("success", FITS)
    assert [asked.response_format for asked in model.calls] == [None, None]
    for (role, content), *_ in model.prompts("A"):
        assert role == "system"
        assert content.startswith("S\n\nAnswer with JSON only" if system_prompt else "Answer with JSON only")
        assert json.dumps(SCHEMA, separators=(",", ":")) in content
    assert [role for role, _ in model.prompts("A")[1]] == ["system", "user", "assistant", "user"]


async def test_a_model_that_takes_no_schemas_is_checked_against_them_too() -> None:
    notes = await _without_schemas(ScriptedModel({"A": ["three"]}))
    assert failure_of(notes).failure.code == "invalid_output"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_alias_knows_which_models_take_schemas(stream: bool, tmp_path: Path) -> None:
    """`openai/gpt-3.5-turbo` is known to take none."""
    aliases = tmp_path / "models.toml"
    payload = {"agent_config": {"agent_name": "A", "response_format": SCHEMA}, "task": "go", "stream": stream}
    async with provider(saying(FITS)) as upstream:
        aliases.write_text(f'["*"]\nmodel = "openai/gpt-3.5-turbo"\napi_base = "{upstream.base_url}"\n')
        async with serving(models_file=aliases) as url, client(url) as http:
            answer = await http.post("/v1/agent/completions", json=payload)
    assert answer.status_code == 200, answer.text
    asked = upstream.exchanges[0]
    assert "response_format" not in asked.body
    assert asked.system.startswith("Answer with JSON only")
