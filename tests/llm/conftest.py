"""Fixtures of tests on connections to providers."""

from collections.abc import AsyncGenerator

import pytest

from swarmstream.llm.http.pool import ConnectionPool
from tests.llm.authority import Authority, make_authority
from tests.llm.callers import connected


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def connections() -> AsyncGenerator[ConnectionPool]:
    async with connected() as pool:
        yield pool
