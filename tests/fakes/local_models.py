"""A server whose models are a fake provider's, whatever name a client asks for."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.conftest import serving
from tests.fakes.upstream import Upstream

PROVIDER_KEY = "sk-provider-secret-0123456789"


@asynccontextmanager
async def local_models(upstream: Upstream, tmp_path: Path, **settings: Any) -> AsyncGenerator[str]:
    """The URL of a server that asks this provider, whatever model a client names."""
    aliases = tmp_path / "models.toml"
    aliases.write_text(
        f'["*"]\nmodel = "openai/local"\napi_base = "{upstream.base_url}"\napi_key_env = "LOCAL_KEY"\n'
        "price = { input = 1.0, output = 2.0 }\n"
    )
    async with serving(models_file=aliases, environ={"LOCAL_KEY": PROVIDER_KEY}, preload=True, **settings) as url:
        yield url
