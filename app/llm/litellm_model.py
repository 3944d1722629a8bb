"""Models through litellm: every provider that it knows, under one protocol."""

import asyncio
import importlib
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import anyio
import httpx
from anyio import CancelScope, to_thread
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from app.clock import SYSTEM_CLOCK, Clock, utc
from app.errors import ModelError, ProviderError, UpstreamTruncated
from app.llm.base import Delta, Echo, Finished, Hear, ModelCall, Opened, Reasoning, TokenCount, ToolCallDelta
from app.llm.litellm_errors import hung_up, translate
from app.llm.refusals import first_words
from app.swarm.conversation import ChatMessage
from app.swarm.models import ModelRef

logger = logging.getLogger(__name__)

_NEEDED_BY_THE_FIRST_CALL = (
    "openai.resources",
    "litellm.litellm_core_utils.llm_response_utils.response_metadata",
)
"""What litellm imports late, which would stop the event loop for two seconds."""

_LONGER_THAN_ANY_TURN_SECONDS = 86_400.0
"""litellm's timeout is per read and would stand in the way of the engine's clocks."""

_users: Counter[int] = Counter()
"""How many of us use litellm's connections, by the `id` of the event loop that these belong to: litellm has one pool
of them for the whole process."""

_importing = threading.Lock()

_NO_KEY = "none"
"""Sent where an alias names an api_base and no key: litellm would send the environment's key there otherwise."""


