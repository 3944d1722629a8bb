"""Thoughts of models: shown as summaries, signed ones sent back with the results of tools, and never to clients."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.llm.base import Delta, ModelCall, Sampling
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.providers.litellm.model import LiteLLMModel
from swarmstream.llm.providers.litellm.setup import import_litellm
from swarmstream.llm.providers.litellm.thinking import MAX_REMEMBERED, REMEMBERED_SECONDS, Summaries, refused_argument
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import client, serving
from tests.fakes import protocols
from tests.fakes.clock import DrivenClock
from tests.fakes.protocols import (
    A_START,
    A_STOP,
    R_START,
    R_THOUGHT,
    Frame,
    a_block,
    a_delta,
    a_text,
    c_delta,
    c_usage,
    g_call,
    g_error,
    g_parts,
    r_call,
    r_end,
    r_text,
    r_thought,
)
from tests.fakes.upstream import Exchange, Script, provider

pytestmark = pytest.mark.anyio

SIGNATURE = "c2lnbmVk" * 100
CALL: Frame = {"name": "calculator", "args": {"expression": "17 + 25"}}
THINKING: Frame = {"type": "thinking", "thinking": "", "signature": ""}


def _after_a_tool(first: Script, then: Script) -> Script:
    """Answers differently once the results of a tool are there."""

    async def script(exchange: Exchange) -> None:
        text = json.dumps(exchange.body)
        answered = any(mark in text for mark in ("function_response", "function_call_output", "tool_result"))
        await (then if answered else first)(exchange)

    return script


GEMINI = _after_a_tool(
    protocols.gemini(
        [
            g_parts({"text": "I think", "thought": True}),
            g_parts(
                {"functionCall": CALL, "thoughtSignature": SIGNATURE},
                {"functionCall": {**CALL, "args": {"expression": "1 + 1"}}},
            ),
            g_parts({"text": ""}, finish="STOP"),
        ]
    ),
    protocols.gemini([g_parts({"text": "done"}, finish="STOP")]),
)
CLAUDE = _after_a_tool(
    protocols.anthropic(
        [
            A_START,
            *a_block(
                0,
                THINKING,
                {"type": "thinking_delta", "thinking": "I "},
                {"type": "thinking_delta", "thinking": "think"},
                {"type": "signature_delta", "signature": SIGNATURE},
            ),
            *a_block(1, {"type": "redacted_thinking", "data": "sealed"}),
            *a_block(
                2,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "signature_delta", "signature": "silent"},
            ),
            *a_block(
                3,
                {"type": "tool_use", "id": "toolu_1", "name": "calculator", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"expression": "17 + 25"}'},
            ),
            a_delta("tool_use"),
            A_STOP,
        ]
    ),
    protocols.anthropic([A_START, *a_text("done"), a_delta("end_turn"), A_STOP]),
)
OPENAI = _after_a_tool(
    protocols.responses([R_START, *r_thought("I", "think"), *r_call(), r_end("completed", R_THOUGHT)]),
    protocols.responses([R_START, *r_text("done"), r_end("completed")]),
)
MODELS = {
    "gemini": "gemini/gemini-3.5-flash",
    "claude": "anthropic/claude-opus-5-5",
    "openai": "openai/responses/gpt-6",
    "direct": "openai/gpt-4.1",
}
SCRIPTS = {"gemini": GEMINI, "claude": CLAUDE, "openai": OPENAI}


@asynccontextmanager
async def _serving(
    provider_name: str, script: Script, tmp_path: Path, **settings: Any
) -> AsyncGenerator[tuple[str, list[Exchange]]]:
    """The URL of a server whose model `m` is the provider's, and what that is asked."""
    aliases = tmp_path / "models.toml"
    async with provider(script) as upstream:
        base = upstream.base_url if provider_name in ("openai", "direct") else upstream.base_url.removesuffix("/v1")
        aliases.write_text(f'[m]\nmodel = "{MODELS[provider_name]}"\napi_base = "{base}"\napi_key_env = "KEY"\n')
        async with serving(models_file=aliases, environ={"KEY": "sk-secret"}, preload=True, **settings) as url:
            yield url, upstream.exchanges


async def _events(url: str, **payload: Any) -> list[ServerEvent]:
    payload["agent_config"] = {"agent_name": "A", "model_name": "m", **payload.get("agent_config", {})}
    with anyio.fail_after(60):
        async with (
            client(url) as http,
            http.stream("POST", "/v1/agent/completions", json={"task": "go", "stream": True, **payload}) as response,
        ):
            events = [event async for event in events_of(response)]
    check_stream(events)
    return events


def _only(events: list[ServerEvent], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.event == kind]


