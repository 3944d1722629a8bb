"""The kinds of journals that every test of the port holds for."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from swarmstream.journal.base import Journal
from tests.journal.kinds import SqlitePlace, memory_journal, sqlite_journal


@pytest.fixture(params=[memory_journal, sqlite_journal])
async def journal(request: pytest.FixtureRequest) -> AsyncGenerator[Journal]:
    async with request.param() as journal:
        yield journal


@pytest.fixture(params=[SqlitePlace])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> SqlitePlace:
    """The place of journals that outlive their process."""
    return request.param(tmp_path / "store")
