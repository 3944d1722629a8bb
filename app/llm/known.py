"""What litellm knows, without importing it: providers, whose key lies in which variable, what a model costs.

The figures stand in two files that `scripts/models` makes from the locked release: `providers.json` and `prices.json`
(USD per million tokens).
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import orjson

from app.errors import UnknownModel, quote
from app.swarm.models import Price, PriceTier

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
"""What litellm takes for a provider's mark wherever it stands in a name, and the providers whose names may have it."""


def provider_of(target: str, *, environ: Mapping[str, str]) -> str:
    """The provider that litellm would ask for a model of this name.

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
    marked = any(mark in target and provider not in providers for mark, providers in _MARKS.items())
    bare = target.removeprefix(f"{provider}/")
    if marked or bare in _providers()[provider].get("diverted", ()):
        raise UnknownModel(f"{quote(target)} would not reach {provider}")
    return provider


def _provider(target: str, environ: Mapping[str, str]) -> str | None:
    prefix, slash, _ = target.partition("/")
    if slash and prefix in _providers():
        return prefix
    if entry := _prices().get(target):
        # Gemini's bare names are Vertex AI's in the table; who has only a Gemini key means that one.
        if entry["provider"] == "vertex_ai" and f"gemini/{target}" in _prices():
            return "vertex_ai" if has_key("vertex_ai", environ) else "gemini"
        return str(entry["provider"])
    return next((provider for start, provider in _FAMILIES.items() if target.startswith(start)), None)


def has_key(provider: str, environ: Mapping[str, str]) -> bool:
    """Whether the environment holds this provider's credentials; never true for one that needs none."""
    return any(all(environ.get(variable) for variable in way) for way in _ways(provider))


def missing_variables(provider: str, environ: Mapping[str, str]) -> list[str]:
    """What has to be set before this provider can be called; empty if it can be."""
    ways = _ways(provider)
    if not ways or has_key(provider, environ):
        return []
    return [variable for variable in ways[0] if not environ.get(variable)]


def models_with_key(environ: Mapping[str, str]) -> list[str]:
    """The models of the price table whose provider has credentials."""
    configured = {provider for provider in _providers() if has_key(provider, environ)}
    return [name for name, entry in _prices().items() if entry["provider"] in configured]


def max_output_tokens(target: str, provider: str) -> int | None:
    """How many tokens the model can give, if the table says so."""
    return _entry(target, provider).get("max_output_tokens")


def price(target: str, provider: str) -> Price | None:
    """What the model costs; None where the table does not say."""
    entry = _entry(target, provider)
    if "input" not in entry or "output" not in entry:
        return None
    tiers: list[dict[str, Any]] = entry.get("tiers", [])
    return Price(
        input=entry["input"],
        output=entry["output"],
        cached_input=entry.get("cached_input"),
        reasoning=entry.get("reasoning"),
        tiers=tuple(
            PriceTier(
                above_tokens=tier["above"],
                input=tier.get("input", entry["input"]),
                output=tier.get("output", entry["output"]),
                cached_input=tier.get("cached_input"),
                reasoning=tier.get("reasoning", entry.get("reasoning")),
            )
            for tier in tiers
        ),
    )


def _entry(target: str, provider: str) -> dict[str, Any]:
    """The table's entry; it names some models with their provider and some without."""
    bare = target.removeprefix(f"{provider}/")
    for name in (target, f"{provider}/{bare}", bare):
        entry = _prices().get(name)
        if entry and entry["provider"] == provider:
            return entry
    return {}


def _ways(provider: str) -> Sequence[Sequence[str]]:
    """The sets of variables that each make up one way to hold this provider's credentials; none needed if empty."""
    return _providers()[provider]["credentials"]


@cache
def _providers() -> dict[str, dict[str, Any]]:
    return _data("providers.json")["providers"]


@cache
def _prices() -> dict[str, dict[str, Any]]:
    return _data("prices.json")["models"]


def _data(file: str) -> dict[str, Any]:
    return orjson.loads(resources.files("app.llm").joinpath(file).read_bytes())