@pytest.mark.parametrize("name", SCRIPTS)
async def test_signed_thoughts_go_back_to_the_model_and_never_to_clients(name: str, tmp_path: Path) -> None:
    async with _serving(name, SCRIPTS[name], tmp_path) as (url, exchanges):
        tool = "add" if name == "openai" else "calculator"
        events = await _events(url, agent_config={"selected_tools": ["calculator"], "max_loops": 2})
    assert _only(events, "agent_end")[0]["output"] == "done"
    assert "".join(thought["content"] for thought in _only(events, "reasoning")).split() == ["I", "think"]
    shown = json.dumps([event.data for event in events])
    assert all(secret not in shown for secret in (SIGNATURE, "sealed", "__thought__"))
    ids = [start["tool_call_id"] for start in _only(events, "tool_start")]
    assert sorted(ids) == sorted(end["tool_call_id"] for end in _only(events, "tool_end"))
    assert all(0 < len(call_id) <= 64 for call_id in ids)
    assert {start["tool"] for start in _only(events, "tool_start")} == {tool}
    sent = exchanges[1].body
    if name == "gemini":
        _, asked, answered = sent["contents"]
        assert [part.get("thoughtSignature") for part in asked["parts"]] == [SIGNATURE, None]
        assert [part["function_call"]["id"] for part in asked["parts"]] == ids
        assert [part["function_response"]["id"] for part in answered["parts"]] == ids
        assert [part["function_response"]["response"]["content"] for part in answered["parts"]] == ["42", "2"]
    elif name == "claude":
        assert sent["messages"][-2]["content"] == [
            {"type": "thinking", "thinking": "I think", "signature": SIGNATURE},
            {"type": "redacted_thinking", "data": "sealed"},
            {"type": "thinking", "thinking": "", "signature": "silent"},
            {"type": "tool_use", "id": "toolu_1", "name": "calculator", "input": {"expression": "17 + 25"}},
        ]
    else:
        thought, call, result = sent["input"][-3:]
        assert (thought["type"], thought["id"], thought["encrypted_content"]) == ("reasoning", "rs_1", "sealed")
        assert (call["type"], call["call_id"], result["call_id"]) == ("function_call", "call_abc", "call_abc")


async def test_a_provider_gets_its_own_ids_back_however_long_and_clients_see_short_ones(tmp_path: Path) -> None:
    long = f"call_1__thought__{SIGNATURE}"
    called = {"index": 0, "id": long, "function": {"name": "calculator", "arguments": '{"expression": "17 + 25"}'}}

    async def script(exchange: Exchange) -> None:
        answered = exchange.body["messages"][-1]["role"] == "tool"
        frames = [c_delta("stop", content="done")] if answered else [c_delta("tool_calls", tool_calls=[called])]
        await protocols.chat(frames)(exchange)

    async with _serving("direct", script, tmp_path) as (url, exchanges):
        events = await _events(url, agent_config={"selected_tools": ["calculator"], "max_loops": 2})
    shown = [*_only(events, "tool_start"), *_only(events, "tool_end")]
    assert [event["tool_call_id"] for event in shown] == ["call_1_1", "call_1_1"]
    asked, answered = exchanges[1].body["messages"][-2:]
    assert (asked["tool_calls"][0]["id"], answered["tool_call_id"]) == (long, long)


