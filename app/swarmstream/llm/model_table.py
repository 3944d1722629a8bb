"""What litellm knows, without importing it: providers, their addresses and key variables, what a model costs.

The figures stand in two files that `scripts/models` makes from the locked release: `providers.json` and `prices.json`
(USD per million tokens).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit

import orjson

from swarmstream.errors import UnknownModel, quote
from swarmstream.llm.families import traits_of
from swarmstream.llm.model_ref import ChatEndpoint, Price, PriceTier
from swarmstream.llm.traits import Traits

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

_PROXY = "USE_LITELLM_PROXY"
"""Where this is set, litellm sends everything to a proxy of its own kind."""

_BRIDGE = "responses/"
"""What makes litellm ask for OpenAI's responses instead, whoever the provider is."""

_PLAIN_URL = re.compile(r"https?://[^/?#\s]+[^?#\s]*")

_CHAT = "/chat/completions"

_REASONING = re.compile(r"(?<![a-z0-9])o[1-9]\d?(?![a-z0-9])|gpt-(?:[5-9]|[12]\d)", re.IGNORECASE)
"""OpenAI's o-series, and GPT from 5 on, which know `max_tokens` by another name. Azure's 35 and 41 are 3.5 and 4.1."""

_WITH_REASONING = {"openai", "azure"}

_SECRET = re.compile(r"KEY(_ID)?$|(TOKEN|SECRET|CREDENTIALS|JWT)$")
_PATH_OF_CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
_OPENAI_HOST = "api.openai.com"
_OPENAIS_URL = re.compile(rf"https?://([^/?#@]*\.)?{re.escape(_OPENAI_HOST)}(:\d+)?([/?#]|$)", re.IGNORECASE)
"""Its own address, or one of a region's."""

_AZURE_V1 = {"v1", "preview", "latest"}
"""Versions that are another API, with other addresses."""


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


def speaks_openai(target: str, provider: str) -> bool:
    """Whether the model takes OpenAI's chat completions and streams them, as far as its name tells."""
    chat = _providers()[provider].get("chat")
    bare = target.removeprefix(f"{provider}/")
    if chat is None or bare.startswith(_BRIDGE) or _entry(target, provider).get("lane") == "litellm":
        return False
    return "except" not in chat or re.search(chat["except"], bare) is None


def chat_endpoint(
    target: str,
    provider: str,
    *,
    environ: Mapping[str, str],
    api_base: str | None = None,
    api_key_env: str | None = None,
) -> ChatEndpoint | None:
    """Where and how the model takes OpenAI's chat completions; None if that is for litellm to know.

    `api_base` and `api_key_env` are an alias's own. Nothing that the environment holds for the provider goes to an
    `api_base`.
    """
    if not speaks_openai(target, provider):
        return None
    entry = _providers()[provider]
    chat: dict[str, Any] = entry["chat"]
    headers: tuple[tuple[str, str], ...] = ()
    if api_base is None:
        if _first_set([_PROXY, *chat.get("unless", ())], environ):
            return None
        api_key_env = api_key_env or _first_set(chat["keys"], environ)
        if api_key_env is None and not _is_keyless(provider, environ):
            return None
        headers = tuple(_headers(chat, environ))
        variable = _first_set(entry["base_url_variables"], environ)
        api_base = environ[variable] if variable else chat["base"]
    model = _wire_name(target.removeprefix(f"{provider}/"), chat)
    url = _chat_url(api_base, model, chat, environ)
    if url is None:
        return None
    limit = {"max_tokens": "max_completion_tokens"} if provider in _WITH_REASONING and _REASONING.search(model) else {}
    return ChatEndpoint(
        url=url,
        model=model,
        key_env=api_key_env,
        key_header=chat.get("key_header", "authorization"),
        headers=headers,
        renames=tuple({**chat.get("renames", {}), **limit}.items()),
        extra=tuple(chat["extra"].items()),
    )


def _wire_name(bare: str, chat: Mapping[str, Any]) -> str:
    """The model's name in a request: Fireworks' have a path, which may be left out."""
    prefix: str = chat.get("model_prefix", "")
    return bare if not prefix or bare.startswith(f"{prefix.partition('/')[0]}/") else prefix + bare


