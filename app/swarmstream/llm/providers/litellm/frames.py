"""The frames of a provider's stream, read before litellm's adapters make chunks of them.

An adapter's chunks do not tell how a stream ended. Gemini's says `stop` with every chunk and marks none as the last;
Anthropic's takes a missing reason, and every reason that it does not know, for `stop`, and every error for a 500; the
one for OpenAI's responses drops refusals and takes an answer that was cut off for a lost connection. All of them parse
their frames by a method `chunk_parser`: `Frames.watch` puts itself in front of it, for one stream, and notes what the
provider itself sent. Each frame is known by its shape, so this holds wherever litellm uses the adapter: Gemini's and
Claude's also serve Vertex AI, and Claude's is within the decoder of Bedrock's `invoke`. Other adapters (Bedrock's for
`converse`, those over OpenAI's SDK) have no such method or other frames; what they hand on is true as it is, and
`is_known` stays False.
"""

from collections.abc import Mapping
from typing import Any, cast

from swarmstream.errors import ModelError, ProviderError, ProviderRejected, UpstreamInvalid
from swarmstream.llm.base import TokenCount
from swarmstream.llm.http.status import stream_error

_ANTHROPIC_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_GEMINI_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
"""Of both, a reason that is not here is passed on in small letters: providers add some without notice."""

_GEMINI_FAILURES: Mapping[str, type[ModelError]] = {
    "MALFORMED_FUNCTION_CALL": ProviderError,
    "UNEXPECTED_TOOL_CALL": ProviderError,
    "MALFORMED_RESPONSE": ProviderError,
    "OTHER": ProviderError,
    "TOO_MANY_TOOL_CALLS": ProviderRejected,
    "MISSING_THOUGHT_SIGNATURE": ProviderRejected,
}
"""Reasons that come instead of an answer; a `ProviderError` may pass."""

_RESPONSES_REASONS = {"max_output_tokens": "length"}

_GEMINI_FIELDS = {"candidates", "promptFeedback", "usageMetadata"}


class _ErrorFrame(Exception):
    """The provider reported an error in its stream."""


