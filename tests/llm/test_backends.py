"""What a model's stream says, whichever way it is read: the same provider, the same deltas."""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from swarmstream.errors import ModelError, ProviderError, ProviderRejected, ProviderUnreachable, UpstreamInvalid
from swarmstream.llm.base import (
    ChatModel,
    Delta,
    Echo,
    Finished,
    ModelCall,
    Opened,
    Reasoning,
    Sampling,
    TokenCount,
    ToolCallDelta,
)
from swarmstream.llm.model_ref import ChatEndpoint, ModelRef
from swarmstream.llm.providers.backends import Backend
from swarmstream.llm.providers.direct import DirectModel
from swarmstream.llm.providers.litellm.model import LiteLLMModel
from swarmstream.llm.providers.openai_chat import ChatStream
from tests.fakes.upstream import Exchange, Script, provider

pytestmark = [pytest.mark.anyio, pytest.mark.noisy]

PROVIDER_KEY = "sk-provider-secret-0123456789"
ENVIRON = {"LOCAL_KEY": PROVIDER_KEY}
LANES: dict[str, type[DirectModel | LiteLLMModel]] = {"direct": DirectModel, "litellm": LiteLLMModel}
MIB = 1 << 20
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.fixture(params=LANES)
async def lane(request: pytest.FixtureRequest) -> AsyncGenerator[Backend]:
    model = LANES[request.param](ENVIRON)
    await model.ready()
    yield model
    await model.close()


@pytest.fixture
async def direct() -> AsyncGenerator[Backend]:
    model = DirectModel(ENVIRON)
    await model.ready()
    yield model
    await model.close()


def call(base_url: str, *, sampling: Sampling | None = None, **endpoint: Any) -> ModelCall:
    fields: dict[str, Any] = {
        "url": f"{base_url}/chat/completions",
        "model": "local",
        "key_env": "LOCAL_KEY",
        "extra": (("stream_options", {"include_usage": True}),),
        **endpoint,
    }
    ref = ModelRef(
        name="local",
        target="openai/local",
        backend="direct",
        api_base=base_url,
        api_key_env="LOCAL_KEY",
        endpoint=ChatEndpoint(**fields),
    )
    return ModelCall(ref, [{"role": "user", "content": "go"}], sampling or Sampling(None, None, None, None, {}))


async def collect(model: ChatModel, its: ModelCall) -> list[Delta]:
    deltas: list[Delta] = []
    with anyio.fail_after(30):
        await model.stream(its, deltas.extend)
    return deltas


async def heard(model: ChatModel, script: Script) -> list[Delta]:
    """What a lane makes of a script, without how it opened."""
    async with provider(script) as upstream:
        deltas = await collect(model, call(upstream.base_url))
    assert deltas[0] == Opened()
    return [delta for delta in deltas if delta != Opened()]


def joined(deltas: Sequence[Delta]) -> str:
    return "".join(delta for delta in deltas if isinstance(delta, str))


async def failing(model: ChatModel, script: Script, error: type[ModelError]) -> list[Delta]:
    """What was heard before it failed, as it had to; the provider is left alone then."""
    deltas: list[Delta] = []

    with anyio.fail_after(30):
        async with provider(script) as upstream:
            with pytest.raises(error) as caught:
                await model.stream(call(upstream.base_url), deltas.extend)
            await upstream.idle()
    assert type(caught.value) is error
    assert PROVIDER_KEY not in str(caught.value)
    return [delta for delta in deltas if delta != Opened()]


def chunk(**delta: Any) -> bytes:
    fields = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": delta, "finish_reason": None}]
    return json.dumps({**fields, "choices": choices}, ensure_ascii=False).encode()


FINISH = json.dumps(
    {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    }
).encode()


def lines(content: bytes) -> Script:
    """A stream of just these bytes, in one packet."""

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.chunk(content)
        await exchange.end()

    return script


# --- Both lanes -----------------------------------------------------------------------------------------------------


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

    deltas = await heard(lane, script)
    assert deltas[:2] == ["Hel", "lo"]
    assert set(deltas[2:]) == {Finished("length"), TokenCount(100, 50, 40, 30)}


