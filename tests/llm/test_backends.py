"""Every backend makes the same deltas of the same provider's stream."""

from collections.abc import AsyncGenerator, Sequence

import anyio
import anyio.lowlevel
import pytest

from swarmstream.errors import UpstreamInvalid
from swarmstream.llm.base import (
    Delta,
    Echo,
    Finished,
    Reasoning,
    TokenCount,
    ToolCallDelta,
)
from swarmstream.llm.providers.backends import Backend
from swarmstream.llm.providers.direct import DirectModel
from swarmstream.llm.providers.litellm.model import LiteLLMModel
from swarmstream.llm.providers.openai_chat import ChatStream
from tests.fakes.upstream import Exchange, provider
from tests.llm.streams import ENVIRON, FINISH, call, chunk, collect, deltas_of, joined

pytestmark = [pytest.mark.anyio, pytest.mark.noisy]

LANES: dict[str, type[DirectModel | LiteLLMModel]] = {"direct": DirectModel, "litellm": LiteLLMModel}


@pytest.fixture(params=LANES)
async def lane(request: pytest.FixtureRequest) -> AsyncGenerator[Backend]:
    model = LANES[request.param](ENVIRON)
    await model.ready()
    yield model
    await model.close()


async def test_text_then_finish_then_figures(lane: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(role="assistant", content="")
        await exchange.say("Hel", "lo")
        await exchange.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens_details": {"reasoning_tokens": 30},
        }
        await exchange.event({"choices": [], "usage": usage})
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.end()

    deltas = await deltas_of(lane, script)
    assert deltas[:2] == ["Hel", "lo"]
    assert set(deltas[2:]) == {Finished("length"), TokenCount(100, 50, 40, 30)}


async def test_every_delta_is_a_delta_of_ours(lane: Backend) -> None:
    texts = [f"t{number} " for number in range(300)]

    async def at_once(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.chunk(b"".join(b"data: " + chunk(content=text) + b"\n\n" for text in texts))
        await exchange.finish()

    deltas = await deltas_of(lane, at_once)
    assert [delta for delta in deltas if isinstance(delta, str)] == texts


async def test_others_have_the_loop_however_fast_a_provider_is(lane: Backend) -> None:
    turns = 0
    seen: set[int] = set()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.chunk((b"data: " + chunk(content="x" * 1000) + b"\n\n") * 1000)
        await exchange.finish()

    async with provider(script) as upstream, anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns)
        await lane.stream(call(upstream.base_url), lambda _: seen.add(turns))
        tasks.cancel_scope.cancel()
    assert len(seen) > 2


async def test_calls_of_tools_come_in_pieces(lane: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}
        other = {"index": 1, "id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}}
        await exchange.delta(role="assistant", content=None, tool_calls=[first])
        for piece in ('{"a": ', "1}"):
            await exchange.delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
        await exchange.delta(tool_calls=[other])
        await exchange.finish("tool_calls")

    deltas = await deltas_of(lane, script)
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert [(response.index, response.id, response.name) for response in calls if response.id] == [
        (0, "call_1", "add"),
        (1, "call_2", "now"),
    ]
    assert "".join(response.arguments for response in calls if response.index == 0) == '{"a": 1}'
    assert "".join(response.arguments for response in calls if response.index == 1) == "{}"
    assert Finished("tool_calls") in deltas


def test_signatures_and_reasoning_of_a_providers_tool_calls_are_kept() -> None:
    signature = {"google": {"thought_signature": "abc"}}
    call = {"index": 0, "id": "1", "function": {"name": "add", "arguments": "{}"}, "extra_content": signature}
    stream = ChatStream()
    pieces = [chunk(reasoning_content="let me "), chunk(reasoning_content="see"), chunk(tool_calls=[call])]
    ending = b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}'
    deltas = stream.feed(b"".join(b"data: " + content + b"\n\n" for content in (*pieces, ending)))
    assert [delta.extra for delta in deltas if isinstance(delta, ToolCallDelta)] == [{"extra_content": signature}]
    assert deltas[-2:] == [Echo({"reasoning_content": "let me see"}), Finished("tool_calls")]
    without = ChatStream().feed(b"".join(b"data: " + content + b"\n\n" for content in (*pieces[:2], ending)))
    assert not any(isinstance(delta, Echo) for delta in without), "nothing was called"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thoughts_and_text_are_separate_deltas(lane: Backend, field: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(role="assistant", content=None, **{field: "let me "})
        await exchange.delta(**{field: "see"})
        await exchange.say("4")
        await exchange.finish()

    deltas = await deltas_of(lane, script)
    assert deltas[:3] == [Reasoning("let me "), Reasoning("see"), "4"]


async def test_a_models_refusal_is_its_text(lane: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(role="assistant", content=None, refusal="I can")
        await exchange.delta(refusal="not")
        await exchange.finish()

    assert joined(await deltas_of(lane, script)) == "I cannot"


STREAMS = {
    "line feeds": b"data: %s\n\ndata: %s\n\ndata: [DONE]\n\n",
    "carriage returns": b"data: %s\r\n\r\ndata: %s\r\n\r\ndata: [DONE]\r\n\r\n",
    "no space": b"data:%s\n\ndata:%s\n\ndata:[DONE]\n\n",
    "comments": b": hi\n\ndata: %s\n\n:\n: processing\n\ndata: %s\n\n: bye\n\ndata: [DONE]\n\n",
    "other fields": b"id: 1\nevent: message\nretry: 10\ndata: %s\n\nid: 2\ndata: %s\n\ndata: [DONE]\n\n",
    "no end marker": b"data: %s\n\ndata: %s\n\n",
}


@pytest.mark.parametrize("packets", ["one", "bytes"])
@pytest.mark.parametrize("layout", STREAMS)
async def test_every_layout_of_a_stream_yields_the_same_deltas(lane: Backend, layout: str, packets: str) -> None:
    text = "naïve 日本 👩‍🔬 \u2028 end"
    content = STREAMS[layout] % (chunk(content=text), FINISH)

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        if packets == "one":
            await exchange.chunk(content)
        else:
            for byte in content:
                await exchange.chunk(bytes([byte]))
        await exchange.end()

    deltas = await deltas_of(lane, script)
    assert (joined(deltas), deltas[-1]) == (text, Finished("stop"))


async def test_a_failing_listener_ends_the_stream_and_the_provider_is_hung_up_on(lane: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("a", "b")
        await anyio.sleep_forever()

    def on_deltas(deltas: Sequence[Delta]) -> None:
        if "a" in deltas:
            raise UpstreamInvalid("enough")

    async with provider(script) as upstream:
        with anyio.fail_after(30):
            with pytest.raises(UpstreamInvalid):
                await lane.stream(call(upstream.base_url), on_deltas)
            await upstream.exchanges[0].closed_by_client.wait()


async def test_cancelling_the_reader_hangs_up_on_the_provider(lane: Backend) -> None:
    opened = anyio.Event()

    async def script(exchange: Exchange) -> None:
        opened.set()
        await anyio.sleep_forever()

    async with provider(script) as upstream:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, lane, call(upstream.base_url))
                await opened.wait()
                tasks.cancel_scope.cancel()
            await upstream.exchanges[0].closed_by_client.wait()
