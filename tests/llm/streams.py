"""Calls to a scripted provider, and the deltas that a backend makes of its stream."""

import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from swarmstream.errors import ModelError
from swarmstream.llm.base import (
    ChatModel,
    Delta,
    ModelCall,
    Opened,
    Sampling,
)
from swarmstream.llm.model_ref import ChatEndpoint, ModelRef
from tests.fakes.upstream import Exchange, Script, provider

PROVIDER_KEY = "sk-provider-secret-0123456789"
ENVIRON = {"LOCAL_KEY": PROVIDER_KEY}
MIB = 1 << 20
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


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


async def collect(model: ChatModel, model_call: ModelCall) -> list[Delta]:
    deltas: list[Delta] = []
    with anyio.fail_after(30):
        await model.stream(model_call, deltas.extend)
    return deltas


async def deltas_of(model: ChatModel, script: Script) -> list[Delta]:
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
