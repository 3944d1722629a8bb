"""Budgets of runs: the shares of their calls, and the end when nothing is left (docs/wire.md, "Run options")."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import client, serving
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, Script, provider

pytestmark = pytest.mark.anyio

WORD = "word"
"""A token, as it is estimated: four bytes."""


def agent(name: str, **fields: Any) -> dict[str, Any]:
    return {"agent_name": name, "system_prompt": name, "num_retries": 0, **fields}


async def run(script: Script, tmp_path: Path, *names: str, **fields: Any) -> tuple[list[ServerEvent], list[Exchange]]:
    """The events of a swarm of these agents, and what their provider was asked."""
    payload = {"agents": [agent(name) for name in names], "task": "go", "stream": True, **fields}
    with anyio.fail_after(30):
        async with (
            provider(script) as upstream,
            local_models(upstream, tmp_path) as url,
            client(url) as http,
            http.stream("POST", "/v1/swarm/completions", json=payload) as response,
        ):
            assert response.status_code == 200, await response.aread()
            events = [event async for event in events_of(response)]
            await upstream.idle()
    check_stream(events)
    return events, upstream.exchanges


def obedient(tokens: int, figures: tuple[int, int] | None = None) -> Script:
    """Says so many words, or as many as it may."""

    async def script(exchange: Exchange) -> None:
        allowed: int = exchange.body["max_tokens"]
        length = min(tokens, allowed)
        await exchange.open()
        await exchange.say(*([WORD] * length))
        await exchange.finish("stop" if length == tokens else "length", figures or (5, length))

    return script


async def test_a_run_within_its_budget_succeeds_and_its_calls_get_the_rest_as_max_tokens(tmp_path: Path) -> None:
    events, exchanges = await run(obedient(10), tmp_path, "A", "B", max_total_tokens=100)
    assert events[-1].data["status"] == "success"
    first, second = (exchange.body["max_tokens"] for exchange in exchanges)
    assert 90 < first < 100
    assert second < first - 10
    assert events[-2].data["total_tokens"] == 30


async def test_an_answer_that_the_budget_cuts_off_ends_the_run(tmp_path: Path) -> None:
    events, exchanges = await run(obedient(1000), tmp_path, "A", "B", max_total_tokens=50)
    end = events[-1].data
    assert end["status"] == "budget_exceeded"
    assert len(exchanges) == 1
    assert end["output"][0]["content"] == WORD * exchanges[0].body["max_tokens"]
    assert [event.data["code"] for event in events if event.event == "error"] == ["budget_exceeded"]
    assert "50 tokens" in next(event.data["error"] for event in events if event.event == "error")


async def test_a_reply_that_exceeds_its_share_is_cut(tmp_path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.open()
        for _ in range(500):
            await exchange.say(WORD)
        await exchange.closed_by_client.wait()

    events, exchanges = await run(endless, tmp_path, "A", max_total_tokens=40)
    assert events[-1].data["status"] == "budget_exceeded"
    assert exchanges[0].closed_by_client.is_set()
    length = events[-1].data["output"][0]["content"]
    assert len(WORD) * 20 < len(length) < len(WORD) * 42, "also what came in one packet"
    assert events[-2].data["estimated"] is True


async def test_the_first_sibling_to_ask_gets_the_first_share(tmp_path: Path) -> None:
    events, exchanges = await run(
        obedient(10), tmp_path, "A", "B", "C", swarm_type="ConcurrentWorkflow", max_total_tokens=10_000
    )
    assert events[-1].data["status"] == "success"
    first, second, third = (exchange.body["max_tokens"] for exchange in exchanges)
    assert first == 8192
    assert second < 10_000 - 8192
    assert third > second, "it waited for what one of the others left over"


async def test_a_budget_in_usd_counts_prices(tmp_path: Path) -> None:
    # 1 USD a million tokens in, 2 out: 100 tokens out are 0.0002 USD.
    events, exchanges = await run(obedient(1000), tmp_path, "A", max_cost_usd=0.0002)
    assert events[-1].data["status"] == "budget_exceeded"
    assert 90 < exchanges[0].body["max_tokens"] <= 100
    assert events[-2].data["billing_info"]["total_cost"] <= 0.0003


@pytest.mark.promise("W-12")
async def test_a_model_without_a_price_is_refused_with_a_budget_in_usd(tmp_path: Path) -> None:
    aliases = tmp_path / "models.toml"
    aliases.write_text('["free-*"]\nmodel = "openai/mine"\napi_base = "http://127.0.0.1:9/v1"\n')
    async with serving(models_file=aliases) as url, client(url) as http:
        payload = {"agents": [agent("A", model_name="free-1")], "task": "go", "max_cost_usd": 1.0}
        answer = await http.post("/v1/swarm/completions", json=payload)
    assert (answer.status_code, answer.json()["code"]) == (400, "unpriced_model")
    assert answer.json()["errors"][0]["loc"] == ["agents", 0, "model_name"]


@pytest.mark.promise("W-41")
async def test_a_run_that_was_not_streamed_answers_402_with_the_output_so_far(tmp_path: Path) -> None:
    payload = {"agent_config": agent("A"), "task": "go", "max_total_tokens": 30}
    async with (
        provider(obedient(1000)) as upstream,
        local_models(upstream, tmp_path) as url,
        client(url) as http,
    ):
        answer = await http.post("/v1/agent/completions", json=payload)
    assert (answer.status_code, answer.json()["code"]) == (402, "budget_exceeded")
    assert answer.json()["output"][0]["content"].startswith(WORD)
    assert answer.headers["x-should-retry"] == "false"
