"""The operator's tools, imported by reference as the settings name them."""

import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from swarmstream.errors import quote
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.settings import ENV_PREFIX, Settings
from swarmstream.tools.base import Tool
from swarmstream.tools.errors import ToolDefinitionError, ToolLoadError
from swarmstream.tools.functions import as_tool
from swarmstream.tools.policy import AllowedTools
from swarmstream.tools.toolbox import toolbox

ENTRY_POINT_GROUP: Final = "swarmstream.tools"

_REFERENCE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")


def tools_from_settings(settings: Settings) -> AllowedTools:
    """Build the toolbox and the MCP allow-list from settings.

    Raises:
        ToolLoadError: a setting cannot be followed.
    """
    tools = load_tools(settings.tools, installed_tools())
    try:
        return AllowedTools(tools, AllowedHosts(settings.mcp_allowed_hosts))
    except ValueError as error:
        raise ToolLoadError(f"{ENV_PREFIX}MCP_ALLOWED_HOSTS: {error}") from error


def load_tools(references: Iterable[str], installed: Iterable[EntryPoint] = ()) -> Mapping[str, Tool]:
    """Import the tools that an operator names as `package.module:function`, and those of entry points.

    The result has the built-in tools, too. A tool has the name of its function or the one that `@tool` gave it,
    whatever its entry point is called.

    Raises:
        ToolLoadError: a tool cannot be imported or offered, or its name is taken.
    """
    named = [(reference, _import_tool(reference, reference)) for reference in references]
    entries = [(f"{each.name} = {each.value}", each.value) for each in installed]
    return toolbox([*named, *((reference, _import_tool(target, reference)) for reference, target in entries)])


def installed_tools() -> Iterable[EntryPoint]:
    """Return the entry points by which installed packages offer tools."""
    return entry_points(group=ENTRY_POINT_GROUP)


def _import_tool(target: str, reference: str) -> Tool:
    """Import the tool at `target`; errors name it by `reference`, as the operator knows it."""
    match = _REFERENCE.fullmatch(target)
    if not match:
        raise ToolLoadError(
            f"the tool {quote(reference)} is not of the form package.module:function{_module_hint(target)}"
        )
    try:
        found: Any = import_module(match["module"])
        for name in match["path"].split("."):
            found = getattr(found, name)
    # Importing runs the module: anything can be raised.
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}{_search_hint(match['module'], error) or _module_hint(target)}"
        raise ToolLoadError(f"the tool {quote(reference)} cannot be imported: {why}") from error
    try:
        return as_tool(found)
    except ToolDefinitionError as error:
        raise ToolLoadError(f"the tool {quote(reference)} cannot be offered: {error}") from error


def _module_hint(target: str) -> str:
    """Return a hint for a module that is given as its file."""
    file, colon, path = target.partition(":")
    if not file.endswith(".py"):
        return ""
    module = file.removesuffix(".py").strip("./").replace("/", ".")
    return f"; write {module}:{path}" if colon else f"; write {module}:function"


def _search_hint(module: str, error: BaseException) -> str:
    """Return a hint on where the module was looked for, or which file it is."""
    if isinstance(error, AttributeError) and (file := getattr(sys.modules.get(module), "__file__", None)):
        return f"; {module} is {file}"
    if module.endswith(".py") or not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    if error.name != module and not module.startswith(f"{error.name}."):
        return ""  # it is there, and imports another that is not
    return f"; looked in {', '.join(_search_path())}"


def _search_path() -> list[str]:
    """Return the folders where modules are looked for, without those of Python itself."""
    own = {Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))}
    folders = [Path(entry or os.getcwd()).absolute() for entry in sys.path]
    others = [path for path in folders if path.suffix != ".zip" and not own & {path, path.parent}]
    return [str(path) for path in dict.fromkeys(others) if path.is_dir()]
