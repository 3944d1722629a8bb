"""The streams of the big providers' own protocols, frame by frame, for `tests.fakes.upstream` to send."""

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from tests.fakes.upstream import Exchange, Script

Frame = dict[str, Any]


def gemini(frames: Sequence[Frame | bytes]) -> Script:
    """Google's `streamGenerateContent?alt=sse`: no names of events, no end mark, CRLF. Bytes are sent as they are."""
    return _sending([_bytes(frame, "\r\n") for frame in frames])


def anthropic(frames: Sequence[Frame | bytes]) -> Script:
    """Anthropic's Messages."""
    return _sending([_bytes(frame, "\n", named=True) for frame in frames])


def responses(frames: Sequence[Frame | bytes]) -> Script:
    """OpenAI's Responses."""
    numbered = [{"sequence_number": n, **frame} if isinstance(frame, dict) else frame for n, frame in enumerate(frames)]
    return _sending([_bytes(frame, "\n", named=True) for frame in numbered])


def chat(frames: Sequence[Frame | bytes]) -> Script:
    """OpenAI's chat completions."""
    return _sending([_bytes(frame, "\n") for frame in frames])


def bedrock(frames: Sequence[Frame | bytes]) -> Script:
    """Amazon Bedrock's Converse."""
    return _sending([frame for frame in frames if isinstance(frame, bytes)], "application/vnd.amazon.eventstream")


def bedrock_invoke(frames: Sequence[Frame | bytes]) -> Script:
    """Claude's frames as Amazon Bedrock's InvokeModelWithResponseStream has them."""
    return bedrock([b_event("chunk", bytes=base64.b64encode(json.dumps(frame).encode()).decode()) for frame in frames])


def _bytes(frame: Frame | bytes, newline: str, *, named: bool = False) -> bytes:
    if isinstance(frame, bytes):
        return frame
    name = f"event: {frame['type']}{newline}" if named else ""
    return f"{name}data: {json.dumps(frame)}{newline}{newline}".encode()


def _sending(chunks: Sequence[bytes], content_type: str = "text/event-stream") -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.open(content_type)
        for chunk in chunks:
            await exchange.chunk(chunk)
        await exchange.end()

    return script


# --- Gemini ---------------------------------------------------------------------------------------------------------

GEMINI_USAGE = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 3,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 19,
}


def g_parts(*parts: Frame, finish: str | None = None, **fields: Any) -> Frame:
    """A frame with these parts of the answer."""
    candidate: Frame = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    return {"candidates": [{**candidate, "finishReason": finish} if finish else candidate], **fields}


def g_finish(reason: str = "STOP", **fields: Any) -> Frame:
    """A frame with nothing but why it ended."""
    return {"candidates": [{"finishReason": reason, "index": 0}], **fields}


def g_call(number: int, *, signature: str | None = None, call_id: str | None = None) -> Frame:
    """A part: the call of a tool."""
    call: Frame = {"name": "add", "args": {"a": number}}
    part: Frame = {"functionCall": call if call_id is None else {"id": call_id, **call}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def g_error(code: int, status: str) -> Frame:
    return {"error": {"code": code, "message": "secret words", "status": status}}


# --- Anthropic ------------------------------------------------------------------------------------------------------

A_START: Frame = {
    "type": "message_start",
    "message": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        },
    },
}
A_STOP: Frame = {"type": "message_stop"}


def a_block(index: int, block: Frame, *deltas: Frame) -> list[Frame]:
    """A content block, whole."""
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def a_text(*texts: str, index: int = 0) -> list[Frame]:
    return a_block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": text} for text in texts))


def a_call(index: int) -> list[Frame]:
    """A call of the tool `add`."""
    block: Frame = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
    pieces = ({"type": "input_json_delta", "partial_json": piece} for piece in ('{"a":', " 1}"))
    return a_block(index, block, *pieces)


def a_delta(reason: str | None) -> Frame:
    usage = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 5}}
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def a_error(kind: str) -> Frame:
    return {"type": "error", "error": {"type": kind, "message": "secret words"}}


# --- OpenAI's responses ---------------------------------------------------------------------------------------------

