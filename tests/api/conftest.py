"""Fixtures of tests over HTTP."""

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "sqlite"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "data" if request.param == "sqlite" else None
