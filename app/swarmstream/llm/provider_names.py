"""The provider that is called for a model's name."""

import re
from collections.abc import Mapping

from swarmstream.errors import UnknownModel, quote
from swarmstream.llm.credentials import has_key
from swarmstream.llm.model_table import prices, providers

_FAMILIES = {
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude-": "anthropic",
    "gemini-": "gemini",
    "deepseek-": "deepseek",
    "grok-": "xai",
}
"""Providers of bare names that are newer than the price table."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:@+/-]*[A-Za-z0-9._:@+-])?")

_MISLEADING = re.compile(r"//|\.\.|^bedrock/(.*/)?agent|^azure_ai/(.*/)?agents")
"""A URL or a path that climbs; and agents, whose names hold the host that is called."""

_MARKS = {"ft:": {"openai", "azure", "text-completion-openai"}, "replicate": {"replicate"}}
"""Substrings that litellm takes for a provider's mark anywhere in a name, and the providers whose names may have it."""


def find_provider(target: str, *, environ: Mapping[str, str]) -> str:
    """Return the provider that litellm would call for a model of this name.

    Raises:
        UnknownModel: there is none, or the name would send the request, and a key with it, elsewhere.
    """
    if not _NAME.fullmatch(target) or _MISLEADING.search(target):
        raise UnknownModel(f"{quote(target)} is not a model's name")
    provider = _provider(target, environ)
    if provider is None:
        raise UnknownModel(
            f"no provider is known for the model {quote(target)}; names are provider/model, such as openai/gpt-4.1"
        )
    marked = any(mark in target and provider not in allowed for mark, allowed in _MARKS.items())
    bare = target.removeprefix(f"{provider}/")
    if marked or bare in providers()[provider].get("diverted", ()):
        raise UnknownModel(f"{quote(target)} would not reach {provider}")
    return provider


def _provider(target: str, environ: Mapping[str, str]) -> str | None:
    prefix, slash, _ = target.partition("/")
    if slash and prefix in providers():
        return prefix
    if entry := prices().get(target):
        # Gemini's bare names are Vertex AI's in the table; with a Gemini key alone, Gemini is meant.
        if entry["provider"] == "vertex_ai" and f"gemini/{target}" in prices():
            return "vertex_ai" if has_key("vertex_ai", environ) else "gemini"
        return str(entry["provider"])
    return next((provider for start, provider in _FAMILIES.items() if target.startswith(start)), None)
