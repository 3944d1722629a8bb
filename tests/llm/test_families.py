"""Models as they are: which lane takes their tools, which fields they refuse, and what clients are told of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from swarmstream.errors import ProviderRejected, UnsupportedOption
from swarmstream.llm.aliases import Alias
from swarmstream.llm.base import Sampling
from swarmstream.llm.families import family_traits
from swarmstream.llm.http.field_refusals import field_refusal
from swarmstream.llm.http.status import status_error
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.registry import Registry
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.settings import BackendName
from swarmstream.swarm.compile import Compiled, compile_agent, compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from swarmstream.tools.policy import AllowedTools
from swarmstream.tools.toolbox import toolbox
from tests.clients.sse import events_of
from tests.conftest import client, serving
from tests.fakes.upstream import Exchange, provider

OPENAI = {"OPENAI_API_KEY": "key"}
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
TOOLS: dict[str, dict[str, Any]] = {
    "the caller's": {"tools_list_dictionary": [FUNCTION]},
    "the server's": {"selected_tools": ["calculator"]},
    "MCP": {"mcp_url": "https://mcp.example.com/mcp"},
    "handoffs": {"handoffs": [{"agent_name": "B", "model_name": "gpt-4.1"}]},
    "a plan": {"max_loops": "auto"},
}


def compiled(
    model: str = "gpt-6-luna",
    *,
    environ: dict[str, str] | None = None,
    aliases: dict[str, Alias] | None = None,
    lane: BackendName | None = None,
    enabled: Sequence[str] = (),
    **agent: Any,
) -> Compiled:
    registry = Registry(default_model="gpt-6-luna", environ=environ or OPENAI, aliases=aliases, backend=lane or "auto")
    spec = {"agent_name": "A", "model_name": model, **agent}
    request = AgentRequest.model_validate({"agent_config": spec, "task": "go", "tools_enabled": list(enabled)})
    return compile_agent(request, registry, PlanLimits(), AllowedTools(toolbox(), hosts=AllowedHosts(["*"])))


def model_of(result: Compiled) -> ModelRef:
    return result.plan.stages[0].agents[0].models[0]


@pytest.mark.parametrize("kind", TOOLS)
def test_openais_reasoning_models_take_tools_of_every_kind_through_litellm(kind: str) -> None:
    assert model_of(compiled(**TOOLS[kind])).backend == "litellm"
    assert model_of(compiled("gpt-4.1", **TOOLS[kind])).backend == "direct"


def test_tools_that_the_agent_route_enables_count_as_well() -> None:
    assert model_of(compiled(enabled=["calculator"])).backend == "litellm"
    assert model_of(compiled()).backend == "direct"


@pytest.mark.parametrize(
    ("model", "effort", "lane"),
    [
        ("gpt-6-luna", None, "litellm"),
        ("gpt-6-luna", "high", "litellm"),
        ("gpt-6-luna", "none", "direct"),
        ("gpt-5.4-mini", None, "litellm"),
        ("gpt-5.6", "none", "direct"),
        ("gpt-6-astra", "none", "litellm"),
        ("gpt-6.1-sol", "none", "litellm"),
        ("gpt-5-mini", "high", "direct"),
        ("gpt-5.2", None, "direct"),
        ("o3", "high", "direct"),
        ("gpt-4.1", None, "direct"),
    ],
)
def test_the_lane_of_a_call_with_tools_depends_on_model_and_effort(model: str, effort: str | None, lane: str) -> None:
    result = compiled(model, reasoning_effort=effort, **TOOLS["the caller's"])
    assert model_of(result).backend == lane
    if lane == "direct":
        assert (
            result.plan.stages[0].agents[0].sampling.fields(model_of(result)).fields.get("reasoning_effort") == effort
        )


def test_fallbacks_go_where_they_take_tools_too() -> None:
    result = compiled("gpt-4.1", fallbacks=["gpt-6-sol", "gpt-4o"], **TOOLS["the caller's"])
    assert [model.backend for model in result.plan.stages[0].agents[0].models] == ["direct", "litellm", "direct"]


@pytest.mark.parametrize(
    ("environ", "alias", "lane"),
    [
        ({}, Alias(model="openai/gpt-6-luna", api_base="http://vllm:8000/v1"), "direct"),
        ({**OPENAI, "OPENAI_BASE_URL": "https://gateway.example.com/v1"}, Alias(model="gpt-6-luna"), "direct"),
        ({**OPENAI, "OPENAI_BASE_URL": "https://eu.api.openai.com/v1"}, Alias(model="gpt-6-luna"), "litellm"),
        ({**OPENAI, "OPENAI_BASE_URL": "https://api.openai.com.example/v1"}, Alias(model="gpt-6-luna"), "direct"),
        ({**OPENAI, "OPENAI_BASE_URL": "http://[x/v1"}, Alias(model="gpt-6-luna"), "direct"),
        ({"AZURE_API_KEY": "k", "AZURE_API_BASE": "http://azure.local"}, Alias(model="azure/gpt-6-luna"), "litellm"),
    ],
)
def test_only_openais_and_azures_own_servers_insist_on_it(environ: dict[str, str], alias: Alias, lane: str) -> None:
    result = compiled("mine", environ=environ, aliases={"mine": alias}, **TOOLS["the caller's"])
    assert model_of(result).backend == lane


@pytest.mark.parametrize(
    ("aliases", "lane"), [({}, "direct"), ({"gpt-6-luna": Alias(model="gpt-6-luna", lane="direct")}, None)]
)
def test_where_litellm_is_ruled_out_tools_are_refused_with_the_way_out(
    aliases: dict[str, Alias], lane: BackendName | None
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        compiled(aliases=aliases, lane=lane, **TOOLS["the server's"])
    assert caught.value.detail == (
        '"gpt-6-luna" takes tools through litellm only unless reasoning_effort is "none", and litellm is ruled out '
        "here (SWARMSTREAM_LANE, or the alias's lane)"
    )
    assert caught.value.location == ("agent_config", "model_name")
    result = compiled(aliases=aliases, lane=lane, reasoning_effort="none", **TOOLS["the server's"])
    assert model_of(result).backend == "direct"


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        ("gpt-6-luna", {"temperature": 0.5, "top_p": 0.9}, {}),
        ("gpt-6-luna", {"temperature": 0.5, "reasoning_effort": "none"}, None),
        ("gpt-6.2-luna", {"temperature": 0.5, "reasoning_effort": "none"}, {"reasoning_effort": "none"}),
        ("gpt-5.1", {"temperature": 0.5}, None),
        ("gpt-5.1", {"temperature": 0.5, "reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("gpt-5.10", {"temperature": 0.5}, {}),
        ("gpt-5-mini", {"temperature": 0.5, "seed": 1, "presence_penalty": 0.1}, {"seed": 1}),
        ("gpt-5-chat-latest", {"temperature": 0.5}, None),
        ("azure/o3-mini", {"temperature": 0.5, "logprobs": True}, {}),
        ("ft:o4-mini-2025-04-16:org::id", {"top_p": 0.5, "stop": "x"}, {"stop": "x"}),
        ("anthropic/claude-opus-5-5", {"temperature": 0.5, "top_p": 0.9, "stop": "x"}, {"stop": "x"}),
        ("bedrock/us.anthropic.claude-sonnet-5-5-v1:0", {"temperature": 0.5}, {}),
        ("claude-opus-4-8", {"temperature": 0.5}, {}),
        ("claude-opus-4-6", {"temperature": 0.5}, None),
        ("databricks-claude-opus-4-8", {"temperature": 0.5}, {}),
        ("TeichAI/Qwen3-8B-Claude-Opus-4.8-Distill", {"temperature": 0.5, "seed": 1}, None),
        ("someone/claude-opus-4-8-gemma", {"temperature": 0.5, "seed": 1}, None),
        ("claude-sonnet-4-6", {"temperature": 0.5, "seed": 1}, {"temperature": 0.5}),
        ("gpt-4.1", {"temperature": 0.5, "seed": 1, "frequency_penalty": 1}, None),
        ("gpt-oss-120b", {"temperature": 0.5}, None),
        ("o3-like", {"stop": "x"}, None),
    ],
)
def test_fields_that_a_family_refuses_are_not_sent(
    model: str, asked: dict[str, Any], sent: dict[str, Any] | None
) -> None:
    fields = sampled(model, **asked)
    fields.pop("max_tokens")
    assert fields == (asked if sent is None else sent)


@pytest.mark.parametrize(
    ("model", "tokens", "effort", "sent"),
    [
        ("claude-opus-5-5", 2047, None, {"reasoning_effort": "low"}),
        ("claude-opus-5-5", 2048, None, {"reasoning_effort": "medium"}),
        ("gpt-6-luna", 4096, None, {"reasoning_effort": "high"}),
        ("gpt-6-luna", 4096, "low", {"reasoning_effort": "low"}),
        ("claude-sonnet-4-6", 4096, None, {"thinking": {"type": "enabled", "budget_tokens": 4096}}),
    ],
)
def test_a_budget_of_thinking_tokens_becomes_an_effort_where_budgets_are_refused(
    model: str, tokens: int, effort: str | None, sent: dict[str, Any]
) -> None:
    fields = sampled(model, thinking_tokens=tokens, reasoning_effort=effort)
    fields.pop("max_tokens")
    assert fields == sent


def sampled(model: str, **asked: Any) -> dict[str, Any]:
    own = {name: asked.pop(name, None) for name in ("temperature", "reasoning_effort", "thinking_tokens")}
    return (
        Sampling(max_tokens=None, llm_args=asked, **own)
        .fields(ModelRef(model, model, "direct", traits=family_traits(model)))
        .fields
    )


def test_each_omitted_field_is_in_the_runs_warnings_once_a_model() -> None:
    agents: list[dict[str, Any]] = [
        {"agent_name": name, "model_name": "gpt-6-luna", "temperature": 0.5, "thinking_tokens": 1024} for name in "AB"
    ]
    agents.append({"agent_name": "C", "model_name": "gpt-4.1", "temperature": 0.5, "fallbacks": ["o3"]})
    agents.append({"agent_name": "D", "model_name": "gpt-6-luna", "temperature": 1})
    registry = Registry(default_model="gpt-6-luna", environ=OPENAI)
    result = compile_swarm(
        SwarmRequest.model_validate({"task": "go", "agents": agents}), registry, PlanLimits(), AllowedTools(toolbox())
    )
    assert result.warnings == (
        '"gpt-6-luna" refuses temperature: not sent',
        '"gpt-6-luna" takes no thinking_tokens: reasoning_effort low was sent instead',
        '"o3" refuses temperature: not sent',
    )


@pytest.mark.parametrize(
    ("body", "named", "is_about_field"),
    [
        (
            {
                "error": {
                    "message": "Unsupported value: 'temperature' does not support 0.5 with this model.",
                    "param": None,
                }
            },
            ("temperature",),
            True,
        ),
        ({"error": {"message": "Bad: seed, top_p is not supported", "param": "top_p"}}, ("top_p", "seed"), True),
        ({"error": {"message": "Invalid 'temperature': decimal above maximum value."}}, ("temperature",), False),
        ({"error": {"message": "`temperature` and `top_p` cannot both be specified"}}, ("temperature", "top_p"), True),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "random_seed"]}]}, ("seed",), True),
        ({"error": {"message": "Unknown name 'frequencyPenalty'"}}, ("frequency_penalty",), True),
        (
            {"error": {"message": "thinking.budget_tokens: not supported, use output_config.effort"}},
            ("thinking", "reasoning_effort"),
            True,
        ),
        ({"error": {"message": "This model's maximum context length is 8192 tokens"}}, (), False),
        ({"error": {"message": "Invalid tools, stop, max_tokens, response_format: unsupported"}}, (), True),
        ({"error": {"message": "Temperatures, top_performers and seeds"}}, (), False),
    ],
)
def test_a_refusal_names_fields_that_a_call_can_do_without(
    body: dict[str, Any], named: tuple[str, ...], is_about_field: bool
) -> None:
    text = orjson.dumps(body).decode()
    assert field_refusal(text)[:2] == (named, is_about_field)
    for status in (400, 422):
        failure = status_error(status, None, text)
        assert isinstance(failure, ProviderRejected)
        assert failure.named == named
    for status in (401, 404, 429, 500):
        assert not getattr(status_error(status, None, text), "named", ())


def test_a_refusal_of_tools_on_chat_completions_names_the_way_that_takes_them() -> None:
    message = (
        "Function tools with reasoning_effort are not supported for gpt-6-luna in /v1/chat/completions. To use "
        "function tools, use /v1/responses or set reasoning_effort to 'none'."
    )
    failure = status_error(
        400, None, orjson.dumps({"error": {"message": message, "param": "reasoning_effort"}}).decode()
    )
    assert isinstance(failure, ProviderRejected)
    assert failure.named == (), "asked without the effort, it refuses again"
    assert failure.detail == (
        "the provider rejected the request (HTTP 400): while it reasons, this model takes no function tools on chat "
        'completions; call it openai/responses/<name> or azure/responses/<name>, or set reasoning_effort to "none"'
    )


# --- Over a socket --------------------------------------------------------------------------------------------------


async def _as_responses(exchange: Exchange) -> None:
    """OpenAI's responses, and its chat completions with tools refused as it refuses them."""
    if "responses" not in exchange.path:
        if "tools" in exchange.body and exchange.body.get("reasoning_effort") != "none":
            await exchange.refuse(400, b'{"error": {"message": "Function tools are not supported; use /v1/responses"}}')
            return
        await exchange.open()
        await exchange.say("from chat")
        await exchange.finish()
        return
    await exchange.open()
    part: dict[str, Any] = {"type": "output_text", "text": "from responses", "annotations": []}
    message: dict[str, Any] = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    answer: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-6-luna",
        "status": "completed",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
    }
    at: dict[str, Any] = {"item_id": "msg_1", "output_index": 0}
    frames: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**answer, "status": "in_progress", "output": [], "usage": None}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": []}},
        {"type": "response.output_text.delta", **at, "content_index": 0, "delta": "from responses"},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": answer},
    ]
    for number, frame in enumerate(frames):
        data = orjson.dumps({**frame, "sequence_number": number})
        await exchange.chunk(f"event: {frame['type']}\n".encode() + b"data: " + data + b"\n\n")
    await exchange.end()


