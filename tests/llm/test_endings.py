"""How answers end, ending by ending, in the protocols of the big providers: each is told as what it is.

litellm's adapters read all of them, the direct lane chat completions, too.
"""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import anyio
import pytest

from swarmstream.errors import (
    ModelError,
    ProviderAuth,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    UpstreamInvalid,
    UpstreamTruncated,
)
from swarmstream.llm.base import Delta, Finished, ModelCall, Opened, Sampling, TokenCount
from swarmstream.llm.model_ref import ChatEndpoint, ModelRef
from swarmstream.llm.providers.backends import Backend
from swarmstream.llm.providers.direct import DirectModel
from swarmstream.llm.providers.litellm.model import LiteLLMModel
from tests.fakes import protocols
from tests.fakes.protocols import (
    A_START,
    A_STOP,
    B_START,
    B_TEXT,
    C_DONE,
    GEMINI_USAGE,
    R_CALL,
    R_START,
    Frame,
    a_block,
    a_call,
    a_delta,
    a_error,
    a_text,
    b_end,
    b_event,
    c_delta,
    c_error,
    c_usage,
    g_call,
    g_error,
    g_finish,
    g_parts,
    r_call,
    r_end,
    r_error,
    r_refusal,
    r_text,
)
from tests.fakes.upstream import Exchange, Script, provider

pytestmark = [pytest.mark.anyio, pytest.mark.noisy]

KEY = "sk-provider-secret-0123456789"
COUNT = TokenCount(10, 9, 3, 5)
USAGE: Frame = {"usageMetadata": GEMINI_USAGE}
HE: Frame = {"text": "he"}
LLO: Frame = {"text": "llo"}
TOOL: Frame = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}

Stream = Sequence[Frame | bytes]
Outcome = str | type[ModelError]
"""The finish reason, or the failure."""

GEMINI: dict[str, tuple[Stream, str, Outcome]] = {
    "finish with text": ([g_parts(HE), g_parts(LLO, finish="STOP", **USAGE)], "hello", "stop"),
    "finish with empty text": ([g_parts(HE, LLO), g_parts({"text": ""}, finish="STOP", **USAGE)], "hello", "stop"),
    "finish without parts": (
        [g_parts(HE), {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}], **USAGE}],
        "he",
        "stop",
    ),
    "finish without content": ([g_parts(HE), g_finish(**USAGE)], "he", "stop"),
    "figures after the finish": ([g_parts(HE), g_finish(), USAGE], "he", "stop"),
    "figures in each frame": (
        [g_parts(HE, usageMetadata={"promptTokenCount": 10}), g_parts(LLO, finish="STOP", **USAGE)],
        "hello",
        "stop",
    ),
    "a reason in each frame": (
        [g_parts(HE, finish="FINISH_REASON_UNSPECIFIED"), g_parts(LLO, finish="STOP", **USAGE)],
        "hello",
        "stop",
    ),
    "a signature at the end": (
        [g_parts(HE), g_parts({"text": "", "thoughtSignature": "c2ln"}, finish="STOP", **USAGE)],
        "he",
        "stop",
    ),
    "tool calls": ([g_parts(g_call(1, signature="c2ln"), g_call(2), finish="STOP", **USAGE)], "", "tool_calls"),
    "tool calls, then the finish": ([g_parts(g_call(1)), g_finish(**USAGE)], "", "tool_calls"),
    "too long": ([g_parts(HE), g_parts(LLO, finish="MAX_TOKENS", **USAGE)], "hello", "length"),
    "unsafe": ([g_parts(HE), g_finish("SAFETY", **USAGE)], "he", "content_filter"),
    "a blocked prompt": ([{"promptFeedback": {"blockReason": "SAFETY"}, **USAGE}], "", "content_filter"),
    "a reason of tomorrow": ([g_parts(HE), g_finish("NEW_REASON", **USAGE)], "he", "new_reason"),
    "cut off": ([g_parts(HE), g_parts(LLO)], "hello", UpstreamTruncated),
    "cut off at once": ([], "", UpstreamTruncated),
    "cut off in a frame": ([g_parts(HE), b'data: {"candidates": [{"content"'], "he", UpstreamTruncated),
    "cut off after figures": ([g_parts(HE, **USAGE)], "he", UpstreamTruncated),
    "cut off after a tool call": ([g_parts(g_call(1))], "", UpstreamTruncated),
    "an error": ([g_parts(HE), g_error(503, "UNAVAILABLE")], "he", UpstreamInvalid),
    "an error in lines": (
        [g_parts(HE), json.dumps(g_error(503, "UNAVAILABLE"), indent=2).replace("\n", "\r\n").encode()],
        "he",
        UpstreamInvalid,
    ),
    "a limit at once": ([g_error(429, "RESOURCE_EXHAUSTED")], "", ProviderRateLimited),
    "a limit at once, in an array": (
        [json.dumps([g_error(429, "RESOURCE_EXHAUSTED")]).encode()],
        "",
        ProviderRateLimited,
    ),
    "a failure at once": ([{"error": {"status": "UNAVAILABLE"}}], "", ProviderError),
    "a refusal at once": ([g_error(400, "INVALID_ARGUMENT")], "", ProviderRejected),
    "a code that is no number": ([b'data: {"error": {"code": 1e999}}\r\n\r\n'], "", UpstreamInvalid),
    "given up": ([g_finish("MALFORMED_FUNCTION_CALL", **USAGE)], "", ProviderError),
    "given up in the middle": ([g_parts(HE), g_finish("OTHER", **USAGE)], "he", UpstreamInvalid),
    "a signature is missing": ([g_finish("MISSING_THOUGHT_SIGNATURE")], "", ProviderRejected),
}