class LiteLLMModel:
    """Calls `litellm.acompletion`, with its own retries, time limits and telemetry off: those are the engine's.

    litellm is imported by `ready()`, in a thread: it takes seconds and 190 MB.
    """

    def __init__(self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self._environ = environ
        self._clock = clock
        self._litellm: Any = None
        self._loading = anyio.Lock()
        self._reusable: set[str] = set()
        """Hosts whose last answer left its connection open."""

    async def ready(self) -> None:
        if self._litellm is not None:
            return
        async with self._loading:
            if self._litellm is None:
                # Whoever is cancelled need not wait: the import goes on, and the next one to ask waits for its lock.
                self._litellm = await to_thread.run_sync(_import_litellm, abandon_on_cancel=True)
                _users[id(asyncio.get_running_loop())] += 1

    async def close(self) -> None:
        """Close the connections that litellm keeps for this event loop, unless another one of us uses them."""
        litellm, self._litellm = self._litellm, None
        if litellm is None:
            return
        loop = id(asyncio.get_running_loop())
        _users[loop] -= 1
        if not _users[loop]:
            del _users[loop]
            await _close_clients(litellm, loop)

    async def stream(self, call: ModelCall, hear: Hear) -> None:
        await self.ready()
        await checkpoint_if_cancelled()  # litellm would make half a request and then drop it
        opened = False
        thoughts = _Thoughts()
        stream: Any = None
        litellm: Any = self._litellm
        try:
            stream = await self._open(litellm, call)
            async for chunk in stream:
                if not opened:
                    opened = True
                    hear((Opened(),))
                if deltas := list(_deltas(chunk, thoughts)):
                    hear(deltas)
                    await checkpoint()
            if thoughts.signed:
                hear((Echo({"thinking_blocks": thoughts.signed}),))
            # Before the finish, which may be a failure: what a cut answer consumed is known all the same.
            if count := _token_count(stream):
                hear((count,))
            hear((_finish(stream),))
            self._note_reuse(call.model, stream)
        except ModelError:
            raise
        except Exception as error:
            # litellm raises what it likes, its provider adapters more: this is where foreign errors become ours.
            failure = translate(error, opened=opened, now=utc(self._clock))
            logger.warning("model %s: %s: %s", call.model.target, failure.code, first_words(error))
            if stream is not None and (count := _token_count(stream)):
                hear((count,))
            raise failure from error
        finally:
            if stream is not None:
                # Without this its connection stays open, and the provider goes on generating and billing.
                with CancelScope(shield=True):
                    await stream.aclose()

    async def _open(self, litellm: Any, call: ModelCall) -> Any:
        """The provider's stream. Where an earlier answer has left a connection for reuse and it proves to be closed,
        the call is made once more: nobody has seen it."""
        arguments = self._arguments(call)
        try:
            return await litellm.acompletion(**arguments)
        except Exception as error:
            host = _host(call.model)
            if host not in self._reusable or not hung_up(error):
                raise
            self._reusable.discard(host)
        return await litellm.acompletion(**arguments)

    def _note_reuse(self, model: ModelRef, stream: Any) -> None:
        response = _response(stream)
        if response is not None and response.headers.get("connection", "").lower() != "close":
            self._reusable.add(_host(model))

    def _arguments(self, call: ModelCall) -> dict[str, Any]:
        model = call.model
        arguments: dict[str, Any] = {
            "model": model.target,
            "messages": list(call.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_retries": 0,
            "num_retries": 0,
            "timeout": _LONGER_THAN_ANY_TURN_SECONDS,
            **call.fields(),
        }
        if "tools" not in arguments and model.target.startswith("bedrock/") and (called := _called(call.messages)):
            arguments["tools"] = called
        if model.api_base is not None:
            arguments["api_base"] = model.api_base
            arguments["api_key"] = _NO_KEY
        if model.api_key_env is not None:
            arguments["api_key"] = self._environ[model.api_key_env]
        return arguments


async def _close_clients(litellm: Any, loop: int) -> None:
    """Close what litellm has made for an event loop, and have it forget them: it would hand them out again."""
    kept: Any = litellm.in_memory_llm_clients_cache
    for key in [key for key in kept.cache_dict if key.endswith(f"-{loop}")]:
        handler = kept.cache_dict.pop(key)
        kept.ttl_dict.pop(key, None)
        client = getattr(handler, "_client", None) or getattr(handler, "client", None) or handler
        if (transport := getattr(client, "_transport", None)) is not None:
            await transport.aclose()
        if (aclose := getattr(client, "aclose", None)) is not None:
            await aclose()
    if not _users:
        names: dict[str, Any] = litellm.__dict__
        if shared := names.pop("module_level_aclient", None):
            await shared.close()


@cache
def _imported() -> Any:
    """litellm, set up once for the process."""
    # Read at import: without it litellm fetches its price list from the network.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    # Read at import, too: without it litellm loads the nearest .env file into this process.
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    litellm: Any = importlib.import_module("litellm")
    for name in _NEEDED_BY_THE_FIRST_CALL:
        importlib.import_module(name)
    litellm.telemetry = False
    # It takes a model that draws a line of dashes for one that is stuck, and breaks the stream off.
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize
    litellm.suppress_debug_info = True
    # It asks an Ollama server about a model several times a call, and waits for the answer on the event loop.
    ollama: Any = importlib.import_module("litellm.llms.ollama.common_utils")
    ollama.OllamaModelInfo.get_runtime_model_info = _free_of_charge
    # It takes a delta that holds nothing but a refusal for an empty one, and drops it.
    wrapper: Any = importlib.import_module("litellm.litellm_core_utils.streaming_handler").CustomStreamWrapper
    wrapper.is_chunk_non_empty = _hearing_refusals(wrapper.is_chunk_non_empty)
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        # Its own handlers print provider texts, keys included; what matters is logged here, through our handler.
        its = logging.getLogger(name)
        its.handlers.clear()
        its.setLevel(logging.CRITICAL)
    return litellm


def _import_litellm() -> Any:
    with _importing:
        return _imported()


def _hearing_refusals(is_chunk_non_empty: Callable[..., bool]) -> Callable[..., bool]:
    def judge(self: object, completion: object, chunk: Any, response: object) -> bool:
        refuses = any(getattr(choice.delta, "refusal", None) for choice in chunk.choices)
        return refuses or is_chunk_non_empty(self, completion, chunk, response)

    return judge


def _free_of_charge(_: object, model: str, api_base: str | None = None, api_key: str | None = None) -> dict[str, Any]:
    """What litellm says of an Ollama model when the server does not answer its question about it."""
    costs = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    limits = {"max_tokens": None, "max_input_tokens": None, "max_output_tokens": None}
    return {"key": model, "litellm_provider": "ollama", "mode": "chat", **costs, **limits}


def _called(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """The tools that messages speak of, as far as they tell: Bedrock takes no such messages without any tools."""
    names = {call["function"]["name"]: None for message in messages for call in message.get("tool_calls") or ()}
    return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]


class _Thoughts:
    """A model's signed thoughts, which come in pieces and go back whole (Anthropic, "Preserving thinking blocks")."""

    def __init__(self) -> None:
        self.signed: list[dict[str, Any]] = []
        self._pieces: list[str] = []

    def take(self, blocks: Iterable[Mapping[str, Any]]) -> None:
        for block in blocks:
            if block.get("type") != "thinking":
                self.signed.append(dict(block))
                continue
            self._pieces.append(block.get("thinking") or "")
            if signature := block.get("signature"):
                thought = {"type": "thinking", "thinking": "".join(self._pieces), "signature": signature}
                self.signed.append(thought)
                self._pieces.clear()


def _deltas(chunk: Any, thoughts: _Thoughts) -> Iterator[Delta]:
    for choice in chunk.choices:
        if choice.index:
            continue  # we ask for one answer; who gives more means the first
        delta = choice.delta
        thoughts.take(getattr(delta, "thinking_blocks", None) or ())
        if thought := getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None):
            yield Reasoning(thought)
        if text := delta.content or getattr(delta, "refusal", None):
            yield text
        for call in delta.tool_calls or ():
            yield ToolCallDelta(call.index, call.id, call.function.name, call.function.arguments or "", _extra(call))


def _extra(call: Any) -> dict[str, Any] | None:
    """What litellm wants back with a call, such as Gemini's signatures of thoughts."""
    fields = getattr(call, "provider_specific_fields", None)
    return {"provider_specific_fields": fields} if fields else None


def _finish(stream: Any) -> Finished:
    """The provider's own finish reason; litellm invents one where the stream was cut off."""
    if stream.received_finish_reason is None:
        if (content_type := _content_type(stream)) and "event-stream" not in content_type:
            raise ProviderError("the provider answered with something that is no stream of tokens")
        raise UpstreamTruncated("the provider's answer was cut off")
    return Finished(str(stream.received_finish_reason))


def _content_type(stream: Any) -> str | None:
    """What the provider called its answer, where litellm lets us see it (the OpenAI SDK's streams)."""
    response = _response(stream)
    return response.headers.get("content-type") if response is not None else None


def _response(stream: Any) -> httpx.Response | None:
    response = getattr(stream.completion_stream, "response", None)
    return response if isinstance(response, httpx.Response) else None


def _host(model: ModelRef) -> str:
    return model.api_base or model.target.partition("/")[0]


def _token_count(stream: Any) -> TokenCount | None:
    """The figures that the provider sent, not those that litellm makes up in their absence."""
    for chunk in reversed(stream.chunks):
        if usage := getattr(chunk, "usage", None):
            prompt = getattr(usage, "prompt_tokens_details", None)
            completion = getattr(usage, "completion_tokens_details", None)
            return TokenCount(
                input_tokens=usage.prompt_tokens or 0,
                output_tokens=usage.completion_tokens or 0,
                cached_input_tokens=getattr(prompt, "cached_tokens", None) or 0,
                reasoning_tokens=getattr(completion, "reasoning_tokens", None) or 0,
            )
    return None