async def test_a_client_that_runs_geminis_tools_needs_no_signatures(tmp_path: Path) -> None:
    """Google takes this mark in the place of a signature that was lost ("Thought signatures", FAQ)."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    agent = {"tools_list_dictionary": [tool]}
    calls_of_add = protocols.gemini([g_parts(g_call(1, signature=SIGNATURE), g_call(2), finish="STOP")])
    script = _after_a_tool(calls_of_add, protocols.gemini([g_parts({"text": "done"}, finish="STOP")]))
    async with _serving("gemini", script, tmp_path) as (url, exchanges):
        (end,) = _only(await _events(url, agent_config=agent), "agent_end")
        assert SIGNATURE not in json.dumps(end)
        calls = end["tool_calls"]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in calls]
        asked = {"role": "assistant", "content": None, "tool_calls": calls}
        history = [{"role": "user", "content": "go"}, asked, *results]
        (end,) = _only(await _events(url, agent_config=agent, history=history, task=None), "agent_end")
    assert (end["output"], end["status"]) == ("done", "success")
    parts = exchanges[1].body["contents"][1]["parts"]
    skipping = base64.b64encode(b"skip_thought_signature_validator").decode()
    assert [part.get("thoughtSignature") for part in parts] == [skipping, None]


@pytest.mark.parametrize(
    ("name", "agent", "asked"),
    [
        ("gemini", {}, {"includeThoughts": True}),
        ("gemini", {"reasoning_effort": "high"}, {"includeThoughts": True, "thinkingLevel": "high"}),
        ("claude", {}, {"type": "adaptive", "display": "summarized"}),
        ("claude", {"reasoning_effort": "high"}, {"type": "adaptive", "display": "summarized"}),
        ("claude", {"thinking_tokens": 2000}, {"type": "adaptive", "display": "summarized"}),
        ("openai", {}, {"summary": "auto"}),
        ("openai", {"reasoning_effort": "high"}, {"effort": "high", "summary": "auto"}),
        ("openai", {"reasoning_effort": "none"}, {"effort": "none"}),
    ],
)
async def test_summaries_of_thinking_are_asked_for(
    name: str, agent: dict[str, Any], asked: dict[str, Any], tmp_path: Path
) -> None:
    async with _serving(name, SCRIPTS[name], tmp_path) as (url, exchanges):
        await _events(url, agent_config=agent)
    body = exchanges[0].body
    config = body.get("generationConfig", {}).get("thinkingConfig") or body.get("thinking") or body.get("reasoning")
    assert config == asked
    assert body.get("store", False) is False, "OpenAI keeps answers where it is not told otherwise"


UNVERIFIED: Frame = {
    "message": "Your organization must be verified to generate reasoning summaries.",
    "param": "reasoning.summary",
    "code": "unsupported_value",
}
NOT_SEALED: Frame = {"message": "Encrypted content is not supported with this model.", "param": "include"}
BAD_TOOL: Frame = {
    "message": 'Invalid schema for function \'summarize\': "param": "reasoning.summary" is not valid.',
    "param": "tools[0].parameters",
}


def _of_openai(*refuses: str) -> Script:
    """OpenAI's responses; it refuses summaries and sealed thoughts if told to, and tools called `summarize`."""

    async def script(exchange: Exchange) -> None:
        body = exchange.body
        error = None
        if "summary" in refuses and "summary" in body.get("reasoning", {}):
            error = UNVERIFIED
        elif "include" in refuses and "include" in body:
            error = NOT_SEALED
        elif any(tool["name"] == "summarize" for tool in body.get("tools", [])):
            error = BAD_TOOL
        if error is not None:
            await exchange.refuse(400, json.dumps({"error": error}).encode())
            return
        await protocols.responses([R_START, *r_text("done"), r_end("completed")])(exchange)

    return script


def _asked(exchanges: list[Exchange]) -> list[tuple[bool, bool]]:
    """Whether summaries, and sealed thoughts, were asked for."""
    return [("summary" in exchange.body.get("reasoning", {}), "include" in exchange.body) for exchange in exchanges]


@pytest.mark.parametrize(
    ("refuses", "asked"),
    [
        (["summary"], [(True, True), (False, True), (False, True)]),
        (["include"], [(True, True), (True, False), (True, False)]),
        (["summary", "include"], [(True, True), (False, True), (False, False), (False, False)]),
    ],
)
async def test_a_refused_thinking_parameter_is_left_out_and_no_response_is_stored(
    refuses: list[str], asked: list[tuple[bool, bool]], tmp_path: Path
) -> None:
    async with _serving("openai", _of_openai(*refuses), tmp_path) as (url, exchanges):
        ends = [_only(await _events(url), "agent_end")[0] for _ in range(2)]
    assert [end["output"] for end in ends] == ["done", "done"]
    assert _asked(exchanges) == asked
    assert all(exchange.body["store"] is False for exchange in exchanges)


@pytest.mark.noisy
async def test_no_client_can_take_summaries_from_others(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "summarize", "parameters": {"type": "object"}}}
    async with _serving("openai", _of_openai(), tmp_path) as (url, exchanges):
        (failure,) = _only(await _events(url, agent_config={"tools_list_dictionary": [tool]}), "error")
        assert (failure["code"], failure["attempts"], len(exchanges)) == ("provider_rejected", 1, 1)
        await _events(url)
    assert _asked(exchanges) == [(True, True)] * 2

    async with _serving("openai", _of_openai("summary"), tmp_path) as (url, exchanges):
        (failure,) = _only(await _events(url, agent_config={"tools_list_dictionary": [tool]}), "error")
        assert (failure["code"], failure["attempts"]) == ("provider_rejected", 2)
        await _events(url)
    assert _asked(exchanges)[2] == (True, True), "what is refused is remembered once the call has worked"


async def test_a_call_that_is_made_once_more_counts_twice_among_the_runs_calls(tmp_path: Path) -> None:
    agents = [{"agent_name": name, "model_name": "m"} for name in "AB"]
    async with (
        _serving("openai", _of_openai("summary"), tmp_path, max_calls=2) as (url, exchanges),
        client(url) as http,
    ):
        with anyio.fail_after(60):
            answer = await http.post("/v1/swarm/completions", json={"task": "go", "agents": agents})
    assert (answer.status_code, answer.json()["code"], len(exchanges)) == (409, "limit_exceeded", 2)