ANTHROPIC: dict[str, tuple[Stream, str, Outcome]] = {
    "end_turn": ([A_START, *a_text("he", "llo"), a_delta("end_turn"), A_STOP], "hello", "stop"),
    "stop_sequence": ([A_START, *a_text("he"), a_delta("stop_sequence"), A_STOP], "he", "stop"),
    "tool_use": ([A_START, *a_call(0), a_delta("tool_use"), A_STOP], "", "tool_calls"),
    "max_tokens": ([A_START, *a_text("he"), a_delta("max_tokens"), A_STOP], "he", "length"),
    "context": ([A_START, *a_text("he"), a_delta("model_context_window_exceeded"), A_STOP], "he", "length"),
    "refusal": ([A_START, *a_text("he"), a_delta("refusal"), A_STOP], "he", "content_filter"),
    "pause_turn": ([A_START, *a_text("he"), a_delta("pause_turn"), A_STOP], "he", "pause_turn"),
    "no message_stop": ([A_START, *a_text("he"), a_delta("end_turn")], "he", "stop"),
    "no stop_reason": ([A_START, *a_text("he"), a_delta(None), A_STOP], "he", UpstreamTruncated),
    "cut off": ([A_START, *a_text("he")[:-1]], "he", UpstreamTruncated),
    "cut off at once": ([A_START], "", UpstreamTruncated),
    "cut off in a tool call": ([A_START, *a_call(0)[:-2]], "", UpstreamTruncated),
    "an error": ([A_START, *a_text("he")[:-1], a_error("overloaded_error")], "he", UpstreamInvalid),
    "overloaded at once": ([a_error("overloaded_error")], "", ProviderError),
    "overloaded after the start": ([A_START, a_error("overloaded_error")], "", ProviderError),
    "a limit": ([A_START, a_error("rate_limit_error")], "", ProviderRateLimited),
    "a refusal at once": ([A_START, a_error("invalid_request_error")], "", ProviderRejected),
    "no permission": ([a_error("permission_error")], "", ProviderAuth),
}

RESPONSES: dict[str, tuple[Stream, str, Outcome]] = {
    "completed": ([R_START, *r_text("he", "llo"), r_end("completed")], "hello", "stop"),
    "tool calls": ([R_START, *r_call(), r_end("completed", R_CALL)], "", "tool_calls"),
    "tool calls, not told again": ([R_START, *r_call(), r_end("completed")], "", "tool_calls"),
    "a refusal in words": (
        [R_START, r_refusal("I can"), r_refusal("not"), r_end("completed")],
        "I cannot",
        "content_filter",
    ),
    "too long": (
        [R_START, *r_text("he"), r_end("incomplete", incomplete_details={"reason": "max_output_tokens"})],
        "he",
        "length",
    ),
    "filtered": (
        [R_START, *r_text("he"), r_end("incomplete", incomplete_details={"reason": "content_filter"})],
        "he",
        "content_filter",
    ),
    "cut off": ([R_START, *r_text("he")], "he", UpstreamTruncated),
    "cut off at once": ([R_START], "", UpstreamTruncated),
    "failed": (
        [R_START, *r_text("he"), r_end("failed", error={"code": "server_error", "message": "x"})],
        "he",
        UpstreamInvalid,
    ),
    "failed at once": (
        [R_START, r_end("failed", error={"code": "server_error", "message": "x"})],
        "",
        ProviderError,
    ),
    "a limit": (
        [R_START, r_end("failed", error={"code": "rate_limit_exceeded", "message": "x"})],
        "",
        ProviderRateLimited,
    ),
    "a bad image": (
        [R_START, r_end("failed", error={"code": "invalid_image_mode", "message": "x"})],
        "",
        ProviderRejected,
    ),
    "an error": ([R_START, *r_text("he"), r_error("server_error")], "he", UpstreamInvalid),
    "a limit as an error": ([R_START, r_error("rate_limit_exceeded")], "", ProviderRateLimited),
    "too large for it": ([r_error("context_length_exceeded")], "", ProviderRejected),
}

