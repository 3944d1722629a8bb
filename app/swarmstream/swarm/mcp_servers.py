"""The MCP servers that a payload names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from swarmstream.errors import AppError, InvalidRequest, LimitExceeded, Location, UnsupportedOption, quote
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.swarm.payloads import AgentSpec, McpConfig, McpConfigs
from swarmstream.tools.mcp.server import McpServer

MAX_SERVERS_OF_AN_AGENT: Final = 8
MAX_SERVERS_OF_A_REQUEST: Final = 16
"""Different ones, of all its agents together."""

_TRANSPORTS = frozenset(["streamable_http", "streamable-http", "streamableHttp", "http"])
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")
_CONNECTION_HEADERS = frozenset(
    ["host", "content-length", "transfer-encoding", "connection", "accept", "accept-encoding"]
)
"""Headers that the connection sets itself (RFC 9110)."""


@dataclass(frozen=True, slots=True)
class McpServers:
    """The MCP servers of a request's agents."""

    hosts: AllowedHosts
    locations: dict[McpServer, Location] = field(default_factory=dict[McpServer, Location])
    """All servers so far, each with the field that names it first."""

    def of_agent(self, spec: AgentSpec, at: Location) -> tuple[McpServer, ...]:
        """Return the servers of an agent, and remember where they are named.

        Raises:
            AppError: one cannot be used, or there are too many.
        """
        configs = list(_configs(spec, at))
        if len(configs) > MAX_SERVERS_OF_AN_AGENT:
            raise LimitExceeded(
                f"an agent may have {MAX_SERVERS_OF_AN_AGENT} MCP servers", location=(*at, "mcp_configs")
            )
        return tuple(self._server(config, where) for config, where in configs)

    def _server(self, config: McpConfig, at: Location) -> McpServer:
        url_at = at if at[-1] == "mcp_url" else (*at, "url")
        if config.transport not in _TRANSPORTS:
            raise UnsupportedOption(
                "MCP servers are reached by streamable_http; programs are not started and sse is not spoken",
                location=(*at, "transport"),
            )
        if not config.url:
            has_command = "command" in (config.model_extra or {})
            why = (
                "; programs (stdio) are not started, put a bridge to Streamable HTTP before one" if has_command else ""
            )
            raise InvalidRequest(f"an MCP server needs its url{why}", location=url_at)
        try:
            self.hosts.check_url(config.url)
        except AppError as error:
            error.location = url_at
            raise
        limit = {} if config.timeout is None else {"timeout_seconds": config.timeout}
        server = McpServer(config.url, _headers(config, at), **limit)
        self.locations.setdefault(server, url_at)
        if len(self.locations) > MAX_SERVERS_OF_A_REQUEST:
            raise LimitExceeded(
                f"the agents of a request may have {MAX_SERVERS_OF_A_REQUEST} MCP servers, all together",
                location=url_at,
            )
        return server


def _configs(spec: AgentSpec, at: Location) -> Iterator[tuple[McpConfig, Location]]:
    """Yield what the three fields of an agent name, in their order, with the location of each."""
    if spec.mcp_url:
        yield McpConfig(url=spec.mcp_url), (*at, "mcp_url")
    if spec.mcp_config is not None and spec.mcp_config.model_fields_set:
        yield spec.mcp_config, (*at, "mcp_config")
    if spec.mcp_configs is not None:
        configs, where = spec.mcp_configs, (*at, "mcp_configs")
        if isinstance(configs, McpConfigs):
            configs, where = configs.connections, (*where, "connections")
        for index, config in enumerate(configs):
            yield config, (*where, index)


def _headers(config: McpConfig, at: Location) -> tuple[tuple[str, str], ...]:
    headers = {name.lower(): value for name, value in config.headers.items()}
    if config.authorization_token:
        token = config.authorization_token
        headers.setdefault("authorization", token if token.lower().startswith("bearer ") else f"Bearer {token}")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or name in _CONNECTION_HEADERS:
            raise InvalidRequest(f"{quote(name)} cannot be sent as a header", location=(*at, "headers"))
    return tuple(headers.items())
