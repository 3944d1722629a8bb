"""The hosted tutorial's sequential contract: agent after agent, no overlap."""

from pathlib import Path

import pytest
import requests
from anyio import to_thread

from tests.clients import hosted_tutorial
from tests.clients.sse import check_stream, events_of
from tests.conftest import KEY, client
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


async def speak(exchange: Exchange) -> None:
    """Eight words from everybody, with what a line splitter must not trip over."""
    await exchange.open()
    for number in range(8):
        await exchange.say(f"word{number}\u2028\u0085 ")
    await exchange.finish(usage=(11, 8))


async def test_the_tutorials_script_prints_agent_after_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with provider(speak) as upstream, local_models(upstream, tmp_path) as url:
        await to_thread.run_sync(hosted_tutorial.stream_sequential, url, KEY)
    text = "".join(f"word{number}\u2028\u0085 " for number in range(8))
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"\n\n--- Researcher starting ---\n{text}\n--- Researcher done ---\n"
        f"\n\n--- Writer starting ---\n{text}\n--- Writer done ---\n"
        "\n[usage] total_tokens=38\n\n[end] "
    )


async def test_the_tutorials_panels_hold_each_agents_text(tmp_path: Path) -> None:
    def render(url: str) -> dict[str, str]:
        payload = {
            "task": "go",
            "stream": True,
            "agents": [hosted_tutorial.make_agent("A", "a"), hosted_tutorial.make_agent("B", "b")],
        }
        response = requests.post(
            f"{url}/v1/swarm/completions", headers=hosted_tutorial.headers(KEY), json=payload, stream=True, timeout=10
        )
        return hosted_tutorial.render_per_agent(response)

    async with provider(speak) as upstream, local_models(upstream, tmp_path) as url:
        panels = await to_thread.run_sync(render, url)
    text = "".join(f"word{number}\u2028\u0085 " for number in range(8))
    assert panels == {"A": text, "B": text}


@pytest.mark.promise("W-56")
async def test_no_token_of_the_second_agent_comes_before_the_first_has_ended(tmp_path: Path) -> None:
    payload = {
        "task": "go",
        "stream": True,
        "agents": [hosted_tutorial.make_agent("A", "a"), hosted_tutorial.make_agent("B", "b")],
    }
    async with (
        provider(speak) as upstream,
        local_models(upstream, tmp_path) as url,
        client(url) as http,
        http.stream("POST", "/v1/swarm/completions", json=payload) as response,
    ):
        events = [event async for event in events_of(response)]
    check_stream(events)
    speakers = [event.data["agent"] for event in events if event.event == "chunk"]
    assert speakers == ["A"] * 8 + ["B"] * 8
    end_of_a = next(event for event in events if event.event == "agent_end")
    assert end_of_a.data["agent"] == "A"
    first_of_b = next(event for event in events if event.event == "chunk" and event.data["agent"] == "B")
    assert events.index(end_of_a) < events.index(first_of_b)


@pytest.mark.promise("W-42")
async def test_streamed_or_not_the_text_the_usage_and_the_prompts_are_the_same(tmp_path: Path) -> None:
    payload = {
        "name": "twice",
        "task": "go",
        "rules": "be brief",
        "agents": [hosted_tutorial.make_agent("A", "a"), hosted_tutorial.make_agent("B", "b")],
    }
    async with (
        provider(speak) as upstream,
        local_models(upstream, tmp_path) as url,
        client(url) as http,
    ):
        document = (await http.post("/v1/swarm/completions", json=payload)).json()
        async with http.stream("POST", "/v1/swarm/completions", json={**payload, "stream": True}) as response:
            events = [event async for event in events_of(response)]
    end, usage = events[-1].data, events[-2].data
    del usage["t"]
    assert document["output"] == end["output"]
    assert document["usage"] == usage
    prompts = [exchange.body for exchange in upstream.exchanges]
    assert prompts[:2] == prompts[2:]
    assert prompts[0]["messages"] == [{"role": "system", "content": "be brief\n\na"}, {"role": "user", "content": "go"}]
    assert usage["billing_info"]["total_cost"] == pytest.approx((22 * 1.0 + 16 * 2.0) / 1e6)
    assert usage["priced"] is True
    assert usage["estimated"] is False
