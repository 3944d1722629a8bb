"""Anthropic's own streaming protocol, through litellm: the same truth as with OpenAI's."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import client, serving
from tests.fakes.upstream import Exchange, Script, provider

pytestmark = pytest.mark.anyio

KEY = "sk-ant-secret-0123456789"


async def _event(exchange: Exchange, kind: str, **fields: Any) -> None:
    await exchange.chunk(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())


async def _begin(exchange: Exchange) -> None:
    await exchange.open()
    usage = {"input_tokens": 20, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "usage": usage,
    }
    await _event(exchange, "message_start", message=message)


async def _begin_text(exchange: Exchange) -> None:
    await _begin(exchange)
    await _event(exchange, "content_block_start", index=0, content_block={"type": "text", "text": ""})


async def _send(exchange: Exchange, *texts: str) -> None:
    for text in texts:
        await _event(exchange, "content_block_delta", index=0, delta={"type": "text_delta", "text": text})


async def _whole(exchange: Exchange) -> None:
    await _begin_text(exchange)
    await _event(exchange, "ping")
    await _send(exchange, "he", "llo")
    await _event(exchange, "content_block_stop", index=0)
    await _event(exchange, "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
    await _event(exchange, "message_stop")
    await exchange.end()


async def _cut_off(exchange: Exchange) -> None:
    await _begin_text(exchange)
    await _send(exchange, "he")
    await exchange.end()


async def _overloaded_in_the_stream(exchange: Exchange) -> None:
    await _begin_text(exchange)
    await _send(exchange, "he")
    await _event(exchange, "error", error={"type": "overloaded_error", "message": f"Overloaded {KEY}"})
    await exchange.end()


async def _overloaded(exchange: Exchange) -> None:
    await exchange.refuse(529, b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}')


async def _wrong_key(exchange: Exchange) -> None:
    body = {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key {KEY}"}}
    await exchange.refuse(401, json.dumps(body).encode())


@asynccontextmanager
async def _stream(
    script: Script, tmp_path: Path, more: dict[str, Any] | None = None
) -> AsyncGenerator[tuple[list[ServerEvent], list[Exchange]]]:
    aliases = tmp_path / "models.toml"
    async with provider(script) as upstream:
        base = upstream.base_url.removesuffix("/v1")
        aliases.write_text(
            f'["claude-*"]\nmodel = "anthropic/claude-sonnet-4-5"\napi_base = "{base}"\napi_key_env = "ANT_KEY"\n'
        )
        agent = {
            "agent_name": "A",
            "model_name": "claude-sonnet-4-20250514",
            "system_prompt": "S",
            "num_retries": 0,
            **(more or {}),
        }
        payload = {"agent_config": agent, "task": "go", "stream": True}
        async with (
            serving(models_file=aliases, environ={"ANT_KEY": KEY}, preload=True) as url,
            client(url) as http,
            http.stream("POST", "/v1/agent/completions", json=payload) as response,
        ):
            events = [event async for event in events_of(response)]
    check_stream(events)
    yield events, upstream.exchanges


async def test_a_hosted_clients_claude_is_served_by_an_alias(tmp_path: Path) -> None:
    async with _stream(_whole, tmp_path) as (events, exchanges):
        end = next(event.data for event in events if event.event == "agent_end")
        assert [event.data["content"] for event in events if event.event == "chunk"] == ["he", "llo"]
        assert (end["status"], end["finish_reason"], end["model"]) == ("success", "stop", "claude-sonnet-4-20250514")
        usage = end["usage"]
        assert (usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"]) == (25, 5, 9)
        assert (usage["priced"], usage["estimated"]) == (True, False)
        assert exchanges[0].path == "/v1/messages"
        assert exchanges[0].headers["x-api-key"] == KEY
        assert exchanges[0].body["system"] == [{"type": "text", "text": "S"}]


@pytest.mark.noisy
@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        (_cut_off, "upstream_truncated", "he"),
        (_overloaded_in_the_stream, "upstream_invalid", "he"),
        (_overloaded, "provider_error", ""),
        (_wrong_key, "provider_auth", ""),
    ],
)
async def test_each_fault_ends_with_its_error_code(script: Script, code: str, text: str, tmp_path: Path) -> None:
    async with _stream(script, tmp_path) as (events, _):
        assert [event.data["code"] for event in events if event.event == "error"] == [code]
        assert events[-1].data["status"] == "failed"
        assert events[-1].data["outputs"][0]["content"] == text
        assert events[-2].data["input_tokens"] == (25 if text else 0), "what it had said of the input counts"
        assert KEY not in str(events)


async def _thinks_and_calculates(exchange: Exchange) -> None:
    """With an extended thought that is signed, a tool call in pieces, then the answer."""
    if any(part["type"] == "tool_result" for message in exchange.body["messages"] for part in message["content"]):
        await _whole(exchange)
        return
    await _begin(exchange)
    await _event(exchange, "content_block_start", index=0, content_block={"type": "thinking", "thinking": ""})
    for thought in ("I should ", "calculate."):
        await _event(exchange, "content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": thought})
    await _event(exchange, "content_block_delta", index=0, delta={"type": "signature_delta", "signature": "signed=="})
    await _event(exchange, "content_block_stop", index=0)
    tool: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "calculator", "input": {}}
    await _event(exchange, "content_block_start", index=1, content_block=tool)
    for part in ('{"expression":', ' "17 + 25"}'):
        await _event(exchange, "content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": part})
    await _event(exchange, "content_block_stop", index=1)
    await _event(exchange, "message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})
    await _event(exchange, "message_stop")
    await exchange.end()


@pytest.mark.parametrize("max_loops", [1, 2])
async def test_thoughts_go_back_signed_with_the_results_of_tools(max_loops: int, tmp_path: Path) -> None:
    more = {"selected_tools": ["calculator"], "thinking_tokens": 1024, "max_loops": max_loops}
    async with _stream(_thinks_and_calculates, tmp_path, more) as (events, exchanges):
        assert "".join(event.data["content"] for event in events if event.event == "reasoning") == (
            "I should calculate."
        )
        assert [event.data["output"] for event in events if event.event in ("tool_end", "agent_end")] == ["42", "hello"]
        assert len(exchanges) == 2
        asked, answered = exchanges[1].body["messages"][-2:]
        thought, call = asked["content"]
        assert thought == {"type": "thinking", "thinking": "I should calculate.", "signature": "signed=="}
        assert (call["type"], call["id"], call["input"]) == ("tool_use", "toolu_1", {"expression": "17 + 25"})
        assert (answered["content"][0]["tool_use_id"], answered["content"][0]["content"]) == ("toolu_1", "42")
        assert ("calculator" in str(exchanges[1].body["tools"])) == (max_loops == 2), "the last call offers no tool"