async def test_a_refused_thinking_parameter_is_remembered_for_an_hour_and_for_one_address() -> None:
    clock = DrivenClock()
    litellm = import_litellm()
    summaries = Summaries(clock)
    here = {"model": "openai/responses/gpt-6", "api_base": "http://here"}
    there = {**here, "api_base": "http://there"}
    summaries.remember(here, ["reasoning_effort"])
    assert set(summaries.arguments(litellm, here)) == {"include"}
    assert set(summaries.arguments(litellm, there)) == {"include", "reasoning_effort"}
    await clock.advance(REMEMBERED_SECONDS)
    assert set(summaries.arguments(litellm, here)) == {"include", "reasoning_effort"}
    for number in range(MAX_REMEMBERED + 10):
        summaries.remember({"model": f"openai/{number}"}, ["include"])
    assert len(summaries) == MAX_REMEMBERED


@pytest.mark.parametrize(
    ("message", "is_about"),
    [
        ("adaptive thinking is not supported on this model", True),
        ("thinking.adaptive.display: Extra inputs are not permitted", True),
        ("Thinking is not supported for this model.", True),
        ("Unable to submit request because thinking_config.include_thoughts is only for models that think.", True),
        ("Unknown name \"includeThoughts\" at 'generation_config.thinking_config': Cannot find field.", True),
        ("tools.0.custom.input_schema.properties.thinking: Input should be a valid dictionary", False),
        ("Unknown name \"x\" at 'tools[0].function_declarations[0].parameters.properties[0].value'", False),
        ("tools: `thinking is not` is no name, nor is 'include_thoughts', nor properties[thinking_level]", False),
        ("messages: at least one message is required", False),
    ],
)
def test_only_the_providers_own_message_makes_a_refusal_one_of_summaries(message: str, is_about: bool) -> None:
    message_text = "litellm.BadRequestError: Exception - " + json.dumps({"error": {"message": message}})
    assert refused_argument(["thinking"], 400, message_text) == ("thinking" if is_about else None)
    assert refused_argument(["reasoning_effort", "include"], 400, message_text) is None
    assert refused_argument(["thinking"], 500, message_text) is None


@pytest.mark.parametrize(
    "target",
    [
        "openai/responses/gpt-6",
        "azure/responses/mine",
        "xai/responses/grok-4",
        "openrouter/responses/openai/gpt-6",
        "databricks/responses/gpt-6",
        "hosted_vllm/responses/mine",
        "fireworks_ai/responses/mine",
    ],
)
async def test_every_request_to_responses_through_litellm_streams_and_stores_no_response(target: str) -> None:
    lane = LiteLLMModel({"KEY": "sk-secret"})
    deltas: list[Delta] = []
    with anyio.fail_after(60):
        await lane.ready()
        async with provider(_of_openai()) as upstream:
            ref = ModelRef(target, target, "litellm", api_base=upstream.base_url, api_key_env="KEY")
            sampling = Sampling(400, None, None, None, {})
            await lane.stream(ModelCall(ref, [{"role": "user", "content": "go"}], sampling), deltas.extend)
    await lane.close()
    assert "done" in deltas
    (exchange,) = upstream.exchanges
    assert exchange.path.endswith("/responses") or "/responses?" in exchange.path
    assert (exchange.body["store"], exchange.body["stream"]) == (False, True)


@pytest.mark.noisy
@pytest.mark.parametrize("lane", ["litellm", "direct"])
async def test_an_error_in_place_of_an_answer_is_retried_as_its_status_is(lane: str, tmp_path: Path) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0s"}]
    limit: Frame = {"error": {**g_error(429, "RESOURCE_EXHAUSTED")["error"], "details": details}}
    error = protocols.gemini([limit])
    answer = protocols.gemini([g_parts({"text": "done"}, finish="STOP")])
    if lane == "direct":
        answer = protocols.chat([c_delta(content="done"), c_delta("stop"), c_usage()])
    begun: list[Exchange] = []

    async def limited(exchange: Exchange) -> None:
        begun.append(exchange)
        await (error if len(begun) < 3 else answer)(exchange)

    async with _serving("direct" if lane == "direct" else "gemini", limited, tmp_path) as (url, exchanges):
        events = await _events(url, agent_config={"num_retries": 2})
        assert _only(events, "agent_end")[0]["output"] == "done"
        assert len(exchanges) == 3
        if lane == "direct":
            (usage,) = _only(events, "usage")
            assert (usage["input_tokens"], usage["estimated"]) == (10, False), "who was refused pays nothing"
        begun.clear()
        (failure,) = _only(await _events(url, agent_config={"num_retries": 0}), "error")
        assert (failure["code"], failure["retryable"]) == ("provider_rate_limited", True)
