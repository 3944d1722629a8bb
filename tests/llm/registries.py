"""Registries, aliases and environments for tests."""

from pathlib import Path
from typing import Any, Literal

import orjson
import pytest

from swarmstream.errors import AppError
from swarmstream.llm.aliases import Alias
from swarmstream.llm.registry import Registry
from swarmstream.settings import BackendName

ROOT = Path(__file__).resolve().parents[2]
PROVIDERS = orjson.loads((ROOT / "app" / "swarmstream" / "llm" / "providers.json").read_bytes())["providers"]

EVERY_KEY = {name: "key" for facts in PROVIDERS.values() for way in facts["credentials"] for name in way}
"""An environment with the credentials of every provider."""

MILLION = 1_000_000
USAGE = {"stream_options": {"include_usage": True}}
AZURE = {"AZURE_API_KEY": "key", "AZURE_API_BASE": "https://mine.openai.azure.com"}


def registry(environ: dict[str, str] | None = None) -> Registry:
    return aliased({}, environ)


def aliased(
    aliases: dict[str, Alias], environ: dict[str, str] | None = None, backend: BackendName | Literal["auto"] = "auto"
) -> Registry:
    return Registry(default_model="gpt-4.1-mini", environ=environ or {}, aliases=aliases, backend=backend)


def local(name: str, **fields: Any) -> Alias:
    """An alias of a model that needs no credentials."""
    return Alias(model=f"openai/{name}", api_base="http://localhost:8000/v1", **fields)


def refused(error: type[AppError], name: str, models: Registry) -> str:
    with pytest.raises(error) as caught:
        models.resolve(name)
    assert type(caught.value) is error
    return caught.value.detail
