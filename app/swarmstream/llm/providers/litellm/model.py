"""Models through litellm: every provider that it knows, under one protocol."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
from anyio import CancelScope, to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from swarmstream.clock import SYSTEM_CLOCK, Clock, utc
from swarmstream.errors import ModelError
from swarmstream.llm.base import ModelCall, OnDeltas, Repeated
from swarmstream.llm.http.pool import REOPEN_SECONDS
from swarmstream.llm.http.status import first_line
from swarmstream.llm.image_fetcher import ImageFetcher
from swarmstream.llm.messages import ChatMessage
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.providers.litellm.clients import leave_clients, use_clients
from swarmstream.llm.providers.litellm.errors import hung_up, refusal, wants_images
from swarmstream.llm.providers.litellm.reading import Reading
from swarmstream.llm.providers.litellm.setup import import_litellm
from swarmstream.llm.providers.litellm.thinking import Summaries, refused_argument

logger = logging.getLogger(__name__)

_LONGER_THAN_ANY_TURN_SECONDS = 86_400.0
"""litellm's timeout is per read and would stand in the way of the engine's clocks."""

_WANT_IMAGES = {"gigachat", "ollama_chat"}
"""Providers that want the bytes of images and whose adapters do not tell: one drops an image that it cannot have, the
other takes its URL for base64."""

_NO_KEY = "none"
"""Sent where an alias names an api_base and no key: litellm would send the environment's key there otherwise."""


class LiteLLMModel:
    """Calls `litellm.acompletion`, with its own retries, time limits and telemetry off: those are the engine's.

    litellm is imported by `ready()`, in a thread: it takes seconds and 190 MB.
    """

    def __init__(
        self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK, *, images: ImageFetcher | None = None
    ) -> None:
        self._environ = environ
        self._images = images or ImageFetcher(clock=clock)
        self._clock = clock
        self._litellm: Any = None
        self._loading = anyio.Lock()
        self._summaries = Summaries(clock)
        self._reusable: set[str] = set()
        """Hosts whose last answer left its connection open."""

    async def ready(self) -> None:
        if self._litellm is not None:
            return
        async with self._loading:
            if self._litellm is None:
                # A cancelled caller need not wait: the import goes on, and the next caller waits for its lock.
                self._litellm = await to_thread.run_sync(import_litellm, abandon_on_cancel=True)
                use_clients()

    async def close(self) -> None:
        """Close the connections that litellm keeps for this event loop, unless another model uses them."""
        litellm, self._litellm = self._litellm, None
        if litellm is not None:
            await leave_clients(litellm)

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        await self.ready()
        await checkpoint_if_cancelled()  # litellm would make half a request and then drop it
        reading = Reading(on_deltas)
        stream: Any = None
        images = AsyncExitStack()
        try:
            stream = await self._open(self._litellm, call, on_deltas, images)
            await reading.read(stream)
            response = reading.response
            if response is None or response.headers.get("connection", "").lower() != "close":
                self._reusable.add(_host(call.model))
        except ModelError:
            raise
        except Exception as error:
            # litellm raises what it likes, its provider adapters more: this is where foreign errors become ours.
            failure = reading.failure(error, utc(self._clock))
            logger.warning("model %s: %s: %s", call.model.target, failure.code, first_line(error))
            if count := reading.failed_count():
                on_deltas((count,))
            raise failure from error
        finally:
            with CancelScope(shield=True):
                await images.aclose()
                if stream is not None:
                    # Without this its connection stays open, and the provider goes on generating and billing.
                    await stream.aclose()

    async def _open(self, litellm: Any, call: ModelCall, on_deltas: OnDeltas, images: AsyncExitStack) -> Any:
        """Return the provider's stream. Images whose bytes its adapter wants are held until `images` is closed."""
        if call.model.target.partition("/")[0] not in _WANT_IMAGES:
            try:
                return await self._post_with_summaries(litellm, call, call.messages, on_deltas)
            except Exception as error:
                if not wants_images(error):
                    raise
        messages = await images.enter_async_context(self._images.inlined(call.messages))
        return await self._post_with_summaries(litellm, call, messages, on_deltas)

    async def _post_with_summaries(
        self, litellm: Any, call: ModelCall, messages: Sequence[ChatMessage], on_deltas: OnDeltas
    ) -> Any:
        """Return the provider's stream, with summaries of the model's thinking where there are any."""
        arguments = self._arguments(call, messages)
        refused: set[str] = set()
        while True:
            added = self._summaries.arguments(litellm, arguments, refused)
            try:
                stream = await self._post(litellm, call, {**arguments, **added}, on_deltas)
            except Exception as error:
                if (name := refused_argument(added, *refusal(error))) is None:
                    raise
                logger.info("model %s: refuses %s: %s", call.model.target, name, first_line(error))
                refused.add(name)
            else:
                self._summaries.remember(arguments, refused)
                return stream
            on_deltas((Repeated(),))

    async def _post(self, litellm: Any, call: ModelCall, arguments: dict[str, Any], on_deltas: OnDeltas) -> Any:
        """Return the provider's stream. The request is made once more where a kept connection proves to be closed at
        once, as in `swarmstream.llm.http.pool`."""
        posted = self._clock.now()
        try:
            return await _acompletion(litellm, arguments)
        except Exception as error:
            host = _host(call.model)
            if host not in self._reusable or not hung_up(error) or self._clock.now() - posted > REOPEN_SECONDS:
                raise
            self._reusable.discard(host)
        on_deltas((Repeated(),))
        return await _acompletion(litellm, arguments)

    def _arguments(self, call: ModelCall, messages: Sequence[ChatMessage]) -> dict[str, Any]:
        model = call.model
        arguments: dict[str, Any] = {
            "model": model.target,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_retries": 0,
            "num_retries": 0,
            "timeout": _LONGER_THAN_ANY_TURN_SECONDS,
            **call.fields(),
        }
        if "tools" not in arguments and model.target.startswith("bedrock/") and (tools := _called_tools(call.messages)):
            arguments["tools"] = tools
        if model.api_base is not None:
            arguments["api_base"] = model.api_base
            arguments["api_key"] = _NO_KEY
        if model.api_key_env is not None:
            arguments["api_key"] = self._environ[model.api_key_env]
        return arguments


async def _acompletion(litellm: Any, arguments: dict[str, Any]) -> Any:
    """Return the provider's stream; some of litellm's make their request only once they are read."""
    stream = await litellm.acompletion(**arguments)
    if getattr(stream, "make_call", None) is not None:
        await stream.fetch_stream()
    return stream


def _called_tools(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """Describe the tools that messages call, by their names alone: Bedrock takes no such messages without any tools."""
    names = {call["function"]["name"]: None for message in messages for call in message.get("tool_calls") or ()}
    return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]


def _host(model: ModelRef) -> str:
    return model.api_base or model.target.partition("/")[0]
