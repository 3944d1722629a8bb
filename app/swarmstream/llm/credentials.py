"""Credentials of providers: the variables that hold them, and which of these are set."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain

from swarmstream.llm.model_table import prices, providers

_SECRET = re.compile(r"KEY(_ID)?$|(TOKEN|SECRET|CREDENTIALS|JWT)$")
_PATH_OF_CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"


def has_key(provider: str, environ: Mapping[str, str]) -> bool:
    """Return True if the environment holds this provider's credentials."""
    return any(all(environ.get(variable) for variable in way) for way in _ways(provider))


def is_keyless(provider: str, environ: Mapping[str, str]) -> bool:
    """Return True if the environment makes the provider callable without a key: by its address alone."""
    urls = set(providers()[provider]["base_url_variables"])
    return any(urls.issuperset(way) and all(environ.get(variable) for variable in way) for way in _ways(provider))


def missing_variables(provider: str, environ: Mapping[str, str]) -> list[str]:
    """List the variables that have to be set before this provider can be called."""
    if has_key(provider, environ):
        return []
    return [variable for variable in _ways(provider)[0] if not environ.get(variable)]


def secret_variables() -> set[str]:
    """Return the variables that hold secrets, without those of files that a provider's own software reads."""
    named = {
        variable
        for provider, entry in providers().items()
        for variable in (*chain(*_ways(provider)), *entry.get("chat", {}).get("keys", ()))
    }
    secret = {name for name in named if _SECRET.search(name) and f"{name}_FILE" not in named}
    return secret - {_PATH_OF_CREDENTIALS}


def models_with_key(environ: Mapping[str, str]) -> list[str]:
    """List the price table's models whose provider has credentials.

    Providers that are called by their address alone serve models of their own, and are left out.
    """
    configured = {
        provider for provider in providers() if has_key(provider, environ) and not is_keyless(provider, environ)
    }
    return [name for name, entry in prices().items() if entry["provider"] in configured]


def first_set(variables: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return the first of the variables that is set and not empty."""
    return next((variable for variable in variables if environ.get(variable)), None)


def _ways(provider: str) -> Sequence[Sequence[str]]:
    """Return the sets of variables that each make up one way to hold this provider's credentials; never empty."""
    return providers()[provider]["credentials"]