def _chat_url(base: str | None, model: str, chat: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """The address to post to. None without a base, or where the base is not one to append a path to."""
    if base is None or not _PLAIN_URL.fullmatch(base):
        return None
    base = base.rstrip("/")
    path: str = chat["path"].replace("{model}", percent_encoded(model, safe=""))
    url = base if base.endswith(_CHAT) else base.removesuffix("/v1" if path.startswith("/v1/") else "") + path
    if "api_version" not in chat:
        return url
    version = environ.get("AZURE_API_VERSION") or chat["api_version"]
    address = urlsplit(base)
    # Bases of Azure's newer API, of one deployment, of Cloudflare's gateway: litellm appends something else to each.
    if version in _AZURE_V1 or "/openai" in address.path or address.hostname == "gateway.ai.cloudflare.com":
        return None
    return f"{url}?api-version={percent_encoded(version)}"


def _headers(chat: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for header, variables in chat.get("headers", {}).items():
        if variable := _first_set(variables, environ):
            yield header, environ[variable]


def _first_set(variables: Sequence[str], environ: Mapping[str, str]) -> str | None:
    return next((variable for variable in variables if environ.get(variable)), None)


def _is_keyless(provider: str, environ: Mapping[str, str]) -> bool:
    """Whether the environment makes the provider callable without a key: by its address alone."""
    urls = set(_providers()[provider]["base_url_variables"])
    return any(urls.issuperset(way) and all(environ.get(variable) for variable in way) for way in _ways(provider))


def has_key(provider: str, environ: Mapping[str, str]) -> bool:
    """Whether the environment holds this provider's credentials."""
    return any(all(environ.get(variable) for variable in way) for way in _ways(provider))


def secret_variables() -> set[str]:
    """The variables that hold providers' secrets; without those that a provider's own software reads from files."""
    named = {
        variable
        for provider, entry in _providers().items()
        for variable in (*chain(*_ways(provider)), *entry.get("chat", {}).get("keys", ()))
    }
    secret = {name for name in named if _SECRET.search(name) and f"{name}_FILE" not in named}
    return secret - {_PATH_OF_CREDENTIALS}


def missing_variables(provider: str, environ: Mapping[str, str]) -> list[str]:
    """What has to be set before this provider can be called; empty if it can be."""
    if has_key(provider, environ):
        return []
    return [variable for variable in _ways(provider)[0] if not environ.get(variable)]


def models_with_key(environ: Mapping[str, str]) -> list[str]:
    """The models of the price table whose provider has credentials; a server without a key has models of its own."""
    configured = {
        provider for provider in _providers() if has_key(provider, environ) and not _is_keyless(provider, environ)
    }
    return [name for name, entry in _prices().items() if entry["provider"] in configured]


def traits(target: str, provider: str, *, environ: Mapping[str, str], api_base: str | None = None) -> Traits:
    """What the model is known to refuse. OpenAI's and Azure's own servers alone insist on where tools are taken: others
    that go by a model's name have nothing but chat completions."""
    its = traits_of(target.removeprefix(f"{provider}/"))
    if provider == "azure" or (provider == "openai" and _is_openais(api_base, environ)):
        return its
    return its if its.tools_in_chat == "always" else replace(its, tools_in_chat="always")


def _is_openais(api_base: str | None, environ: Mapping[str, str]) -> bool:
    if api_base is None:
        variable = _first_set(_providers()["openai"]["base_url_variables"], environ)
        api_base = environ[variable] if variable else f"https://{_OPENAI_HOST}"
    return _OPENAIS_URL.match(api_base) is not None


def max_output_tokens(target: str, provider: str) -> int | None:
    """How many tokens the model can give, if the table says so."""
    return _entry(target, provider).get("max_output_tokens")


def takes_schemas(target: str, provider: str) -> bool:
    """Whether the model can be held to a JSON schema. Of one that the table does not have, its lane decides: servers
    that speak OpenAI's protocol can, as far as anybody knows."""
    entry = _entry(target, provider)
    return entry.get("schemas", False) if entry else speaks_openai(target, provider)


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
    """The sets of variables that each make up one way to hold this provider's credentials: an address at least."""
    return _providers()[provider]["credentials"]


@cache
def _providers() -> dict[str, dict[str, Any]]:
    return _data("providers.json")["providers"]


@cache
def _prices() -> dict[str, dict[str, Any]]:
    return _data("prices.json")["models"]


def _data(file: str) -> dict[str, Any]:
    return orjson.loads(resources.files("swarmstream.llm").joinpath(file).read_bytes())
