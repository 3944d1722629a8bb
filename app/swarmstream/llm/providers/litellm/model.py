"""Models through litellm: every provider that it knows, under one protocol."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx
from anyio import CancelScope, to_thread
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from swarmstream.clock import SYSTEM_CLOCK, Clock, utc
from swarmstream.errors import ModelError, ProviderError, UpstreamTruncated
from swarmstream.llm.base import (
    ChatMessage,
    Delta,
    Echo,
    Finished,
    ModelCall,
    OnDeltas,
    Opened,
    Reasoning,
    Repeated,
    TokenCount,
    ToolCallDelta,
)
from swarmstream.llm.http.pool import REOPEN_SECONDS
from swarmstream.llm.http.status import first_line
from swarmstream.llm.image_fetcher import ImageFetcher
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.providers.litellm.errors import hung_up, refusal_of, translate, wants_images
from swarmstream.llm.providers.litellm.frames import Frames, in_the_middle
from swarmstream.llm.providers.litellm.setup import import_litellm
from swarmstream.llm.providers.litellm.thinking import Summaries, refused_of
from swarmstream.llm.providers.openai_chat import FAILED

logger = logging.getLogger(__name__)

_LONGER_THAN_ANY_TURN_SECONDS = 86_400.0
"""litellm's timeout is per read and would stand in the way of the engine's clocks."""

_users: Counter[int] = Counter()
"""How many of us use litellm's connections, by the `id` of the event loop that these belong to: litellm has one pool
of them for the whole process."""

_WANT_IMAGES = {"gigachat", "ollama_chat"}
"""Providers that want the bytes of images and whose adapters do not say so: one drops an image that it cannot have, the
other takes its URL for base64."""

_SIGNATURE = "__thought__"
"""What litellm puts between the id of a tool call and a signature."""

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
                # Whoever is cancelled need not wait: the import goes on, and the next one to ask waits for its lock.
                self._litellm = await to_thread.run_sync(import_litellm, abandon_on_cancel=True)
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

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        await self.ready()
        await checkpoint_if_cancelled()  # litellm would make half a request and then drop it
        begun = heard = False
        frames = Frames()
        thoughts = _Thoughts()
        stream: Any = None
        told: Any = None
        """Of the stream, by litellm: its chunks, how it finished, through what it came."""
        litellm: Any = self._litellm
        images = AsyncExitStack()
        try:
            stream = told = await self._open(litellm, call, on_deltas, images)
            frames.watch(stream)
            on_deltas((Opened(),))
            async for chunk in stream:
                if not begun:
                    begun = True
                    told = _unwrapped(stream)
                if deltas := list(_deltas(chunk, thoughts)):
                    heard = True
                    on_deltas(deltas)
                    await checkpoint()
            if echo := thoughts.echo():
                on_deltas((Echo(echo),))
            # Before the finish, which may be a failure: what a cut answer consumed is known all the same.
            if count := _token_count(told):
                on_deltas((count,))
            on_deltas((_finish(told, frames, heard=heard),))
            self._note_reuse(call.model, told)
        except ModelError:
            raise
        except Exception as error:
            # litellm raises what it likes, its provider adapters more: this is where foreign errors become ours.
            failure = frames.failure
            if failure is None:
                failure = translate(error, begun=begun, heard=heard, now=utc(self._clock))
            elif heard:
                failure = in_the_middle(failure)
            logger.warning("model %s: %s: %s", call.model.target, failure.code, first_line(error))
            # Figures from before a refusal are of nothing: some protocols begin with them.
            is_refused = frames.failure is not None and not heard
            if count := frames.count or (None if is_refused else _token_count(told)):
                on_deltas((count,))
            raise failure from error
        finally:
            with CancelScope(shield=True):
                await images.aclose()
                if stream is not None:
                    # Without this its connection stays open, and the provider goes on generating and billing.
                    await stream.aclose()

    async def _open(self, litellm: Any, call: ModelCall, on_deltas: OnDeltas, images: AsyncExitStack) -> Any:
        """The provider's stream. Where its adapter wants the bytes of images, they are fetched, and are in use until
        `images` is closed."""
        if call.model.target.partition("/")[0] not in _WANT_IMAGES:
            try:
                return await self._ask(litellm, call, call.messages, on_deltas)
            except Exception as error:
                if not wants_images(error):
                    raise
        messages = await images.enter_async_context(self._images.inlined(call.messages))
        return await self._ask(litellm, call, messages, on_deltas)

    async def _ask(self, litellm: Any, call: ModelCall, messages: Sequence[ChatMessage], on_deltas: OnDeltas) -> Any:
        """The provider's stream, with summaries of its thinking where it gives them."""
        arguments = self._arguments(call, messages)
        refused: set[str] = set()
        while True:
            asked = self._summaries.asked(litellm, arguments, refused)
            try:
                stream = await self._post(litellm, call, {**arguments, **asked}, on_deltas)
            except Exception as error:
                if (name := refused_of(asked, *refusal_of(error))) is None:
                    raise
                logger.info("model %s: refuses %s: %s", call.model.target, name, first_line(error))
                refused.add(name)
            else:
                self._summaries.remember(arguments, refused)
                return stream
            on_deltas((Repeated(),))

    async def _post(self, litellm: Any, call: ModelCall, arguments: dict[str, Any], on_deltas: OnDeltas) -> Any:
        """The provider's stream. Where an earlier answer has left a connection for reuse and it proves to be closed at
        once, the request is made once more, as `swarmstream.llm.http.pool` does it."""
        asked = self._clock.now()
        try:
            return await _opened(litellm, arguments)
        except Exception as error:
            host = _host(call.model)
            if host not in self._reusable or not hung_up(error) or self._clock.now() - asked > REOPEN_SECONDS:
                raise
            self._reusable.discard(host)
        on_deltas((Repeated(),))
        return await _opened(litellm, arguments)

    def _note_reuse(self, model: ModelRef, stream: Any) -> None:
        response = _response(stream)
        if response is None or response.headers.get("connection", "").lower() != "close":
            self._reusable.add(_host(model))

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
        if "tools" not in arguments and model.target.startswith("bedrock/") and (called := _called(call.messages)):
            arguments["tools"] = called
        if model.api_base is not None:
            arguments["api_base"] = model.api_base
            arguments["api_key"] = _NO_KEY
        if model.api_key_env is not None:
            arguments["api_key"] = self._environ[model.api_key_env]
        return arguments