CHAT: dict[str, tuple[Stream, str, Outcome]] = {
    "stop": ([c_delta(content="he"), c_delta("stop", content="llo"), c_usage(), C_DONE], "hello", "stop"),
    "too long": ([c_delta(content="he"), c_delta("length"), c_usage(), C_DONE], "he", "length"),
    "filtered": ([c_delta(content="he"), c_delta("content_filter"), c_usage(), C_DONE], "he", "content_filter"),
    "a refusal in words": ([c_delta(refusal="I cannot"), c_delta("stop"), c_usage(), C_DONE], "I cannot", "stop"),
    "no [DONE]": ([c_delta(content="he"), c_delta("stop"), c_usage()], "he", "stop"),
    "cut off": ([c_delta(content="he")], "he", UpstreamTruncated),
    "cut off and [DONE]": ([c_delta(content="he"), C_DONE], "he", UpstreamTruncated),
    "given up": ([c_delta(role="assistant", content=""), c_delta("error")], "", ProviderError),
    "given up in the middle": ([c_delta(content="he"), c_delta("error")], "he", UpstreamInvalid),
    "an error": ([c_delta(content="he"), c_error(code=429)], "he", UpstreamInvalid),
    "a limit at once": ([c_error(code=429)], "", ProviderRateLimited),
    "a code that is no number": ([b'data: {"error": {"message": "x", "code": 1e999}}\n\n'], "", UpstreamInvalid),
    "a limit in words": ([c_error(code="rate_limit_exceeded", type="requests")], "", ProviderRateLimited),
    "a failure after the role": (
        [c_delta(role="assistant", content=""), c_error(type="server_error")],
        "",
        ProviderError,
    ),
    "overloaded": ([c_error(type="overloaded_error")], "", ProviderError),
    "digits": ([c_error(code="503")], "", ProviderError),
    "too large for it": (
        [c_error(code="context_length_exceeded", type="invalid_request_error")],
        "",
        ProviderRejected,
    ),
    "a wrong key": ([c_error(code="invalid_api_key")], "", ProviderAuth),
    "words that say nothing": ([c_error(type="odd")], "", UpstreamInvalid),
}

BEDROCK: dict[str, tuple[Stream, str, Outcome]] = {
    "end_turn": ([B_START, B_TEXT, *b_end("end_turn")], "he", "stop"),
    "max_tokens": ([B_START, B_TEXT, *b_end("max_tokens")], "he", "length"),
    "a guardrail": ([B_START, B_TEXT, *b_end("guardrail_intervened")], "he", "content_filter"),
    "cut off": ([B_START, B_TEXT], "he", UpstreamTruncated),
    "cut off at once": ([B_START], "", UpstreamTruncated),
    "an error": ([B_START, B_TEXT, b_event("throttlingException", message="secret")], "he", UpstreamInvalid),
    "a limit": ([B_START, b_event("throttlingException", message="secret")], "", ProviderRateLimited),
    "a failure": ([b_event("serviceUnavailableException", message="secret")], "", ProviderError),
    "a refusal": ([b_event("validationException", message="secret")], "", ProviderRejected),
}

Write = Callable[[Stream], Script]
PROTOCOLS: dict[str, tuple[str, Write, dict[str, tuple[Stream, str, Outcome]]]] = {
    "gemini": ("gemini/gemini-3-flash-preview", protocols.gemini, GEMINI),
    "anthropic": ("anthropic/claude-opus-5-5", protocols.anthropic, ANTHROPIC),
    "responses": ("openai/responses/gpt-6", protocols.responses, RESPONSES),
    "bedrock": ("bedrock/converse/anthropic.claude-sonnet-4-5-20250929-v1:0", protocols.bedrock, BEDROCK),
    "invoke": ("bedrock/invoke/anthropic.claude-opus-5-5-v1:0", protocols.bedrock_invoke, ANTHROPIC),
    "chat": ("openai/gpt-4.1", protocols.chat, CHAT),
    "direct": ("openai/gpt-4.1", protocols.chat, CHAT),
}
"""Which model is called, and how its provider answers."""


@pytest.fixture(scope="module")
async def lanes() -> AsyncGenerator[dict[str, Backend]]:
    lanes: dict[str, Backend] = {"litellm": LiteLLMModel({"KEY": KEY}), "direct": DirectModel({"KEY": KEY})}
    with anyio.fail_after(60):
        for lane in lanes.values():
            await lane.ready()
    yield lanes
    for lane in lanes.values():
        await lane.close()


