"""Which hosts an operator lets MCP servers be on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

from swarmstream.errors import McpHostRefused, quote

MAX_URL_CHARACTERS: Final = 2_048

_Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?!.{254})(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""What some resolvers take for an address (WHATWG URL, "ends in a number")."""
_NETLOC = re.compile(r"(?P<host>\[[0-9a-f]*:[0-9a-f:.]*\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_ENTRY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LOCALHOST = "localhost"
_SETTING = "SWARMSTREAM_MCP_ALLOWED_HOSTS"

_GLOBAL_IPV6 = IPv6Network("2000::/3")
_NOT_PUBLIC: tuple[_Network, ...] = tuple(
    ip_network(each)
    for each in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",  # what a machine in Azure asks about itself
        "2001::/23",  # Teredo among others
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
    )
)


@dataclass(frozen=True, slots=True)
class _Names:
    """An entry that names hosts: one, all below a name, or every public one."""

    suffix: str
    """With its dot if it is for what is below."""
    port: int | None

    def __contains__(self, place: "_Place") -> bool:
        if self.suffix == "." and place.host == _LOCALHOST:
            return False
        below = self.suffix.startswith(".") and (self.suffix == "." or place.host.endswith(self.suffix))
        return (below or place.host == self.suffix) and self.port in {None, place.port}


@dataclass(frozen=True, slots=True)
class _Addresses:
    network: _Network
    port: int | None

    def has(self, address: _Address, port: int) -> bool:
        return address in self.network and self.port in {None, port}


class HostPort(NamedTuple):
    """Where a server is said to be."""

    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class AllowedHosts:
    """The hosts of an operator's list. Names and addresses go by different entries: a name that is allowed may lead to
    public addresses, and to others only if these are allowed, too."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Entries are `host`, `host:port`, `*.example.com`, `*` (every public host), an address (`[::1]:8000`) or a
        network (`10.0.0.0/8`). Addresses that are not public are allowed by an entry for them; `localhost` alone, if
        it is an entry, may lead to the loopback.

        Raises:
            ValueError: an entry is none of these.
        """
        self._names: list[_Names] = []
        self._addresses: list[_Addresses] = []
        for entry in entries:
            match _read(entry):
                case _Names() as names:
                    self._names.append(names)
                case _Addresses() as addresses:
                    self._addresses.append(addresses)

    def check_url(self, url: str) -> None:
        """Whether a server may be asked for at all, as far as its URL tells.

        Raises:
            McpHostRefused: its host is not allowed, or is not written in the one plain way.
        """
        place = parse_host_port(url)
        address = _address(place.host)
        if address is not None:
            self._check(address, place, is_named=False)
        elif not self._has_name(place):
            raise self._refusal(place)

    def check_address(self, host: str, port: int, address: str) -> None:
        """Whether a connection to this host may go to this address, which is what its name led to just now.

        Raises:
            McpHostRefused: it may not.
        """
        place = HostPort(host.lower(), port)
        is_named = _address(place.host) is None
        if is_named and not self._has_name(place):
            raise self._refusal(place)
        self._check(ip_address(address), place, is_named=is_named)

    def _check(self, address: _Address, place: HostPort, *, is_named: bool) -> None:
        if any(each.has(address, place.port) for each in self._addresses):
            return
        if _is_public(address):
            if self._has_name(place):
                return
        elif is_named and place.host == _LOCALHOST and address.is_loopback:
            return
        elif is_named:
            raise McpHostRefused(f"the MCP server {quote(str(place))} has an address that this server does not allow")
        raise self._refusal(place)

    def _has_name(self, place: HostPort) -> bool:
        return any(place in each for each in self._names)

    def _refusal(self, place: HostPort) -> McpHostRefused:
        if not self._names and not self._addresses:
            return McpHostRefused(f"this server allows no MCP servers: its operator sets {_SETTING}")
        hint = "; write it as the operator did: localhost and 127.0.0.1 are two" if _is_here(place.host) else ""
        return McpHostRefused(f"the MCP server {quote(str(place))} is not in this server's {_SETTING}{hint}")


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == _LOCALHOST or (address is not None and address.is_loopback)


def url_origin(url: str) -> str:
    """Scheme, host and port: as much of a URL as may be shown.

    Raises:
        McpHostRefused: it is no URL of an MCP server.
    """
    return f"{url.partition(':')[0].lower()}://{place_of(url)}"


def parse_host_port(url: str) -> HostPort:
    """Where a URL leads.

    Only one way of writing a host is taken: what others make of `0x7f.1`, `[::ffff:7f00:1]` or `localhost.` differs.

    Raises:
        McpHostRefused: it is no URL of an MCP server.
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


def _plain_host(written: str) -> str | None:
    host = written.strip("[]")
    if written.startswith("[") or _NUMBER.fullmatch(host):
        return host if _is_plain_address(host) else None
    return host if _NAME.fullmatch(host) else None


def _is_plain_address(host: str) -> bool:
    address = _address(host)
    return address is not None and str(address) == host and not _holds_another(address)


def _address(host: str) -> _Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _holds_another(address: _Address) -> bool:
    """Whether it is an IPv6 address that stands for an IPv4 one."""
    if address.version == 4:
        return False
    nothing_above = int(address) >> 32 == 0 and int(address) > 1
    return nothing_above or any(
        address in IPv6Network(each) for each in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/32", "2002::/16")
    )


def _is_public(address: _Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if address.version == 6 and address not in _GLOBAL_IPV6:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _read(entry: str) -> _Names | _Addresses:
    """One entry of an operator's list."""
    written = entry.strip().lower()
    try:
        if _address(written) or "/" in written:
            return _Addresses(ip_network(written), None)
        match = _ENTRY.fullmatch(written)
        host, port = (match["host"], int(match["port"]) if match["port"] else None) if match else ("", None)
        if port is None or port < 65_536:
            if host.startswith("[") or _NUMBER.fullmatch(host):
                return _Addresses(ip_network(host.strip("[]")), port)
            if host == "*":
                return _Names(".", port)
            if _NAME.fullmatch(host.removeprefix("*.")):
                return _Names(host.removeprefix("*"), port)
    except ValueError as error:
        raise _wrong(entry) from error
    raise _wrong(entry)


def _wrong(entry: str) -> ValueError:
    return ValueError(
        f"{quote(entry)} names no hosts; write host, host:port, *.example.com, an address, a network such as "
        "10.0.0.0/8, or * for every public host"
    )
