"""An MCP server as a plan names it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server that an agent may use. `headers` are secrets: never in a log, never in an error."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_seconds: float = 30.0
    """Of one call."""