_RESPONSE: Frame = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-6",
    "status": "in_progress",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "temperature": 1,
    "top_p": 1,
}
_R_USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 19,
}
R_START: Frame = {"type": "response.created", "response": _RESPONSE}
R_THOUGHT: Frame = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "I think"}],
    "encrypted_content": "sealed",
}
R_CALL: Frame = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_abc",
    "name": "add",
    "arguments": '{"a": 1}',
    "status": "completed",
}


def r_text(*texts: str) -> list[Frame]:
    item: Frame = {"type": "message", "id": "m1", "role": "assistant", "status": "in_progress", "content": []}
    place = {"item_id": "m1", "output_index": 1, "content_index": 0}
    return [
        {"type": "response.output_item.added", "output_index": 1, "item": item},
        *({"type": "response.output_text.delta", **place, "delta": text} for text in texts),
    ]


def r_thought(*parts: str) -> list[Frame]:
    """A thought whose summary has these parts."""
    frames: list[Frame] = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**R_THOUGHT, "summary": []}}
    ]
    for index, text in enumerate(parts):
        place = {"item_id": "rs_1", "output_index": 0, "summary_index": index}
        part = {"type": "summary_text", "text": ""}
        frames += [
            {"type": "response.reasoning_summary_part.added", **place, "part": part},
            {"type": "response.reasoning_summary_text.delta", **place, "delta": text},
        ]
    return [*frames, {"type": "response.output_item.done", "output_index": 0, "item": R_THOUGHT}]


def r_call() -> list[Frame]:
    place = {"item_id": "fc_1", "output_index": 1}
    return [
        {"type": "response.output_item.added", "output_index": 1, "item": {**R_CALL, "arguments": ""}},
        *({"type": "response.function_call_arguments.delta", **place, "delta": piece} for piece in ('{"a":', " 1}")),
        {"type": "response.function_call_arguments.done", **place, "arguments": '{"a": 1}'},
        {"type": "response.output_item.done", "output_index": 1, "item": R_CALL},
    ]


def r_refusal(text: str) -> Frame:
    place = {"item_id": "m1", "output_index": 1, "content_index": 0}
    return {"type": "response.refusal.delta", **place, "delta": text}


def r_end(kind: str, *output: Frame, **fields: Any) -> Frame:
    response = {**_RESPONSE, "status": kind, "output": list(output), "usage": _R_USAGE, **fields}
    return {"type": f"response.{kind}", "response": response}


def r_error(code: str) -> Frame:
    return {"type": "error", "code": code, "message": "secret words", "param": None}


# --- OpenAI's chat completions --------------------------------------------------------------------------------------

C_USAGE = {
    "prompt_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens": 9,
    "completion_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 19,
}
C_DONE = b"data: [DONE]\n\n"


def c_delta(finish: str | None = None, **delta: Any) -> Frame:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


def c_usage() -> Frame:
    return {**c_delta(), "choices": [], "usage": C_USAGE}


def c_error(**error: Any) -> Frame:
    return {"error": {"message": "secret words", **error}}


# --- Bedrock --------------------------------------------------------------------------------------------------------


def b_event(kind: str, **fields: Any) -> bytes:
    """A message of AWS's event stream encoding ("Amazon event stream specification")."""
    is_error = kind.endswith("Exception")
    headers = b"".join(
        struct.pack("!B", len(name)) + name + b"\x07" + struct.pack("!H", len(value)) + value
        for name, value in (
            (b":exception-type" if is_error else b":event-type", kind.encode()),
            (b":content-type", b"application/json"),
            (b":message-type", b"exception" if is_error else b"event"),
        )
    )
    payload = json.dumps(fields).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


B_START = b_event("messageStart", role="assistant")
B_TEXT = b_event("contentBlockDelta", contentBlockIndex=0, delta={"text": "he"})


def b_end(reason: str) -> list[bytes]:
    usage = {"inputTokens": 7, "outputTokens": 9, "totalTokens": 19, "cacheReadInputTokens": 3}
    return [b_event("messageStop", stopReason=reason), b_event("metadata", usage=usage, metrics={"latencyMs": 1})]
