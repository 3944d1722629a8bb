"""Ollama's own streaming protocol, through litellm."""

import json
from pathlib import Path

import anyio
import pytest

from tests.clients.sse import check_stream, events_of
from tests.conftest import client, serving
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


async def _chat(exchange: Exchange) -> None:
    if exchange.path != "/api/chat":
        await anyio.sleep_forever()  # litellm's own questions; whoever waits for an answer stands still
    await exchange.open("application/x-ndjson")
    for text in ("he", "llo"):
        line = {"model": "m", "message": {"role": "assistant", "content": text}, "done": False}
        await exchange.chunk(json.dumps(line).encode() + b"\n")
    last = {"done": True, "done_reason": "stop", "prompt_eval_count": 11, "eval_count": 2}
    line = {"model": "m", "message": {"role": "assistant", "content": ""}, **last}
    await exchange.chunk(json.dumps(line).encode() + b"\n")
    await exchange.end()


async def test_a_local_model_is_called_and_asked_nothing_else(tmp_path: Path) -> None:
    aliases = tmp_path / "models.toml"
    async with provider(_chat) as upstream:
        base = upstream.base_url.removesuffix("/v1")
        aliases.write_text(f'[local]\nmodel = "ollama_chat/house-model:7b"\napi_base = "{base}"\n')
        payload = {"agent_config": {"agent_name": "A", "model_name": "local"}, "task": "go", "stream": True}
        with anyio.fail_after(60):
            async with (
                serving(models_file=aliases, preload=True) as url,
                client(url) as http,
                http.stream("POST", "/v1/agent/completions", json=payload) as response,
            ):
                events = [event async for event in events_of(response)]
    check_stream(events)
    end = next(event.data for event in events if event.event == "agent_end")
    assert (end["status"], end["output"]) == ("success", "hello")
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (11, 2)
    assert [exchange.path for exchange in upstream.exchanges] == ["/api/chat"]
    assert upstream.exchanges[0].headers.get("authorization") in (None, "Bearer none")