async def test_every_delta_is_a_delta_of_ours(lane: Backend) -> None:
    texts = [f"t{number} " for number in range(300)]

    async def at_once(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.chunk(b"".join(b"data: " + chunk(content=text) + b"\n\n" for text in texts))
        await exchange.finish()

    deltas = await heard(lane, at_once)
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

    deltas = await heard(lane, script)
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert [(its.index, its.id, its.name) for its in calls if its.id] == [(0, "call_1", "add"), (1, "call_2", "now")]
    assert "".join(its.arguments for its in calls if its.index == 0) == '{"a": 1}'
    assert "".join(its.arguments for its in calls if its.index == 1) == "{}"
    assert Finished("tool_calls") in deltas


def test_what_a_provider_wants_back_with_its_calls_is_kept() -> None:
    signature = {"google": {"thought_signature": "abc"}}
    call = {"index": 0, "id": "1", "function": {"name": "add", "arguments": "{}"}, "extra_content": signature}
    stream = ChatStream()
    told = [chunk(reasoning_content="let me "), chunk(reasoning_content="see"), chunk(tool_calls=[call])]
    ending = b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}'
    deltas = stream.feed(b"".join(b"data: " + content + b"\n\n" for content in (*told, ending)))
    assert [delta.extra for delta in deltas if isinstance(delta, ToolCallDelta)] == [{"extra_content": signature}]
    assert deltas[-2:] == [Echo({"reasoning_content": "let me see"}), Finished("tool_calls")]
    without = ChatStream().feed(b"".join(b"data: " + content + b"\n\n" for content in (*told[:2], ending)))
    assert not any(isinstance(delta, Echo) for delta in without), "nothing was called"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thoughts_are_told_from_text(lane: Backend, field: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(role="assistant", content=None, **{field: "let me "})
        await exchange.delta(**{field: "see"})
        await exchange.say("4")
        await exchange.finish()

    deltas = await heard(lane, script)
    assert deltas[:3] == [Reasoning("let me "), Reasoning("see"), "4"]


async def test_a_refusal_is_what_the_model_says(lane: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(role="assistant", content=None, refusal="I can")
        await exchange.delta(refusal="not")
        await exchange.finish()

    assert joined(await heard(lane, script)) == "I cannot"


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
async def test_however_a_stream_is_laid_out_it_says_the_same(lane: Backend, layout: str, packets: str) -> None:
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

    deltas = await heard(lane, script)
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


# --- The direct lane ------------------------------------------------------------------------------------------------


async def test_a_chunk_of_a_mebibyte_fails(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("before", "x" * (MIB + 1))
        await exchange.finish()

    assert await failing(direct, script, UpstreamInvalid) == ["before"]


async def test_a_line_without_end_fails_before_it_fills_the_memory(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("before")
        while True:
            await exchange.chunk(b"x" * 65536)

    assert await failing(direct, script, UpstreamInvalid) == ["before"]


@pytest.mark.parametrize(
    "odd",
    [
        b'{"a": 1}',
        b"[1]",
        b"12",
        b"null",
        b'"text"',
        b'{"choices": 7}',
        b'{"choices": [{"delta": {"content": 7}}]}',
        b'{"choices": ["x"]}',
        b'{"object": "error", "message": "out of memory", "code": 500}',
        b'{"error": {"message": "overloaded", "code": 503}, "choices": []}',
        b'{"error": "overloaded"}',
        b"{not json",
        b'{"a":' * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda odd: odd[:20].decode(errors="replace"),
)
async def test_what_is_no_chunk_fails_after_what_came_before(direct: Backend, odd: bytes) -> None:
    content = b"data: " + chunk(content="before") + b"\n\ndata: " + odd + b"\n\ndata: " + FINISH + b"\n\n"
    assert await failing(direct, lines(content), UpstreamInvalid) == ["before"]


async def counted(model: ChatModel, usage: str) -> list[Delta]:
    """What a lane makes of a whole stream with this usage, behind its finish."""
    fields = b'"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"'
    last = b'data: {%s, "choices": [], "usage": %s}' % (fields, usage.encode())
    return (await heard(model, lines(b"data: " + FINISH + b"\n\n" + last + b"\n\ndata: [DONE]\n\n")))[1:]


NO_FIGURES = ["-7", "NaN", "null", '"many"', "true", "[7]", str(2**70), "1" + "0" * 300]


@pytest.mark.parametrize("figure", NO_FIGURES, ids=lambda figure: figure[:20])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
async def test_usage_that_is_no_figure_is_as_none(direct: Backend, name: str, figure: str) -> None:
    other = "completion_tokens" if name == "prompt_tokens" else "prompt_tokens"
    assert await counted(direct, f'{{"{name}": {figure}, "{other}": 5}}') == []


@pytest.mark.parametrize("usage", ['"much"', "[]", "{}", "7", "true", '{"prompt_tokens": 7}'])
async def test_usage_without_figures_is_as_none(direct: Backend, usage: str) -> None:
    assert await counted(direct, usage) == []


@pytest.mark.parametrize("details", ["null", '"x"', "[]", '{"cached_tokens": -1}', '{"cached_tokens": "x"}'])
async def test_details_that_are_no_figures_do_not_spoil_the_figures(direct: Backend, details: str) -> None:
    usage = f'{{"prompt_tokens": 7.0, "completion_tokens": 1, "prompt_tokens_details": {details}}}'
    assert await counted(direct, usage) == [TokenCount(7, 1)]


@pytest.mark.parametrize("cut", range(8))
async def test_a_byte_order_mark_before_the_stream_is_no_part_of_it(direct: Backend, cut: int) -> None:
    content = b"\xef\xbb\xbfdata: " + chunk(content="a") + b"\n\ndata: " + chunk(content="b") + b"\n\n"

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        for part in (content[:cut], content[cut:] + b"data: " + FINISH + b"\n\n"):
            if part:
                await exchange.chunk(part)
                await anyio.lowlevel.checkpoint()
        await exchange.end()

    assert joined(await heard(direct, script)) == "ab"
    stream = ChatStream()
    assert [*stream.feed(content[:cut]), *stream.feed(content[cut:])] == ["a", "b"]


async def test_only_one_byte_order_mark_is_ignored_and_only_at_the_beginning() -> None:
    mark = b"\xef\xbb\xbf"
    line = b"data: " + chunk(content="a") + b"\n"
    assert ChatStream().feed(mark + mark + line + line) == ["a"]
    assert ChatStream().feed(line + mark + line) == ["a"]


@pytest.mark.parametrize("odd", [b"1" * 5000, b'{"error": ' + b"[" * 970 + b"]" * 970 + b"}"], ids=["long", "deep"])
async def test_what_python_itself_refuses_to_read_fails_too(direct: Backend, odd: bytes) -> None:
    assert await failing(direct, lines(b"data: " + odd + b"\n\n"), UpstreamInvalid) == []


async def test_an_event_of_very_many_lines_is_read_once(direct: Backend) -> None:
    assert await failing(direct, lines(b'data: "\n' * 100_000 + b"\n"), UpstreamInvalid) == []


async def test_an_event_of_several_lines_is_one(direct: Backend) -> None:
    content = b'data: {"choices": [{"index": 0,\ndata: "delta": {"content": "a"}}]}\n\ndata: ' + FINISH + b"\n\n"
    assert await heard(direct, lines(content)) == ["a", Finished("stop")]


async def test_thoughts_among_the_parts_of_a_content_are_told_from_text(direct: Backend) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
    parts = [thinking, {"type": "text", "text": "4"}, {"type": "reference", "reference_ids": [1]}]
    content = b"data: " + chunk(content=parts) + b"\n\ndata: " + FINISH + b"\n\n"
    assert await heard(direct, lines(content)) == [Reasoning("hm"), "4", Finished("stop")]


async def test_the_marker_of_the_end_is_the_end_whatever_follows(direct: Backend) -> None:
    content = b"data: " + chunk(content="a") + b"\n\ndata: " + FINISH + b"\n\ndata: [DONE]\n\ndata: {not json\n\n"
    assert await heard(direct, lines(content)) == ["a", Finished("stop")]


async def test_an_answer_that_was_complete_is_not_cut_by_a_lost_connection(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("a")
        await exchange.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        exchange.close()

    assert await heard(direct, script) == ["a", Finished("stop")]


async def test_connections_are_kept_for_the_next_call(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.finish()

    async with provider(script, keeps_alive=True) as upstream:
        for _ in range(2):
            await collect(direct, call(upstream.base_url))
        assert len(upstream.exchanges) == 2
        assert upstream.connections == 1


async def test_a_kept_connection_found_closed_is_opened_again_once(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.finish()

    async def hangs_up(exchange: Exchange) -> None:
        exchange.close()

    async with provider(script, keeps_alive=True) as upstream:
        await collect(direct, call(upstream.base_url))
        upstream.script = hangs_up
        with pytest.raises(ProviderUnreachable):
            await collect(direct, call(upstream.base_url))
        assert len(upstream.exchanges) == 3, "on the kept connection, and once on a new one"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_refused_and_gets_no_key(direct: Backend, status: int) -> None:
    async def elsewhere(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.finish()

    async with provider(elsewhere) as other:

        async def script(exchange: Exchange) -> None:
            await exchange.refuse(status, b"", location=f"{other.base_url}/chat/completions")

        await failing(direct, script, ProviderRejected)
        assert other.exchanges == []


async def test_a_redirect_within_the_same_host_is_followed_and_not_for_ever(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.path == "/v1/chat/completions":
            await exchange.refuse(307, b"", location="/v2/chat/completions?a=b")
        elif exchange.path.startswith("/v2/"):
            await exchange.open()
            await exchange.say("a")
            await exchange.finish()
        else:
            await exchange.refuse(308, b"", location=exchange.path)

    async with provider(script) as upstream:
        assert joined(await collect(direct, call(upstream.base_url))) == "a"
        first, second = upstream.exchanges
        assert (second.path, second.body) == ("/v2/chat/completions?a=b", first.body)
        round_and_round = upstream.base_url.replace("/v1", "/v3")
        with pytest.raises(ProviderRejected):
            await collect(direct, call(round_and_round))


async def test_a_body_that_is_no_stream_is_a_providers_error(direct: Backend) -> None:
    async def json_answer(exchange: Exchange) -> None:
        await exchange.refuse(200, b'{"choices": [{"message": {"content": "not streamed"}}]}')

    assert await failing(direct, json_answer, ProviderError) == []


async def test_the_request_is_what_the_endpoint_wants(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.finish()

    sampling = Sampling(50, 0.5, "low", 1024, {"seed": 7, "top_p": 0.9})
    async with provider(script) as upstream:
        its = call(
            upstream.base_url,
            sampling=sampling,
            key_header="api-key",
            headers=(("OpenAI-Project", "p"),),
            renames=(("seed", "random_seed"), ("max_tokens", "max_completion_tokens")),
            extra=(("usage", {"include": True}),),
        )
        await collect(direct, its)
        keyless = call(upstream.base_url, key_env=None)
        await collect(direct, keyless)
        its = ModelCall(
            its.model,
            [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
            ],
            sampling,
        )
        await collect(direct, its)
    first, second, third = upstream.exchanges
    assert third.body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
    ]
    assert first.body == {
        "model": "local",
        "messages": [{"role": "user", "content": "go"}],
        "stream": True,
        "usage": {"include": True},
        "max_completion_tokens": 50,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "random_seed": 7,
        "top_p": 0.9,
    }
    assert (first.headers["api-key"], first.headers["openai-project"]) == (PROVIDER_KEY, "p")
    assert "authorization" not in first.headers
    assert not {"authorization", "api-key"} & second.headers.keys()
    assert PROVIDER_KEY not in str(second.headers)
