"""What litellm must not do beside calling the model: repeat, fetch, trust anybody, trip over its own errors."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from swarmstream.errors import ModelError, ProviderError, ProviderRejected, ProviderUnreachable, UpstreamTruncated
from swarmstream.llm.base import Delta, Finished, ModelCall, Opened, Repeated, Sampling, TokenCount
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.providers.litellm.model import LiteLLMModel
from tests.fakes import protocols
from tests.fakes.upstream import Exchange, Script, hello, provider
from tests.llm.image_host import PNG, answering, fetcher, image_host, messages_with

pytestmark = [pytest.mark.anyio, pytest.mark.noisy]

KEY = "sk-provider-secret-0123456789"


@asynccontextmanager
async def litellm() -> AsyncGenerator[LiteLLMModel]:
    model = LiteLLMModel({"KEY": KEY}, images=fetcher())
    with anyio.fail_after(60):
        await model.ready()
    try:
        with anyio.fail_after(30):
            yield model
    finally:
        await model.close()


def call(target: str, base: str, messages: list[dict[str, Any]] | None = None) -> ModelCall:
    ref = ModelRef(name=target, target=target, backend="litellm", api_base=base, api_key_env="KEY")
    return ModelCall(ref, messages or [{"role": "user", "content": "go"}], Sampling(7, None, None, None, {}))


async def deltas_of(model: LiteLLMModel, model_call: ModelCall) -> list[Delta]:
    deltas: list[Delta] = []
    await model.stream(model_call, deltas.extend)
    return deltas


async def fails(model: LiteLLMModel, model_call: ModelCall) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await model.stream(model_call, lambda deltas: None)
    assert KEY not in caught.value.detail
    return caught.value


async def claude(exchange: Exchange) -> None:
    """An answer in Anthropic's protocol."""
    await exchange.open()
    usage = {"input_tokens": 3, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [],
        "usage": usage,
    }
    delta = {"type": "text_delta", "text": "hello"}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    for event in events:
        await exchange.chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    await exchange.end()


_of_gemini = protocols.gemini([protocols.g_parts({"text": "hello"}, finish="STOP")])


async def _hangs_up(exchange: Exchange) -> None:
    exchange.close()


async def _resets(exchange: Exchange) -> None:
    exchange.reset()


async def _server_error(exchange: Exchange) -> None:
    await exchange.refuse(500, b'{"error": {"message": "oops"}}')


# --- Repeating ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "nvidia_nim/m",
        "deepinfra/m",
        "sambanova/m",
        "openai/m",
        "openai/responses/m",
        "text-completion-openai/m",
        "anthropic/m",
        "gemini/m",
    ],
)
async def test_no_provider_is_asked_again_by_litellm(target: str) -> None:
    async with provider(_server_error) as upstream, litellm() as model:
        base = upstream.base_url.removesuffix("/v1") if target == "anthropic/m" else upstream.base_url
        assert type(await fails(model, call(target, base))) is ProviderError
        assert len(upstream.exchanges) == 1


@pytest.mark.parametrize("script", [_hangs_up, _resets])
@pytest.mark.parametrize(
    "target", ["openai/m", "openai/responses/m", "text-completion-openai/m", "anthropic/m", "gemini/m"]
)
async def test_a_provider_that_hangs_up_is_not_asked_again_by_litellm(target: str, script: Script) -> None:
    async with provider(script) as upstream, litellm() as model:
        assert type(await fails(model, call(target, upstream.base_url))) is ProviderUnreachable
        assert len(upstream.exchanges) == 1


@pytest.mark.parametrize(("target", "answer"), [("anthropic/m", claude), ("gemini/m", _of_gemini)])
async def test_a_kept_connection_found_closed_is_opened_again_once_also_where_litellm_has_its_own_client(
    target: str, answer: Script
) -> None:
    async with provider(answer, keeps_alive=True) as upstream, litellm() as model:
        model_call = call(target, upstream.base_url.removesuffix("/v1"))
        await deltas_of(model, model_call)
        upstream.script = _hangs_up
        deltas: list[Delta] = []
        with pytest.raises(ProviderUnreachable):
            await model.stream(model_call, deltas.extend)
        assert deltas == [Repeated()]
        assert len(upstream.exchanges) == 3


async def test_the_failure_of_a_model_that_completes_texts_is_a_failure_of_its_provider(free_tcp_port: int) -> None:
    async with litellm() as model:
        error = await fails(model, call("text-completion-openai/m", f"http://127.0.0.1:{free_tcp_port}/v1"))
    assert type(error) is ProviderUnreachable


async def test_a_text_completion_model_yields_its_text_and_its_finish_reason() -> None:
    async def completes(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.event({"choices": [{"index": 0, "text": "hi", "finish_reason": None}]})
        await exchange.event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        await exchange.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}})
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.end()

    async def ends_early(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.event({"choices": [{"index": 0, "text": "hi", "finish_reason": None}]})
        await exchange.end()

    async with provider(completes) as upstream, litellm() as model:
        model_call = call("text-completion-openai/m", upstream.base_url)
        assert await deltas_of(model, model_call) == [Opened(), "hi", TokenCount(7, 3), Finished("length")]
        upstream.script = ends_early
        assert type(await fails(model, model_call)) is UpstreamTruncated


async def test_a_text_completion_that_breaks_off_is_reported_as_truncated() -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.event({"choices": [{"index": 0, "text": "hi", "finish_reason": None}]})
        exchange.reset()

    async with provider(breaks) as upstream, litellm() as model:
        error = await fails(model, call("text-completion-openai/m", upstream.base_url))
    assert error.code == "upstream_truncated"


# --- Images ---------------------------------------------------------------------------------------------------------


async def test_a_provider_that_fetches_images_itself_is_given_their_urls() -> None:
    async with image_host(answering(PNG)) as host, provider(hello) as upstream, litellm() as model:
        await deltas_of(model, call("openai/m", upstream.base_url, messages_with(host.url())))
        assert host.asked == []
        assert upstream.exchanges[0].body["messages"][1]["content"][1]["image_url"]["url"] == host.url()


@pytest.mark.parametrize("target", ["anthropic/m", "ollama_chat/m"])
async def test_a_provider_that_wants_bytes_gets_an_image_that_was_fetched_once(target: str) -> None:
    async with image_host(answering(PNG)) as host, provider(_server_error) as upstream, litellm() as model:
        model_call = call(target, upstream.base_url.removesuffix("/v1"), messages_with(host.url()))
        for _ in range(2):  # as the engine does where the provider fails
            await fails(model, model_call)
        assert len(upstream.exchanges) == 2
        assert all("iVBORw0KGgpwaWN0dXJl" in json.dumps(exchange.body) for exchange in upstream.exchanges)
        assert len(host.asked) == 1


async def test_no_provider_is_asked_about_an_image_that_cannot_be_had() -> None:
    async with (
        image_host(answering(b"no", status="404 Not Found")) as host,
        provider(claude) as upstream,
        litellm() as model,
    ):
        error = await fails(model, call("anthropic/m", upstream.base_url, messages_with(host.url())))
        assert type(error) is ProviderRejected
        assert "HTTP status 404" in error.detail
        assert upstream.exchanges == []
