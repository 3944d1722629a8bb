"""The hosts on which an operator allows MCP servers.

Two questions are asked at two times. When a payload comes, `check_url` asks if the host may be named. When a connection
is made, `check_address` asks if the address that the name led to just then may be reached: a name that is allowed could
otherwise be pointed at the operator's own network (DNS rebinding).

| the URL has | its name or address is listed | it leads to | outcome |
|---|---|---|---|
| a name | no | | refused, before a look-up |
| a name | yes | a public address | allowed |
| a name | yes | another address | allowed if that address is listed, too |
| `localhost` | yes, as `localhost` | the loopback | allowed |
| an address | as an address or a network | | allowed |
| a public address | by `*` | | allowed |
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from swarmstream.errors import McpHostRefused, quote
from swarmstream.network.addresses import Address, Network, is_public, parse_address
from swarmstream.network.host_port import HostPort, is_host_name, is_numeric, parse_host_port

_ENTRY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LOCALHOST = "localhost"
_SETTING = "SWARMSTREAM_MCP_ALLOWED_HOSTS"


@dataclass(frozen=True, slots=True)
class _Names:
    """An entry that names hosts: a single one, all below a name, or every public one."""

    suffix: str
    """With its leading dot if it stands for all below; a dot alone stands for every public host."""
    port: int | None

    def __contains__(self, place: HostPort) -> bool:
        if self.suffix == "." and place.host == _LOCALHOST:
            return False
        is_below = self.suffix.startswith(".") and (self.suffix == "." or place.host.endswith(self.suffix))
        return (is_below or place.host == self.suffix) and self.port in {None, place.port}


@dataclass(frozen=True, slots=True)
class _Addresses:
    """An entry for the addresses of a network, or for a single address."""

    network: Network
    port: int | None

    def has(self, address: Address, port: int) -> bool:
        return address in self.network and self.port in {None, port}


class AllowedHosts:
    """The hosts of an operator's list."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Parse the entries: `host`, `host:port`, `*.example.com`, `*` (every public host), an address (`[::1]:8000`)
        or a network (`10.0.0.0/8`).

        Raises:
            ValueError: an entry has another form.
        """
        self._names: list[_Names] = []
        self._addresses: list[_Addresses] = []
        for entry in entries:
            match _parse_entry(entry):
                case _Names() as names:
                    self._names.append(names)
                case _Addresses() as addresses:
                    self._addresses.append(addresses)

    def check_url(self, url: str) -> None:
        """Check that a server may be named, as far as its URL tells.

        Raises:
            McpHostRefused: its host is not allowed, or not plainly written.
        """
        place = parse_host_port(url)
        address = parse_address(place.host)
        if address is not None:
            self._check(address, place, is_named=False)
        elif not self._has_name(place):
            raise self._refusal(place)

    def check_address(self, host: str, port: int, address: str) -> None:
        """Check that a connection to this host may go to this address, to which its name led just now.

        Raises:
            McpHostRefused: it may not.
        """
        place = HostPort(host.lower(), port)
        is_named = parse_address(place.host) is None
        if is_named and not self._has_name(place):
            raise self._refusal(place)
        self._check(ip_address(address), place, is_named=is_named)

    def _check(self, address: Address, place: HostPort, *, is_named: bool) -> None:
        if any(each.has(address, place.port) for each in self._addresses):
            return
        if is_public(address):
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
        hint = "; write it as the operator did: localhost and 127.0.0.1 are two" if _is_loopback(place.host) else ""
        return McpHostRefused(f"the MCP server {quote(str(place))} is not in this server's {_SETTING}{hint}")


def _is_loopback(host: str) -> bool:
    address = parse_address(host)
    return host == _LOCALHOST or (address is not None and address.is_loopback)


def _parse_entry(entry: str) -> _Names | _Addresses:
    """Parse one entry of an operator's list.

    Raises:
        ValueError: it has no known form.
    """
    written = entry.strip().lower()
    try:
        if parse_address(written) or "/" in written:
            return _Addresses(ip_network(written), None)
        match = _ENTRY.fullmatch(written)
        host, port = (match["host"], int(match["port"]) if match["port"] else None) if match else ("", None)
        if port is None or port < 65_536:
            if host.startswith("[") or is_numeric(host):
                return _Addresses(ip_network(host.strip("[]")), port)
            if host == "*":
                return _Names(".", port)
            if is_host_name(host.removeprefix("*.")):
                return _Names(host.removeprefix("*"), port)
    except ValueError as error:
        raise _malformed(entry) from error
    raise _malformed(entry)


def _malformed(entry: str) -> ValueError:
    return ValueError(
        f"{quote(entry)} names no hosts; write host, host:port, *.example.com, an address, a network such as "
        "10.0.0.0/8, or * for every public host"
    )
