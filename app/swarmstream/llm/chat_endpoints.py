"""Addresses at which providers take OpenAI's chat completions."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit

from swarmstream.llm.credentials import first_set, is_keyless
from swarmstream.llm.model_ref import ChatEndpoint
from swarmstream.llm.model_table import providers, speaks_openai

_PROXY = "USE_LITELLM_PROXY"
"""Where this is set, litellm sends everything to a proxy of its own kind."""

_PLAIN_URL = re.compile(r"https?://[^/?#\s]+[^?#\s]*")

_CHAT = "/chat/completions"

_REASONING = re.compile(r"(?<![a-z0-9])o[1-9]\d?(?![a-z0-9])|gpt-(?:[5-9]|[12]\d)", re.IGNORECASE)
"""OpenAI's o-series, and GPT from 5 on, which know `max_tokens` by another name. Azure's 35 and 41 are 3.5 and 4.1."""

_WITH_REASONING = {"openai", "azure"}

_AZURE_V1 = {"v1", "preview", "latest"}
"""Versions that are another API, with other addresses."""


def chat_endpoint(
    target: str,
    provider: str,
    *,
    environ: Mapping[str, str],
    api_base: str | None = None,
    api_key_env: str | None = None,
) -> ChatEndpoint | None:
    """Return where and how the model takes OpenAI's chat completions; None if only litellm can call it.

    `api_base` and `api_key_env` are an alias's own. Nothing that the environment holds for the provider goes to an
    `api_base`.
    """
    if not speaks_openai(target, provider):
        return None
    entry = providers()[provider]
    chat: dict[str, Any] = entry["chat"]
    headers: tuple[tuple[str, str], ...] = ()
    if api_base is None:
        if first_set([_PROXY, *chat.get("unless", ())], environ):
            return None
        api_key_env = api_key_env or first_set(chat["keys"], environ)
        if api_key_env is None and not is_keyless(provider, environ):
            return None
        headers = tuple(_headers(chat, environ))
        variable = first_set(entry["base_url_variables"], environ)
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
    """Return the model's name in a request: Fireworks' have a path, which may be left out."""
    prefix: str = chat.get("model_prefix", "")
    return bare if not prefix or bare.startswith(f"{prefix.partition('/')[0]}/") else prefix + bare


def _chat_url(base: str | None, model: str, chat: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """Return the address to post to; None without a base, or where a path cannot be appended to the base."""
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
        if variable := first_set(variables, environ):
            yield header, environ[variable]