async def _opened(litellm: Any, arguments: dict[str, Any]) -> Any:
    """The provider's stream; some of litellm's make their request only once they are read."""
    stream = await litellm.acompletion(**arguments)
    if getattr(stream, "make_call", None) is not None:
        await stream.fetch_stream()
    return stream


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


def _called(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """The tools that messages speak of, as far as they tell: Bedrock takes no such messages without any tools."""
    names = {call["function"]["name"]: None for message in messages for call in message.get("tool_calls") or ()}
    return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]


class _Thoughts:
    """What a model wants back of its thoughts with the results of its tools."""

    def __init__(self) -> None:
        self._signed: list[dict[str, Any]] = []
        """Claude's, which come in pieces and go back whole (Anthropic, "Preserving thinking blocks")."""
        self._pieces: list[str] = []
        self._items: list[Any] = []
        """Those of OpenAI's responses, encrypted."""
        self._signatures: list[Any] = []
        """Gemini's, of its text ("Thought signatures"); those of its tool calls go with these."""

    def take(self, delta: Any) -> None:
        for block in getattr(delta, "thinking_blocks", None) or ():
            self._take_block(block)
        # A provider that keeps nothing does not know the others when they come back.
        self._items += [item for item in getattr(delta, "reasoning_items", None) or () if item.get("encrypted_content")]
        if not delta.tool_calls and (fields := getattr(delta, "provider_specific_fields", None)):
            self._signatures += fields.get("thought_signatures") or ()

    def echo(self) -> dict[str, Any]:
        """The fields of the message, as litellm takes them back."""
        fields: dict[str, Any] = {}
        if self._signed:
            fields["thinking_blocks"] = self._signed
        if self._items:
            fields["reasoning_items"] = self._items
        if self._signatures:
            fields["provider_specific_fields"] = {"thought_signatures": self._signatures}
        return fields

    def _take_block(self, block: Mapping[str, Any]) -> None:
        if block.get("type") != "thinking":
            self._signed.append(dict(block))
            return
        self._pieces.append(block.get("thinking") or "")
        if signature := block.get("signature"):
            self._signed.append({"type": "thinking", "thinking": "".join(self._pieces), "signature": signature})
            self._pieces.clear()