class Frames:
    """The finish, the failure and the figures in one stream's frames so far."""

    def __init__(self) -> None:
        self.is_known = False
        """True if the frames are of a protocol that is read here."""
        self.finish: str | None = None
        """The provider's finish reason, in OpenAI's words."""
        self.count: TokenCount | None = None
        """The figures of an answer that failed, which litellm drops."""
        self._adapter: Any = None
        self._error: object = None
        self._gave_up: ModelError | None = None
        self._calls_tools = False
        self._refuses = False

    @property
    def failure(self) -> ModelError | None:
        """The error that the provider reported in place of an answer."""
        return stream_error(self._error) if self._error is not None else self._gave_up

    def watch(self, stream: Any) -> None:
        """Read the frames of litellm's stream from now on. Its adapter has to be there already."""
        adapter = _adapter(stream)
        parse: Any = getattr(adapter, "chunk_parser", None)
        if parse is None:
            return

        def parse_watched(chunk: Any) -> Any:
            if isinstance(chunk, list) and chunk:
                chunk = cast(list[Any], chunk)[0]  # Google sends some errors so
            frame = cast(dict[str, Any], chunk) if isinstance(chunk, dict) else {}
            self._read(frame)
            parsed = parse(chunk)
            _mend(frame, parsed)
            return parsed

        def parse_event(str_line: Any) -> Any:
            # litellm's own way of it warns of what litellm has put into the event.
            return parse_watched(str_line.model_dump(warnings=False))

        self._adapter = adapter
        adapter.chunk_parser = parse_watched
        events: Any = getattr(adapter, "streaming_response", None)
        if hasattr(events, "_maybe_raise_for_error_event"):
            adapter._handle_string_chunk = parse_event
            events._maybe_raise_for_error_event = self._read_event
            events._raise_if_ended_without_terminal_event = _end

    def _read(self, frame: dict[str, Any]) -> None:
        match frame:
            case {"type": str(kind)} if kind.startswith("response."):
                self._read_responses(kind, frame)
            case {"error": error} if error:
                self._fail(error)
            case {"type": str(kind)}:
                self._read_anthropic(kind, frame)
            case _ if not _GEMINI_FIELDS.isdisjoint(frame):
                self._read_gemini(frame)
            case _:
                pass

    def _fail(self, error: object) -> None:
        self._error = error
        raise _ErrorFrame(str(error))

    def _read_anthropic(self, kind: str, frame: dict[str, Any]) -> None:
        if kind == "message_start":
            self.is_known = True
        match frame:
            case {"type": "message_delta", "delta": {"stop_reason": str(reason)}}:
                # litellm has models without schemas call a tool of its own, and hands on its arguments as text.
                is_text = reason == "tool_use" and getattr(self._adapter, "converted_response_format_tool", False)
                self.finish = "stop" if is_text else _ANTHROPIC_REASONS.get(reason, reason.lower())
            case _:
                pass

    def _read_gemini(self, frame: dict[str, Any]) -> None:
        self.is_known = True
        match frame:
            case {"promptFeedback": {"blockReason": str()}}:
                self.finish = "content_filter"
            case _:
                pass
        candidates: list[Any] = frame.get("candidates") or []
        for candidate in candidates:
            content: dict[str, Any] = candidate.get("content") or {}
            parts: list[Any] = content.get("parts") or []
            self._calls_tools = self._calls_tools or any("functionCall" in part for part in parts)
            reason: str | None = candidate.get("finishReason")
            if reason and reason != "FINISH_REASON_UNSPECIFIED":
                self._finish_gemini(reason)

    def _finish_gemini(self, reason: str) -> None:
        if kind := _GEMINI_FAILURES.get(reason):
            self._gave_up = kind(f"the provider gave up its answer: {reason}")
        finish = _GEMINI_REASONS.get(reason, reason.lower())
        self.finish = "tool_calls" if finish == "stop" and self._calls_tools else finish

    def _read_responses(self, kind: str, event: dict[str, Any]) -> None:
        self.is_known = True
        match kind, event:
            case "response.output_item.added", {"item": {"type": "function_call" | "custom_tool_call"}}:
                self._calls_tools = True
            case "response.refusal.delta", _:
                self._refuses = True
            case "response.completed", _:
                self.finish = "tool_calls" if self._calls_tools else "content_filter" if self._refuses else "stop"
            case "response.incomplete", {"response": {"incomplete_details": {"reason": str(reason)}}}:
                self.finish = _RESPONSES_REASONS.get(reason, reason)
            case "response.incomplete", _:
                self.finish = "length"
            case _:
                pass

    def _read_event(self, event: Any) -> None:
        """Stands in for litellm's own, which forgets what kind of error it was."""
        match event.model_dump(warnings=False):
            case {"type": "response.failed", "response": {**response}}:
                self.count = _count(response.get("usage") or {})
                self._fail(response.get("error") or "it failed without a word")
            case {"type": "error", **fields}:
                self._fail(fields.get("error") or fields)
            case _:
                pass


def _adapter(stream: Any) -> Any:
    """Return the parser of a stream's frames; Bedrock's is known only to the generator that reads them."""
    adapter: Any = getattr(stream, "completion_stream", None)
    frame: Any = getattr(adapter, "ag_frame", None)
    if frame is None:
        return adapter
    return getattr(frame.f_locals.get("self"), "anthropic_model_response_iterator", None)


def _count(usage: dict[str, Any]) -> TokenCount | None:
    input_details: dict[str, Any] = usage.get("input_tokens_details") or {}
    output_details: dict[str, Any] = usage.get("output_tokens_details") or {}
    return TokenCount.from_figures(
        usage.get("input_tokens"),
        usage.get("output_tokens"),
        input_details.get("cached_tokens"),
        output_details.get("reasoning_tokens"),
    )


def _mend(event: dict[str, Any], chunk: Any) -> None:
    """Put into the chunk what the bridge to OpenAI's responses leaves out.

    It also numbers parts of a summary as if they were several answers.
    """
    match event:
        case {"type": "response.refusal.delta", "delta": str(text)}:
            chunk.choices[0].delta.content = text
        case {"type": "response.reasoning_text.delta", "delta": str(text)}:
            chunk.choices[0].delta.reasoning_content = text
        case {"type": "response.reasoning_summary_text.delta"}:
            chunk.choices[0].index = 0
        case {"type": "response.reasoning_summary_part.added", "summary_index": int(index)} if index:
            chunk.choices[0].delta.reasoning_content = "\n\n"
        case _:
            pass


def in_the_middle(failure: ModelError) -> UpstreamInvalid:
    """Return the failure of an answer that has begun: such a call is not repeated."""
    gave_up = f": {failure.detail}" if failure.detail.startswith("the provider gave up") else ""
    return UpstreamInvalid(f"the provider reported an error in the middle of its answer{gave_up}")


def _end() -> None:
    """Stands in for what takes a missing end for a lost connection: `Frames.finish` tells."""
