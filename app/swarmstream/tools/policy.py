"""The tools and MCP hosts that a caller's agents may be given."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from swarmstream.errors import ToolNotAllowed, UnknownTool, quote
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.tools.base import Tool


@dataclass(frozen=True, slots=True)
class AllowedTools:
    """The caller's tools and MCP hosts; by default none."""

    toolbox: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    """All tools of the server by name, those of other callers as well."""
    hosts: AllowedHosts = field(default_factory=lambda: AllowedHosts(()))
    denied: frozenset[str] = frozenset()
    """The names of tools that only other callers may use."""

    def get(self, name: str) -> Tool:
        """Return the tool of this name.

        Raises:
            UnknownTool: the server has no such tool.
            ToolNotAllowed: only other callers may use it.
        """
        tool = self.toolbox.get(name)
        if tool is None:
            raise UnknownTool(f"this server has no tool {quote(name)}; it has {', '.join(self.names())}")
        if name in self.denied:
            raise ToolNotAllowed(f"the tool {quote(name)} is not for this key")
        return tool

    def names(self) -> list[str]:
        """Return the names that this caller may use, in alphabetical order."""
        return sorted(name for name in self.toolbox if name not in self.denied)


class ToolPolicy:
    """The operator's rules on which caller may use which tool."""

    def __init__(
        self, toolbox: Mapping[str, Tool], hosts: AllowedHosts, allowed_keys: Mapping[str, Collection[str]]
    ) -> None:
        """`allowed_keys` has the owners that may use a tool, for each tool that is not for everybody."""
        self.hosts = hosts
        self._toolbox = toolbox
        self._allowed_keys = allowed_keys

    def of(self, owner: str) -> AllowedTools:
        """Return what this caller may use."""
        denied = frozenset(tool for tool, owners in self._allowed_keys.items() if owner not in owners)
        return AllowedTools(self._toolbox, self.hosts, denied)
