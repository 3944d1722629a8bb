"""Token counts of our own, for providers that give none, and what a reply is charged (docs/engine.md)."""

from collections.abc import Sequence
from dataclasses import replace

from swarmstream.engine.reply import PartialReply
from swarmstream.events import Usage
from swarmstream.llm.base import TokenCount
from swarmstream.llm.messages import JsonObject
from swarmstream.llm.model_ref import Price
from swarmstream.llm.prompt_size import BYTES_PER_TOKEN, PromptSize

_UNKNOWN_PRICE = Price(input=0.0, output=0.0)


def text_tokens(text: str) -> int:
    """Estimate the tokens of a text: four bytes each, the rule of thumb that providers give for their tokenizers."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def input_tokens(prompt: PromptSize, tools: Sequence[JsonObject]) -> int:
    """Estimate the tokens of a request with this prompt and these tools."""
    return prompt.tokens + sum(text_tokens(str(tool)) for tool in tools)


def output_tokens(reply: PartialReply) -> int:
    """Estimate the tokens of a reply so far: text, reasoning and the arguments of tool calls."""
    return text_tokens(reply.text) + (reply.reasoning_length + reply.arguments_length) // BYTES_PER_TOKEN


def usage_of(reply: PartialReply, prompt: PromptSize, tools: Sequence[JsonObject]) -> Usage:
    """Return the usage of a call so far: the provider's figures, or ours where it gave none but had begun to answer.

    Some providers begin with figures and end with better ones. A reply that was cut in between has the first only, so
    that our count of its output stands for theirs where it is higher.
    """
    if not reply.is_opened:
        return Usage()
    count = reply.token_count
    if count is None:
        ours = TokenCount(input_tokens=input_tokens(prompt, tools), output_tokens=output_tokens(reply))
        return charged(ours, reply.model.price, is_estimated=True)
    if reply.finish_reason is None and (output := output_tokens(reply)) > count.output_tokens:
        return charged(replace(count, output_tokens=output), reply.model.price, is_estimated=True)
    return charged(count, reply.model.price, is_estimated=False)


def charged(count: TokenCount, price: Price | None, *, is_estimated: bool) -> Usage:
    """Return the usage that these figures come to; without a known price it costs 0."""
    usage = (price or _UNKNOWN_PRICE).charge(
        input_tokens=count.input_tokens,
        output_tokens=count.output_tokens,
        cached_input_tokens=count.cached_input_tokens,
        reasoning_tokens=count.reasoning_tokens,
    )
    if price is not None and not is_estimated:
        return usage
    return replace(usage, priced=price is not None, estimated=is_estimated)
