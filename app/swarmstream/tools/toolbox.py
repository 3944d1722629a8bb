"""The tools of this server by name: the built-in ones and the operator's."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, cast

from pydantic import JsonValue

from swarmstream.errors import quote
from swarmstream.llm.messages import JsonObject
from swarmstream.tools.base import Tool
from swarmstream.tools.builtin.offered import BUILTIN_TOOLS
from swarmstream.tools.errors import ToolLoadError
from swarmstream.tools.names import RESERVED_NAMES

_TYPE_KEYWORDS: Final = frozenset(["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"])


def toolbox(tools: Iterable[tuple[str, Tool]] = ()) -> Mapping[str, Tool]:
    """Return the built-in tools and these by name. Each comes with the reference by which the operator named it.

    Raises:
        ToolLoadError: a name is taken.
    """
    references: dict[str, str] = {}
    added: dict[str, Tool] = {}
    for reference, tool in tools:
        if tool.name in BUILTIN_TOOLS or tool.name in RESERVED_NAMES:
            raise ToolLoadError(f"the tool {quote(reference)} is named {quote(tool.name)}, as a built-in one is")
        if tool.name in references:
            first = quote(references[tool.name])
            raise ToolLoadError(f"the tool {quote(reference)} is named {quote(tool.name)}, as {first} is")
        references[tool.name] = reference
        added[tool.name] = tool
    return MappingProxyType({**BUILTIN_TOOLS, **added})


def missing_descriptions(tools: Mapping[str, Tool]) -> Iterator[str]:
    """Yield a sentence for each thing that models cannot know of the operator's tools."""
    for name, tool in tools.items():
        if name in BUILTIN_TOOLS:
            continue
        if not tool.description:
            yield f"the tool {quote(name)} has no docstring: models are not told what it does"
        properties = cast(JsonObject, tool.parameters.get("properties", {}))
        if untyped := [each for each, schema in properties.items() if not _is_typed(schema)]:
            named = ", ".join(map(quote, untyped))
            yield f"the tool {quote(name)} has no type for {named}: models may send anything there"


def _is_typed(schema: JsonValue) -> bool:
    return isinstance(schema, dict) and not _TYPE_KEYWORDS.isdisjoint(schema)
