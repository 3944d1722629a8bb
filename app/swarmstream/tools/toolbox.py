"""Which tools this server has: the built-in ones and the operator's."""

import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, cast

from pydantic import JsonValue

from swarmstream.errors import quote
from swarmstream.llm.base import JsonObject
from swarmstream.tools.builtin.offered import BUILTIN_TOOLS
from swarmstream.tools.errors import ToolDefinitionError, ToolLoadError
from swarmstream.tools.functions import Tool, as_tool

ENTRY_POINT_GROUP: Final = "swarmstream.tools"


RESERVED_NAMES: Final = frozenset(["create_plan", "subtask_done", "handoff"])
"""What the engine itself offers to agents that plan, or that may pass the word on."""

_TYPES: Final = frozenset(["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"])

_REFERENCE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")


class Toolbox:
    """The tools that agents may be given, by their names."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """The built-in ones and these.

        Raises:
            ToolLoadError: two have one name.
        """
        self._tools = dict(BUILTIN_TOOLS)
        for tool in _distinct((tool.name, tool) for tool in tools):
            self._tools[tool.name] = tool

    def doubts(self) -> Iterator[str]:
        """What models are not told of the operator's tools, in a sentence each."""
        for name, tool in self._tools.items():
            if name in BUILTIN_TOOLS:
                continue
            if not tool.description:
                yield f"the tool {quote(name)} has no docstring: models are not told what it does"
            properties = cast(JsonObject, tool.parameters.get("properties", {}))
            if untyped := [each for each, schema in properties.items() if not _is_typed(schema)]:
                named = ", ".join(map(quote, untyped))
                yield f"the tool {quote(name)} has no type for {named}: models may send anything there"

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def names(self) -> list[str]:
        """In alphabetical order."""
        return sorted(self._tools)

    def schemas(self, names: Iterable[str]) -> list[JsonObject]:
        """What a model is offered, in the order of these names.

        Raises:
            KeyError: there is no such tool.
        """
        return [self._tools[name].schema() for name in names]


def load_tools(references: Sequence[str], installed: Iterable[EntryPoint] = ()) -> list[Tool]:
    """The tools that an operator names as `package.module:function`, and those of these entry points.

    A tool has the name of its function or the one that `@tool` gave it, whatever its entry point is called.

    Raises:
        ToolLoadError: one cannot be imported or is no function, or its name is taken.
    """
    named = ((reference, _imported(reference, reference)) for reference in references)
    others = (
        (f"{each.name} = {each.value}", _imported(each.value, f"{each.name} = {each.value}")) for each in installed
    )
    return list(_distinct([*named, *others]))


def installed_tools() -> Iterable[EntryPoint]:
    """The entry points by which installed packages offer tools."""
    return entry_points(group=ENTRY_POINT_GROUP)


def _imported(target: str, reference: str) -> Tool:
    """What stands at `target`; `reference` is how the operator knows it."""
    match = _REFERENCE.fullmatch(target)
    if not match:
        raise ToolLoadError(f"the tool {quote(reference)} is not of the form package.module:function{_instead(target)}")
    try:
        found: Any = import_module(match["module"])
        for name in match["path"].split("."):
            found = getattr(found, name)
    # Importing runs the module: anything can be raised.
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}{_advice(match['module'], error) or _instead(target)}"
        raise ToolLoadError(f"the tool {quote(reference)} cannot be imported: {why}") from error
    try:
        return as_tool(found)
    except ToolDefinitionError as error:
        raise ToolLoadError(f"the tool {quote(reference)} cannot be offered: {error}") from error


def _is_typed(schema: JsonValue) -> bool:
    return isinstance(schema, dict) and not _TYPES.isdisjoint(schema)


def _instead(target: str) -> str:
    """What to write where the module is given as its file."""
    file, colon, path = target.partition(":")
    if not file.endswith(".py"):
        return ""
    module = file.removesuffix(".py").strip("./").replace("/", ".")
    return f"; write {module}:{path}" if colon else f"; write {module}:function"


def _advice(module: str, error: BaseException) -> str:
    """Where the module was looked for, or which file it is."""
    if isinstance(error, AttributeError) and (file := getattr(sys.modules.get(module), "__file__", None)):
        return f"; {module} is {file}"
    if module.endswith(".py") or not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    if error.name != module and not module.startswith(f"{error.name}."):
        return ""  # it is there, and imports another that is not
    return f"; looked in {', '.join(_places())}"


def _places() -> list[str]:
    """Where modules are looked for, but for Python's own."""
    own = {Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))}
    places = [Path(entry or os.getcwd()).absolute() for entry in sys.path]
    others = [path for path in places if path.suffix != ".zip" and not own & {path, path.parent}]
    return [str(path) for path in dict.fromkeys(others) if path.is_dir()]


def _distinct(tools: Iterable[tuple[str, Tool]]) -> Iterator[Tool]:
    """Those that came by these references, if each has a name of its own."""
    seen: dict[str, str] = {}
    for reference, tool in tools:
        if tool.name in BUILTIN_TOOLS or tool.name in RESERVED_NAMES:
            raise ToolLoadError(f"the tool {quote(reference)} is named {quote(tool.name)}, as a built-in one is")
        if tool.name in seen:
            first = quote(seen[tool.name])
            raise ToolLoadError(f"the tool {quote(reference)} is named {quote(tool.name)}, as {first} is")
        seen[tool.name] = reference
        yield tool
