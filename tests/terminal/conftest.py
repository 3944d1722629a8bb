"""Payload files."""

import json
from pathlib import Path

import pytest

from tests.terminal.command import AGENT, SWARM


@pytest.fixture
def swarm(tmp_path: Path) -> str:
    path = tmp_path / "swarm.json"
    path.write_text(json.dumps(SWARM))
    return str(path)


@pytest.fixture
def agent(tmp_path: Path) -> str:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(AGENT))
    return str(path)