def call(protocol: str, base_url: str, messages: Sequence[Frame] = ({"role": "user", "content": "go"},)) -> ModelCall:
    target, _, _ = PROTOCOLS[protocol]
    base = base_url.removesuffix("/v1") if protocol in ("gemini", "anthropic", "bedrock", "invoke") else base_url
    endpoint = None
    if protocol == "direct":
        endpoint = ChatEndpoint(url=f"{base}/chat/completions", model="m", key_env="KEY")
    ref = ModelRef(name=target, target=target, backend="x", api_base=base, api_key_env="KEY", endpoint=endpoint)
    tools = [] if protocol in ("chat", "direct") else [TOOL]
    return ModelCall(ref, list(messages), Sampling(4000, None, None, None, {}), tools)


async def deltas_of(lanes: dict[str, Backend], protocol: str, frames: Stream) -> tuple[list[Delta], ModelError | None]:
    """What comes of these frames, and how it fails."""
    lane = lanes["direct" if protocol == "direct" else "litellm"]
    deltas: list[Delta] = []
    with anyio.fail_after(30):
        async with provider(PROTOCOLS[protocol][1](frames)) as upstream:
            try:
                await lane.stream(call(protocol, upstream.base_url), deltas.extend)
            except ModelError as error:
                return deltas, error
    return deltas, None


@pytest.mark.parametrize(
    ("protocol", "ending"), [(name, ending) for name, (_, _, table) in PROTOCOLS.items() for ending in table]
)
async def test_an_answer_ends_with_the_finish_reason_of_its_provider(
    lanes: dict[str, Backend], protocol: str, ending: str
) -> None:
    frames, text, outcome = PROTOCOLS[protocol][2][ending]
    deltas, failure = await deltas_of(lanes, protocol, frames)
    assert deltas[0] == Opened()
    assert "".join(delta for delta in deltas if isinstance(delta, str)) == text
    ends = [delta.reason for delta in deltas if isinstance(delta, Finished)]
    if isinstance(outcome, str):
        assert (failure, ends) == (None, [outcome])
        thought = 0 if protocol == "bedrock" else COUNT.reasoning_tokens  # it does not tell
        assert [delta for delta in deltas if isinstance(delta, TokenCount)][-1] == replace(
            COUNT, reasoning_tokens=thought
        )
    else:
        assert (type(failure), ends) == (outcome, [])
        assert "secret" not in str(failure)
        if protocol in ("anthropic", "invoke") and not text and outcome is not UpstreamTruncated:
            assert not any(isinstance(delta, TokenCount) for delta in deltas), "who is refused pays nothing"


async def test_an_answer_that_litellm_gets_by_a_tool_of_its_own_is_text(lanes: dict[str, Backend]) -> None:
    tool: Frame = {"type": "tool_use", "id": "toolu_1", "name": "json_tool_call", "input": {}}
    whole: Frame = {"type": "input_json_delta", "partial_json": '{"a": 1}'}
    frames = [A_START, *a_block(0, tool, whole), a_delta("tool_use"), A_STOP]
    schema: Frame = {"type": "json_schema", "json_schema": {"name": "x", "schema": TOOL["function"]["parameters"]}}
    deltas: list[Delta] = []
    with anyio.fail_after(30):
        async with provider(protocols.anthropic(frames)) as upstream:
            base = upstream.base_url.removesuffix("/v1")
            target = "anthropic/claude-3-haiku-20240307"
            ref = ModelRef(name=target, target=target, backend="litellm", api_base=base, api_key_env="KEY")
            asked = ModelCall(
                ref, [{"role": "user", "content": "go"}], Sampling(4000, None, None, None, {}), (), schema
            )
            await lanes["litellm"].stream(asked, deltas.extend)
    assert deltas == [Opened(), '{"a": 1}', COUNT, Finished("stop")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ProviderRejected), (401, ProviderAuth), (429, ProviderRateLimited), (503, ProviderError)],
)
async def test_the_status_of_a_refusal_decides_its_error(
    lanes: dict[str, Backend], protocol: str, status: int, kind: type[ModelError]
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(status, json.dumps(c_error(code=status)).encode(), **{"retry-after": "7"})

    lane = lanes["direct" if protocol == "direct" else "litellm"]
    async with provider(refuse) as upstream:
        with anyio.fail_after(30), pytest.raises(kind) as caught:
            await lane.stream(call(protocol, upstream.base_url), lambda deltas: None)
    assert type(caught.value) is kind
    assert caught.value.retry_after_seconds == 7
    assert "secret" not in str(caught.value)
    assert len(upstream.exchanges) == 1
