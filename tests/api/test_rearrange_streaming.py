"""The hosted tutorial's parallel contract: two agents interleave, the third follows in one run."""

from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.clients import hosted_tutorial
from tests.conftest import KEY, serving
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


class Alternating:
    """A provider that lets two streams speak in turn, so that they can only interleave or stand still."""

    def __init__(self) -> None:
        self._whose = "Optimist"
        self._changed = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.open()
        if "summary" in exchange.system:
            await exchange.say("one ", "line")
        else:
            me, other = ("Optimist", "Pessimist") if "upbeat" in exchange.system else ("Pessimist", "Optimist")
            for number in range(5):
                while self._whose != me:
                    await self._changed.wait()
                await exchange.say(f"{me} {number} ")
                self._whose = other
                self._changed.set()
                self._changed = anyio.Event()
        await exchange.finish()


@pytest.mark.promise("W-56")
async def test_parallel_agents_interleave_and_the_third_follows_in_one_run(tmp_path: Path) -> None:
    async with provider(Alternating()) as upstream, local_models(upstream, tmp_path) as url:
        events = await to_thread.run_sync(hosted_tutorial.stream_rearrange, url, KEY)
    assert hosted_tutorial.count_flips(events) >= 3
    speakers = [event["data"]["agent"] for event in events if event["event"] == "chunk"]
    assert sorted(speakers[:10]) == ["Optimist"] * 5 + ["Pessimist"] * 5
    assert speakers[10:] == ["Summary", "Summary"]
    assert upstream.exchanges[2].body["messages"][1:] == [
        {"role": "user", "content": "AI in healthcare"},
        {"role": "user", "content": "Optimist: " + "".join(f"Optimist {number} " for number in range(5))},
        {"role": "user", "content": "Pessimist: " + "".join(f"Pessimist {number} " for number in range(5))},
    ]


async def test_the_demo_model_interleaves_too() -> None:
    async with serving(model_aliases={"*": "demo/swarm"}) as url:
        events = await to_thread.run_sync(hosted_tutorial.stream_rearrange, url, KEY)
    assert hosted_tutorial.count_flips(events) >= 3
    speakers = [event["data"]["agent"] for event in events if event["event"] == "chunk"]
    assert set(speakers[-10:]) == {"Summary"}
    assert speakers.count("Summary") == len(speakers) - speakers.index("Summary")
    assert events[-1]["data"]["status"] == "success"
    assert "demo" in events[-1]["data"]["output"][0]["content"]
    assert "AI in healthcare" in events[-1]["data"]["output"][0]["content"]
