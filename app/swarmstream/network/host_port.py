"""The host and the port of an MCP server's URL, in one plain way of writing.

Clients, resolvers and proxies read `0x7f.1`, `[::ffff:7f00:1]` or `localhost.` differently. A check of one reading
would let another through, so only the plain way is accepted.
"""

import re
from typing import Final, NamedTuple

from swarmstream.errors import McpHostRefused
from swarmstream.network.addresses import is_plain_address

MAX_URL_CHARACTERS: Final = 2_048

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?!.{254})(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""A host that some resolvers take for an address (WHATWG URL, "ends in a number")."""
_NETLOC = re.compile(r"(?P<host>\[[0-9a-f]*:[0-9a-f:.]*\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")


class HostPort(NamedTuple):
    """The place of a server on the network."""

    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(url: str) -> HostPort:
    """Return the host and the port of a URL.

    Raises:
        McpHostRefused: it cannot be the URL of an MCP server, or is not plainly written.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise McpHostRefused(f"the URL of an MCP server has at most {MAX_URL_CHARACTERS:,} characters")
    if not url.isascii() or not url.isprintable() or any(char in url for char in ' \\"<>'):
        raise McpHostRefused("the URL of an MCP server holds characters that cannot stand in a URL")
    scheme, _, rest = url.partition("://")
    port = _PORTS.get(scheme.lower())
    if port is None:
        raise McpHostRefused("the URL of an MCP server begins with https:// or http://")
    if "#" in rest or "@" in rest.partition("/")[0]:
        raise McpHostRefused("the URL of an MCP server cannot have a user, a password or a fragment")
    match = _NETLOC.fullmatch(re.split(r"[/?]", rest, maxsplit=1)[0].lower())
    if match is None or not (host := _plain_host(match["host"])):
        raise McpHostRefused("the URL of an MCP server names no host, or not in the plain way of writing it")
    if match["port"] is not None:
        port = int(match["port"])
    if not 0 < port < 65_536:
        raise McpHostRefused("the URL of an MCP server has a port that is none")
    return HostPort(host, port)


def url_origin(url: str) -> str:
    """Return scheme, host and port: as much of a URL as may be shown.

    Raises:
        McpHostRefused: as `parse_host_port`.
    """
    return f"{url.partition(':')[0].lower()}://{parse_host_port(url)}"


def is_host_name(host: str) -> bool:
    """Return True for a name in lower case, within the lengths that DNS allows."""
    return _NAME.fullmatch(host) is not None


def is_numeric(host: str) -> bool:
    """Return True for a host that some resolvers take for an address."""
    return _NUMBER.fullmatch(host) is not None


def _plain_host(written: str) -> str | None:
    host = written.strip("[]")
    if written.startswith("[") or is_numeric(host):
        return host if is_plain_address(host) else None
    return host if is_host_name(host) else None
