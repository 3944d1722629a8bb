"""The provider of the tests of the library."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.clients.process import OPENAI_KEY
from tests.fakes.upstream import Script, Upstream, provider
from tests.library.teams import Serve, loops


@pytest.fixture(autouse=True)
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a provider that this process takes for OpenAI. At the end of the test, no thread of a run is left."""

    @asynccontextmanager
    async def serving(script: Script, *, keeps_alive: bool = False) -> AsyncGenerator[Upstream]:
        async with provider(script, keeps_alive=keeps_alive) as upstream:
            monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
            monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
            yield upstream

    yield serving
    assert not loops()
