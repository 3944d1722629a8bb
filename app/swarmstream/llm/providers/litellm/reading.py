"""The reading of one of litellm's streams, from its first chunk to its finish reason or its failure."""

from datetime import datetime
from typing import Any

import httpx
from anyio.lowlevel import checkpoint

from swarmstream.errors import ModelError, ProviderError, UpstreamTruncated
from swarmstream.llm.base import Echo, Finished, OnDeltas, Opened, TokenCount
from swarmstream.llm.providers.litellm.chunks import Thoughts, chunk_deltas, token_count
from swarmstream.llm.providers.litellm.errors import translate
from swarmstream.llm.providers.litellm.frames import Frames, in_the_middle
from swarmstream.llm.providers.openai_chat import FAILED


class Reading:
    """The state of one stream's reading."""

    def __init__(self, on_deltas: OnDeltas) -> None:
        self._on_deltas = on_deltas
        self._frames = Frames()
        self._thoughts = Thoughts()
        self._has_begun = False
        """True once a chunk has come."""
        self._has_deltas = False
        """True once part of the answer has come."""
        self._stream: Any = None
        """litellm's own stream, which knows its chunks, its finish reason and the HTTP response."""

    @property
    def response(self) -> httpx.Response | None:
        """The HTTP response, where litellm shows it (streams of the OpenAI SDK)."""
        response = getattr(getattr(self._stream, "completion_stream", None), "response", None)
        return response if isinstance(response, httpx.Response) else None

    async def read(self, stream: Any) -> None:
        """Pass the stream's deltas on until its end.

        Raises:
            ModelError: the answer was cut off or given up.
            Exception: whatever litellm raises, for `failure` to translate.
        """
        self._stream = stream
        self._frames.watch(stream)
        self._on_deltas((Opened(),))
        async for chunk in stream:
            if not self._has_begun:
                self._has_begun = True
                self._stream = _unwrapped(stream)
            if deltas := list(chunk_deltas(chunk, self._thoughts)):
                self._has_deltas = True
                self._on_deltas(deltas)
                await checkpoint()
        if echo := self._thoughts.echo():
            self._on_deltas((Echo(echo),))
        # Before the finish, which may be a failure: the consumption of a cut answer is known all the same.
        if count := token_count(self._stream):
            self._on_deltas((count,))
        self._on_deltas((self._finish(),))

    def failure(self, error: Exception, now: datetime) -> ModelError:
        """Return our error for one of litellm's, or for what the provider reported before it."""
        reported = self._frames.failure
        if reported is None:
            return translate(error, begun=self._has_begun, has_deltas=self._has_deltas, now=now)
        return in_the_middle(reported) if self._has_deltas else reported

    def failed_count(self) -> TokenCount | None:
        """Return the figures of an answer that failed; those from before a refusal count nothing."""
        is_refused = self._frames.failure is not None and not self._has_deltas
        return self._frames.count or (None if is_refused else token_count(self._stream))

    def _finish(self) -> Finished:
        """Return the provider's own finish reason; litellm invents one where the stream was cut off."""
        frames = self._frames
        if frames.failure is not None:
            raise in_the_middle(frames.failure) if self._has_deltas else frames.failure
        reason = frames.finish if frames.is_known else getattr(self._stream, "received_finish_reason", None)
        if reason is None:
            content_type = self.response.headers.get("content-type") if self.response is not None else None
            if content_type and "event-stream" not in content_type:
                raise ProviderError("the provider answered with something that is no stream of tokens")
            raise UpstreamTruncated("the provider's answer was cut off")
        if reason in FAILED:
            gave_up = ProviderError(f"the provider gave up its answer: {reason}")
            raise in_the_middle(gave_up) if self._has_deltas else gave_up
        return Finished(str(reason))


def _unwrapped(stream: Any) -> Any:
    """Return litellm's own stream, also from within one of its generators (those of models that complete texts)."""
    frame = getattr(stream, "ag_frame", None)
    return stream if frame is None else frame.f_locals.get("streamwrapper", stream)
