"""Which models this server can call: litellm's names and the operator's aliases, without importing litellm.

What litellm knows stands in two files that `scripts/models` makes from the locked release: `providers.json` (whose
key lies in which variable) and `prices.json` (USD per million tokens, and which provider a bare name belongs to).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import NoCredentials, UnknownModel, quote
from app.settings import Settings
from app.swarm.models import ModelRef, Price, PriceTier

DEMO_PREFIX = "demo/"
DEMO_MODEL = "demo/swarm"
_FREE = Price(input=0.0, output=0.0)

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

_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]*")

_MISLEADING = re.compile(r"//|\.\.|^(bedrock/agent|azure_ai/agents)")
"""A URL or a path that climbs; and agents, whose names hold the host that is called."""

_DIVERTED = {"ft:": {"openai", "azure"}, "replicate": {"replicate"}}
"""What litellm takes for a provider's mark wherever it stands in a name, and the providers whose names may have it."""


class AliasPrice(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cached_input: Annotated[float, Field(ge=0)] | None = None


class Alias(BaseModel):
    """What a name or a glob that clients ask for stands for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """litellm's name, or one of the demo model's."""
    api_base: str | None = None
    api_key_env: str | None = None
    """The variable that holds the key for `api_base`; without it no key is sent there."""
    price: AliasPrice | None = None


class AliasFileError(Exception):
    """The operator's file of aliases cannot be used."""


def read_aliases(path: Path) -> dict[str, Alias]:
    """The aliases of a TOML file: a table for each name or glob.

    Raises:
        AliasFileError: it cannot be read, is no TOML, or has a field that no alias has.
    """
    try:
        return TypeAdapter(dict[str, Alias]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise AliasFileError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AliasFileError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise AliasFileError(f"{path}: {'; '.join(problems)}") from error


def aliases_of(settings: Settings) -> dict[str, Alias]:
    """The operator's aliases; the short form wins over the file.

    Raises:
        AliasFileError: as `read_aliases`.
    """
    in_short = {name: Alias(model=model) for name, model in settings.model_aliases.items()}
    in_file = read_aliases(settings.models_file) if settings.models_file else {}
    return {**in_short, **{name: alias for name, alias in in_file.items() if name not in in_short}}


class Registry:
    """Resolves model names against aliases, litellm's tables and the environment's keys."""

    def __init__(self, *, default_model: str, environ: Mapping[str, str], aliases: Mapping[str, Alias] | None = None):
        self._default_model = default_model
        self._environ = environ
        self._aliases = dict(aliases or {})

    @property
    def default_model(self) -> str:
        return self._default_model

    def resolve(self, name: str) -> ModelRef:
        """See `ModelRegistry`. An exact alias wins over a glob, globs are tried in the file's order."""
        alias = self._alias(name)
        target = alias.model if alias else name
        if target.startswith(DEMO_PREFIX):
            return ModelRef(name=name, target=target.removeprefix(DEMO_PREFIX), lane="demo", price=_FREE)
        _check_target(target, name)
        provider = self._provider(target)
        if provider is None:
            raise UnknownModel(
                f"no provider is known for the model {quote(name)}; write it as provider/model, e.g. openai/{target}"[
                    :300
                ]
            )
        _check_provider(target, provider, name)
        if alias is None or alias.api_base is None:
            self._check_credentials(provider, name)
        if alias and alias.api_key_env and not self._environ.get(alias.api_key_env):
            raise NoCredentials(f"the model {quote(name)} needs the variable {alias.api_key_env}, which is not set")
        entry = _entry(target, provider)
        price = _alias_price(alias) or _table_price(entry)
        return ModelRef(
            name=name,
            target=target if target.startswith(f"{provider}/") else f"{provider}/{target}",
            lane="litellm",
            api_base=alias.api_base if alias else None,
            api_key_env=alias.api_key_env if alias else None,
            price=price,
            max_output_tokens=entry.get("max_output_tokens"),
        )

    def names(self) -> list[str]:
        """What clients may ask for here: aliases, the demo, and the table's models of providers with credentials."""
        known = {DEMO_MODEL, *(alias for alias in self._aliases if not _is_glob(alias))}
        configured = {provider for provider in _providers() if self._has_key(provider)}
        for name, entry in _prices().items():
            if entry["provider"] in configured:
                known.add(name)
        return sorted(known)

    def has_any_provider(self) -> bool:
        """Whether some model other than the demo can be called."""
        return bool(self._aliases) or any(self._has_key(provider) for provider in _providers())

    def _alias(self, name: str) -> Alias | None:
        if name in self._aliases:
            return self._aliases[name]
        return next((alias for pattern, alias in self._aliases.items() if fnmatchcase(name, pattern)), None)

    def _provider(self, target: str) -> str | None:
        prefix, slash, _ = target.partition("/")
        if slash and prefix in _providers():
            return prefix
        if entry := _prices().get(target):
            # Gemini's bare names are Vertex AI's in the table; who has only a Gemini key means that one.
            if entry["provider"] == "vertex_ai" and f"gemini/{target}" in _prices() and not self._has_key("vertex_ai"):
                return "gemini"
            return str(entry["provider"])
        return next((provider for start, provider in _FAMILIES.items() if target.startswith(start)), None)

    def _has_key(self, provider: str) -> bool:
        """Whether the environment holds a credential; never true for a provider that needs none."""
        return any(all(self._environ.get(variable) for variable in way) for way in _ways(provider))

    def _check_credentials(self, provider: str, name: str) -> None:
        ways = _ways(provider)
        if ways and not self._has_key(provider):
            missing = [variable for variable in ways[0] if not self._environ.get(variable)]
            raise NoCredentials(
                f"the model {quote(name)} is {provider}'s, and this server has no credentials for it: "
                f"set {' and '.join(missing)}"
            )


def _check_target(target: str, name: str) -> None:
    """Refuse names that could send a request, with a key, to a place that the client chose."""
    if not _TARGET.fullmatch(target) or _MISLEADING.search(target):
        raise UnknownModel(f"{quote(name)} is not a model's name")


def _check_provider(target: str, provider: str, name: str) -> None:
    """Refuse names that litellm, looking at their text, would give to another provider than their prefix says."""
    diverted = any(text in target and provider not in providers for text, providers in _DIVERTED.items())
    bare = target.removeprefix("azure/")
    other_than_azure = f"mistral/{bare}" in _prices() or _prices().get(bare, {}).get("provider") == "cohere_chat"
    if diverted or (provider == "azure" and other_than_azure):
        raise UnknownModel(f"{quote(name)} would not reach {provider}")


def _is_glob(pattern: str) -> bool:
    return any(char in pattern for char in "*?[")


@cache
def _providers() -> dict[str, dict[str, Any]]:
    return _data("providers.json")["providers"]


@cache
def _prices() -> dict[str, dict[str, Any]]:
    return _data("prices.json")["models"]


def _data(file: str) -> dict[str, Any]:
    return orjson.loads(resources.files("app.llm").joinpath(file).read_bytes())


def _ways(provider: str) -> Sequence[Sequence[str]]:
    """The sets of variables that each make up one way to hold this provider's credentials; none needed if empty."""
    return _providers()[provider]["credentials"]


def _entry(target: str, provider: str) -> dict[str, Any]:
    """The price table's entry; the table names some models with their provider and some without."""
    bare = target.removeprefix(f"{provider}/")
    for name in (target, f"{provider}/{bare}", bare):
        entry = _prices().get(name)
        if entry and entry["provider"] == provider:
            return entry
    return {}


def _alias_price(alias: Alias | None) -> Price | None:
    if alias is None or alias.price is None:
        return None
    return Price(input=alias.price.input, output=alias.price.output, cached_input=alias.price.cached_input)


def _table_price(entry: dict[str, Any]) -> Price | None:
    if "input" not in entry or "output" not in entry:
        return None
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
            )
            for tier in entry.get("tiers", ())
        ),
    )