def _deltas(chunk: Any, thoughts: _Thoughts) -> Iterator[Delta]:
    for choice in chunk.choices:
        if choice.index:
            continue  # we ask for one answer; who gives more means the first
        delta = choice.delta
        thoughts.take(delta)
        if thought := getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None):
            yield Reasoning(thought)
        if text := delta.content or getattr(delta, "refusal", None):
            yield text
        for call in delta.tool_calls or ():
            yield _tool_call(call)


def _tool_call(call: Any) -> ToolCallDelta:
    """A piece of a call. litellm puts Gemini's signature of the thought behind it into its id, and beside it, too."""
    fields = getattr(call, "provider_specific_fields", None)
    extra = {"provider_specific_fields": fields} if fields else None
    call_id = call.id.partition(_SIGNATURE)[0] if call.id else None
    return ToolCallDelta(call.index, call_id, call.function.name, call.function.arguments or "", extra)


def _unwrapped(stream: Any) -> Any:
    """litellm's own stream, also where one of its generators (those of models that complete texts) stands around it."""
    frame = getattr(stream, "ag_frame", None)
    return stream if frame is None else frame.f_locals.get("streamwrapper", stream)


def _finish(stream: Any, frames: Frames, *, heard: bool) -> Finished:
    """The provider's own finish reason; litellm invents one where the stream was cut off."""
    if frames.failure is not None:
        raise in_the_middle(frames.failure) if heard else frames.failure
    reason = frames.finish if frames.is_known else getattr(stream, "received_finish_reason", None)
    if reason is None:
        if (content_type := _content_type(stream)) and "event-stream" not in content_type:
            raise ProviderError("the provider answered with something that is no stream of tokens")
        raise UpstreamTruncated("the provider's answer was cut off")
    if reason in FAILED:
        gave_up = ProviderError(f"the provider gave up its answer: {reason}")
        raise in_the_middle(gave_up) if heard else gave_up
    return Finished(str(reason))


def _content_type(stream: Any) -> str | None:
    """What the provider called its answer, where litellm lets us see it (the OpenAI SDK's streams)."""
    response = _response(stream)
    return response.headers.get("content-type") if response is not None else None


def _response(stream: Any) -> httpx.Response | None:
    response = getattr(getattr(stream, "completion_stream", None), "response", None)
    return response if isinstance(response, httpx.Response) else None


def _host(model: ModelRef) -> str:
    return model.api_base or model.target.partition("/")[0]


def _token_count(stream: Any) -> TokenCount | None:
    """The figures that the provider sent, not those that litellm makes up in their absence: of what is no figure it
    makes a 0, and there is no call without input."""
    for chunk in reversed(getattr(stream, "chunks", ())):  # there are none as long as it is not unwrapped
        if usage := getattr(chunk, "usage", None):
            prompt = getattr(usage, "prompt_tokens_details", None)
            completion = getattr(usage, "completion_tokens_details", None)
            count = TokenCount.from_figures(
                usage.prompt_tokens,
                usage.completion_tokens,
                getattr(prompt, "cached_tokens", None),
                getattr(completion, "reasoning_tokens", None),
            )
            if count is not None and count.input_tokens:
                return count
    return None
