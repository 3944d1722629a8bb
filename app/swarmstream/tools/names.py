"""The names that tools can have."""

import re
from typing import Final

from swarmstream.errors import quote
from swarmstream.tools.errors import ToolDefinitionError

RESERVED_NAMES: Final = frozenset(["create_plan", "subtask_done", "handoff"])
"""Names of the engine's own tools, for agents that plan or hand off."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def is_name(name: str) -> bool:
    """Return True if models can be offered a tool of this name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return the name.

    Raises:
        ToolDefinitionError: models cannot be offered a tool of this name.
    """
    if not is_name(name):
        raise ToolDefinitionError(f"{quote(name)} cannot be a tool's name: 1 to 64 of a-z A-Z 0-9 _ -")
    return name
