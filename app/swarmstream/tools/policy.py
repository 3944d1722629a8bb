"""What the agents of one caller may be given: tools by name, MCP servers by address."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from swarmstream.errors import ToolNotAllowed, UnknownTool, quote
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.settings import ENV_PREFIX, Settings
from swarmstream.tools.errors import ToolLoadError
from swarmstream.tools.functions import Tool
from swarmstream.tools.toolbox import Toolbox, installed_tools, load_tools


@dataclass(frozen=True, slots=True)
class ToolAccess:
    """One caller's. By itself: the built-in tools, and no MCP server."""

    box: Toolbox = field(default_factory=Toolbox)
    hosts: AllowedHosts = field(default_factory=lambda: AllowedHosts(()))
    withheld: frozenset[str] = frozenset()
    """The names of tools that are for other callers."""

    def named(self, name: str) -> Tool:
        """The tool of this name.

        Raises:
            UnknownTool: there is none.
            ToolNotAllowed: it is for other callers.
        """
        tool = self.box.get(name)
        if tool is None:
            raise UnknownTool(f"this server has no tool {quote(name)}; it has {', '.join(self.names())}")
        if name in self.withheld:
            raise ToolNotAllowed(f"the tool {quote(name)} is not for this key")
        return tool

    def names(self) -> list[str]:
        """All that this caller may use, in alphabetical order."""
        return [name for name in self.box.names() if name not in self.withheld]


def operators_tools(settings: Settings) -> ToolAccess:
    """All that there is, as the settings say it.

    Raises:
        ToolLoadError: they cannot be followed.
    """
    box = Toolbox(load_tools(settings.tools, installed_tools()))
    try:
        return ToolAccess(box, AllowedHosts(settings.mcp_allowed_hosts))
    except ValueError as error:
        raise ToolLoadError(f"{ENV_PREFIX}MCP_ALLOWED_HOSTS: {error}") from error


class ToolPolicy:
    """The operator's word on who may use what."""

    def __init__(self, box: Toolbox, hosts: AllowedHosts, keepers: Mapping[str, Collection[str]]) -> None:
        """`keepers` has, for each tool that is not for everybody, the callers that it is for."""
        self.hosts = hosts
        self._box = box
        self._keepers = keepers

    def of(self, caller: str) -> ToolAccess:
        """What this caller may use."""
        withheld = frozenset(tool for tool, callers in self._keepers.items() if caller not in callers)
        return ToolAccess(self._box, self.hosts, withheld)
