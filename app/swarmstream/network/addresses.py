"""IP addresses: which are plainly written, and which are public."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_GLOBAL_IPV6 = IPv6Network("2000::/3")
_NOT_PUBLIC: tuple[Network, ...] = tuple(
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
_WITH_IPV4_INSIDE = tuple(
    IPv6Network(each) for each in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/32", "2002::/16")
)


def parse_address(host: str) -> Address | None:
    """Return the address that a host is; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_plain_address(host: str) -> bool:
    """Return True for an address in its canonical form that does not stand for another one."""
    address = parse_address(host)
    return address is not None and str(address) == host and not _has_ipv4_inside(address)


def is_public(address: Address) -> bool:
    """Return True for an address that the whole Internet reaches."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if address.version == 6 and address not in _GLOBAL_IPV6:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _has_ipv4_inside(address: Address) -> bool:
    """Return True for an IPv6 address that stands for an IPv4 one."""
    if address.version == 4:
        return False
    has_low_bits_only = int(address) >> 32 == 0 and int(address) > 1
    return has_low_bits_only or any(address in network for network in _WITH_IPV4_INSIDE)