@pytest.mark.anyio
async def test_agent_start_names_the_lane_of_its_turn(tmp_path: Path) -> None:
    aliases = tmp_path / "models.toml"
    agents = [
        {"agent_name": "plain", "model_name": "gpt"},
        {"agent_name": "with tools", "model_name": "gpt", "selected_tools": ["calculator"], "temperature": 0.5},
        {"agent_name": "at rest", "model_name": "gpt", "selected_tools": ["calculator"], "reasoning_effort": "none"},
    ]
    async with provider(_as_responses) as upstream:
        base = upstream.base_url.removesuffix("/v1")
        aliases.write_text(f'[gpt]\nmodel = "azure/gpt-6-luna"\napi_base = "{base}"\napi_key_env = "K"\n')
        async with serving(models_file=aliases, environ={"K": "k" * 20}, preload=True) as url, client(url) as http:
            with anyio.fail_after(60):
                payload = {"task": "go", "agents": agents, "stream": True}
                async with http.stream("POST", "/v1/swarm/completions", json=payload) as response:
                    events = [event async for event in events_of(response)]
    begun = [(event.data["agent"], event.data["lane"]) for event in events if event.event == "agent_start"]
    assert begun == [("plain", "direct"), ("with tools", "litellm"), ("at rest", "direct")]
    outputs = [event.data["output"] for event in events if event.event == "agent_end"]
    assert outputs == ["from chat", "from responses", "from chat"]
    assert events[0].data["warnings"] == ['"gpt" refuses temperature: not sent']
    assert "temperature" not in upstream.exchanges[1].body
    assert upstream.exchanges[2].body["reasoning_effort"] == "none"


