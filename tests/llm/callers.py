"""Our end of a connection: a pool, or a direct model, and calls with a key."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from swarmstream.errors import (
    ModelError,
)
from swarmstream.llm.base import Delta, ModelCall, Sampling
from swarmstream.llm.http.exchange import Response
from swarmstream.llm.http.pool import ConnectionPool
from swarmstream.llm.model_ref import ChatEndpoint, ModelRef
from swarmstream.llm.providers.direct import DirectModel
from tests.llm.peer import settled, whole

KEY = "sk-provider-secret-0123456789"
HEADERS = {"authorization": f"Bearer {KEY}"}
LOCAL_PORT_1 = "http://127.0.0.1:1"
NOWHERE = f"{'a' * 64}.example.test"
"""A host whose name is too long to be looked up: only a proxy can be asked for it."""


@asynccontextmanager
async def connected(**environ: str) -> AsyncGenerator[ConnectionPool]:
    connections = ConnectionPool(environ)
    try:
        yield connections
    finally:
        await connections.close()
        await settled()


async def post(connections: ConnectionPool, url: str) -> Response:
    return await connections.post(url, [b"{}"], HEADERS)


async def fetch(connections: ConnectionPool, url: str) -> list[bytes]:
    """The parts of an answer's body as they came."""
    parts: list[bytes] = []

    def take(part: bytes) -> bool:
        parts.append(part)
        return False

    answer = await post(connections, url)
    try:
        await answer.read(take)
    finally:
        answer.close()
    return parts


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]}\n\n'
FINISH = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = whole(CHUNK + FINISH + DONE, "content-type: text/event-stream")


@asynccontextmanager
async def modelled(**environ: str) -> AsyncGenerator[DirectModel]:
    model = DirectModel({"LOCAL_KEY": KEY, **environ})
    try:
        yield model
    finally:
        await model.close()
        await settled()


async def say(model: DirectModel, url: str) -> str:
    """What a model says."""
    endpoint = ChatEndpoint(url=url, model="m", key_env="LOCAL_KEY")
    ref = ModelRef(name="m", target="openai/m", backend="direct", endpoint=endpoint)
    deltas: list[Delta] = []
    sampling = Sampling(None, None, None, None, {})
    await model.stream(ModelCall(ref, [{"role": "user", "content": "go"}], sampling), deltas.extend)
    return "".join(delta for delta in deltas if isinstance(delta, str))


async def fails(model: DirectModel, url: str, error: type[ModelError]) -> None:
    with pytest.raises(error) as caught:
        await say(model, url)
    assert type(caught.value) is error
