"""The kinds of tools that a turn's model may be offered, behind one protocol.

| kind | toolset | a call of one |
|---|---|---|
| functions, built-in tools | `ServerTools` | is answered here; the turn goes on |
| tools of MCP servers | `ServerTools` | is answered through the session; the turn goes on |
| handoffs | `handoff.Handoffs` | is answered here; once one is accepted the turn ends |
| the client's | `ClientTools` | is answered by the client: the calls are the turn's answer |
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, cast

from swarmstream.llm.messages import JsonObject
from swarmstream.tools.functions import Tool


class Toolset(Protocol):
    """Tools of one kind, for one turn."""

    @property
    def ends_turn(self) -> bool:
        """True once a call has ended the turn: the model is not called again."""
        ...

    @property
    def tools(self) -> Mapping[str, Tool | None]:
        """The tools by name; None stands for one that the client answers."""
        ...

    def schemas(self) -> Mapping[str, JsonObject]:
        """Return the tools in OpenAI's format, by name and in the order in which models are offered them."""
        ...


class ServerTools:
    """Tools that are answered here. Of two with one name the first counts."""

    ends_turn = False

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.tools: dict[str, Tool] = {}
        for tool in tools:
            self.tools.setdefault(tool.name, tool)

    def schemas(self) -> Mapping[str, JsonObject]:
        return {name: tool.schema() for name, tool in self.tools.items()}


class ClientTools:
    """Tools that the client answers, as its payload has them."""

    ends_turn = False

    def __init__(self, schemas: Sequence[JsonObject]) -> None:
        self._schemas = {cast(str, cast(JsonObject, schema["function"])["name"]): schema for schema in schemas}
        self.tools = dict.fromkeys(self._schemas)

    def schemas(self) -> Mapping[str, JsonObject]:
        return self._schemas


def without_taken(tools: Iterable[Tool], others: Iterable[Toolset]) -> tuple[ServerTools, list[str]]:
    """Return the tools whose names no other toolset has, and the names of the rest."""
    taken = {name for toolset in others for name in toolset.tools}
    listed = list(tools)
    free = ServerTools(tool for tool in listed if tool.name not in taken)
    return free, [tool.name for tool in listed if tool.name in taken]