@pytest.mark.anyio
@pytest.mark.noisy
async def test_a_deployment_whose_name_hides_its_model_takes_tools_through_responses(
    tmp_path: Path,
) -> None:
    aliases = tmp_path / "models.toml"
    agent = {"agent_name": "A", "selected_tools": ["calculator"], "reasoning_effort": "low"}
    async with provider(_as_responses) as upstream:
        result = f'api_base = "{upstream.base_url.removesuffix("/v1")}"\napi_key_env = "K"\n'
        aliases.write_text(
            f'[hidden]\nmodel = "azure/mine"\n{result}[responses]\nmodel = "azure/responses/mine"\n{result}'
        )
        async with serving(models_file=aliases, environ={"K": "k" * 20}, preload=True) as url, client(url) as http:
            with anyio.fail_after(60):
                answers = [
                    (
                        await http.post(
                            "/v1/agent/completions", json={"task": "go", "agent_config": {**agent, "model_name": name}}
                        )
                    ).json()
                    for name in ("hidden", "responses")
                ]
        assert len(upstream.exchanges) == 2
    assert "azure/responses/<name>" in answers[0]["detail"]
    assert answers[1]["outputs"][0]["content"] == "from responses"
    body = upstream.exchanges[1].body
    assert (body["model"], body["stream"], body["store"]) == ("mine", True, False)
