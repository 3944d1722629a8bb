"""The built-in and the operator's tools that a payload selects by name."""

from collections.abc import Iterable
from typing import Final

from swarmstream.errors import AppError, LimitExceeded, Location, UnsupportedOption, quote
from swarmstream.swarm.findings import Findings
from swarmstream.swarm.payloads import AgentSpec
from swarmstream.tools.base import Tool
from swarmstream.tools.policy import AllowedTools

MAX_TOOLS: Final = 128
"""Of one agent: as many as OpenAI takes."""

_ALL_TOOLS = "all"
_ALWAYS_ON = frozenset(["create_plan", "think", "subtask_done", "complete_task", "respond_to_user"])
"""The hosted API's names for how an autonomous agent goes about its work: here it does, selected or not."""
_LEFT_OUT = frozenset(
    [
        "create_file",
        "update_file",
        "read_file",
        "list_directory",
        "delete_file",
        "create_sub_agent",
        "assign_task",
    ]
)
"""The hosted API's tools that this server lacks, and that an agent can work without: files, agents that make agents."""
_SHELL = "run_bash"
"""Refused: an agent that selects a shell cannot do its work without one."""


def select_agent_tools(spec: AgentSpec, at: Location, allowed: AllowedTools, findings: Findings) -> list[Tool]:
    """Return the tools of an agent's `selected_tools`, each once.

    Raises:
        AppError: a tool is unknown, not for this caller, or a shell.
    """
    at = (*at, "selected_tools")
    selected = spec.selected_tools or []
    if selected == [_ALL_TOOLS]:
        selected = _ALL_TOOLS
    if isinstance(selected, str):
        names = allowed.names() if selected == _ALL_TOOLS else [selected]
        return select_tools(names, at, allowed, findings, listed=False)
    return select_tools(selected, at, allowed, findings)


def select_tools(
    names: Iterable[str], at: Location, allowed: AllowedTools, findings: Findings, *, listed: bool = True
) -> list[Tool]:
    """Return the tools of these names, each once. `listed`: `at` is a list, whose items errors name.

    Raises:
        AppError: a tool is unknown, not for this caller, or a shell.
    """
    tools: list[Tool] = []
    left_out: list[str] = []
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            continue
        seen.add(name)
        is_operators = name in allowed.toolbox
        if name in _LEFT_OUT and not is_operators:
            left_out.append(name)
        elif name not in _ALWAYS_ON or is_operators:
            tools.append(_tool(name, (*at, index) if listed else at, allowed))
    if left_out:
        findings.ignore(at, f"without {', '.join(left_out)}: no files here, no agents that make agents")
    return tools


def _tool(name: str, at: Location, allowed: AllowedTools) -> Tool:
    if name == _SHELL and name not in allowed.toolbox:
        raise UnsupportedOption(f"{quote(name)} is not offered here, no model gets a shell; leave it out", location=at)
    try:
        return allowed.get(name)
    except AppError as error:
        error.location = at
        raise


def too_many_tools(at: Location) -> LimitExceeded:
    """Return the refusal of an agent with more than `MAX_TOOLS`."""
    return LimitExceeded(f"an agent may have {MAX_TOOLS} tools", location=at)
