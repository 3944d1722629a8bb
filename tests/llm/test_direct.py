"""The direct backend: streams at the edge of the protocol, redirects, and the request that is sent."""

from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import pytest

from swarmstream.errors import ProviderError, ProviderRejected, ProviderUnreachable, UpstreamInvalid
from swarmstream.llm.base import (
    ChatModel,
    Delta,
    Finished,
    ModelCall,
    Reasoning,
    Sampling,
    TokenCount,
)
from swarmstream.llm.providers.backends import Backend
from swarmstream.llm.providers.direct import DirectModel
from swarmstream.llm.providers.openai_chat import ChatStream
from tests.fakes.upstream import Exchange, provider
from tests.llm.streams import (
    ENVIRON,
    FINISH,
    IMAGE,
    MIB,
    PROVIDER_KEY,
    call,
    chunk,
    collect,
    deltas_of,
    failing,
    joined,
    lines,
)

pytestmark = [pytest.mark.anyio, pytest.mark.noisy]


@pytest.fixture
async def direct() -> AsyncGenerator[Backend]:
    model = DirectModel(ENVIRON)
    await model.ready()
    yield model
    await model.close()


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
async def test_an_invalid_chunk_fails_the_call_after_the_deltas_before_it(direct: Backend, odd: bytes) -> None:
    content = b"data: " + chunk(content="before") + b"\n\ndata: " + odd + b"\n\ndata: " + FINISH + b"\n\n"
    assert await failing(direct, lines(content), UpstreamInvalid) == ["before"]


async def counted(model: ChatModel, usage: str) -> list[Delta]:
    """What a lane makes of a whole stream with this usage, behind its finish."""
    fields = b'"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"'
    last = b'data: {%s, "choices": [], "usage": %s}' % (fields, usage.encode())
    return (await deltas_of(model, lines(b"data: " + FINISH + b"\n\n" + last + b"\n\ndata: [DONE]\n\n")))[1:]


NO_FIGURES = ["-7", "NaN", "null", '"many"', "true", "[7]", str(2**70), "1" + "0" * 300]


@pytest.mark.parametrize("figure", NO_FIGURES, ids=lambda figure: figure[:20])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
async def test_usage_with_an_invalid_figure_counts_as_absent(direct: Backend, name: str, figure: str) -> None:
    other = "completion_tokens" if name == "prompt_tokens" else "prompt_tokens"
    assert await counted(direct, f'{{"{name}": {figure}, "{other}": 5}}') == []


@pytest.mark.parametrize("usage", ['"much"', "[]", "{}", "7", "true", '{"prompt_tokens": 7}'])
async def test_usage_without_figures_counts_as_absent(direct: Backend, usage: str) -> None:
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

    assert joined(await deltas_of(direct, script)) == "ab"
    stream = ChatStream()
    assert [*stream.feed(content[:cut]), *stream.feed(content[cut:])] == ["a", "b"]


async def test_only_one_byte_order_mark_is_ignored_and_only_at_the_beginning() -> None:
    mark = b"\xef\xbb\xbf"
    line = b"data: " + chunk(content="a") + b"\n"
    assert ChatStream().feed(mark + mark + line + line) == ["a"]
    assert ChatStream().feed(line + mark + line) == ["a"]


@pytest.mark.parametrize("odd", [b"1" * 5000, b'{"error": ' + b"[" * 970 + b"]" * 970 + b"}"], ids=["long", "deep"])
async def test_json_that_python_itself_refuses_to_read_fails_the_call(direct: Backend, odd: bytes) -> None:
    assert await failing(direct, lines(b"data: " + odd + b"\n\n"), UpstreamInvalid) == []


async def test_an_event_of_very_many_lines_is_read_once(direct: Backend) -> None:
    assert await failing(direct, lines(b'data: "\n' * 100_000 + b"\n"), UpstreamInvalid) == []


async def test_an_event_of_several_lines_is_one(direct: Backend) -> None:
    content = b'data: {"choices": [{"index": 0,\ndata: "delta": {"content": "a"}}]}\n\ndata: ' + FINISH + b"\n\n"
    assert await deltas_of(direct, lines(content)) == ["a", Finished("stop")]


async def test_thoughts_among_the_parts_of_a_content_become_reasoning(direct: Backend) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
    parts = [thinking, {"type": "text", "text": "4"}, {"type": "reference", "reference_ids": [1]}]
    content = b"data: " + chunk(content=parts) + b"\n\ndata: " + FINISH + b"\n\n"
    assert await deltas_of(direct, lines(content)) == [Reasoning("hm"), "4", Finished("stop")]


async def test_bytes_behind_the_end_marker_are_ignored(direct: Backend) -> None:
    content = b"data: " + chunk(content="a") + b"\n\ndata: " + FINISH + b"\n\ndata: [DONE]\n\ndata: {not json\n\n"
    assert await deltas_of(direct, lines(content)) == ["a", Finished("stop")]


async def test_an_answer_that_was_complete_is_not_cut_by_a_lost_connection(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("a")
        await exchange.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        exchange.close()

    assert await deltas_of(direct, script) == ["a", Finished("stop")]


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


async def test_the_request_has_the_endpoints_url_headers_and_body(direct: Backend) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.finish()

    sampling = Sampling(50, 0.5, "low", 1024, {"seed": 7, "top_p": 0.9})
    async with provider(script) as upstream:
        model_call = call(
            upstream.base_url,
            sampling=sampling,
            key_header="api-key",
            headers=(("OpenAI-Project", "p"),),
            renames=(("seed", "random_seed"), ("max_tokens", "max_completion_tokens")),
            extra=(("usage", {"include": True}),),
        )
        await collect(direct, model_call)
        keyless = call(upstream.base_url, key_env=None)
        await collect(direct, keyless)
        model_call = ModelCall(
            model_call.model,
            [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
            ],
            sampling,
        )
        await collect(direct, model_call)
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
