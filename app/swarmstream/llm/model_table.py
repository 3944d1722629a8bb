"""litellm's tables of providers and models, read without importing litellm.

They stand in two files that `scripts/models` makes from the locked release: `providers.json` (addresses, variables of
credentials, the dialect) and `prices.json` (models; USD per million tokens).
"""

import re
from functools import cache
from importlib import resources
from typing import Any

import orjson

from swarmstream.llm.model_ref import Price, PriceTier

_BRIDGE = "responses/"
"""Prefix of names that litellm calls through OpenAI's responses, whatever the provider."""


def speaks_openai(target: str, provider: str) -> bool:
    """Return True if the model takes OpenAI's chat completions and streams them, as far as its name tells."""
    chat = providers()[provider].get("chat")
    bare = target.removeprefix(f"{provider}/")
    if chat is None or bare.startswith(_BRIDGE) or _entry(target, provider).get("lane") == "litellm":
        return False
    return "except" not in chat or re.search(chat["except"], bare) is None


def max_output_tokens(target: str, provider: str) -> int | None:
    """Return the limit of an answer in tokens, if the table has one."""
    return _entry(target, provider).get("max_output_tokens")


def takes_schemas(target: str, provider: str) -> bool:
    """Return True if the model can be held to a JSON schema.

    Of a model that the table lacks, the protocol decides: servers that speak OpenAI's are taken to be able to.
    """
    entry = _entry(target, provider)
    return entry.get("schemas", False) if entry else speaks_openai(target, provider)


def price(target: str, provider: str) -> Price | None:
    """Return the model's price; None where the table has none."""
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
    """Return the model's entry, empty if there is none. Some are filed under provider and name, some under the name."""
    bare = target.removeprefix(f"{provider}/")
    for name in (target, f"{provider}/{bare}", bare):
        entry = prices().get(name)
        if entry and entry["provider"] == provider:
            return entry
    return {}


@cache
def providers() -> dict[str, dict[str, Any]]:
    """Return the table of providers, by litellm's names."""
    return _read("providers.json")["providers"]


@cache
def prices() -> dict[str, dict[str, Any]]:
    """Return the table of models, by litellm's names."""
    return _read("prices.json")["models"]


def _read(file: str) -> dict[str, Any]:
    return orjson.loads(resources.files("swarmstream.llm").joinpath(file).read_bytes())
