"""Whether a host is on the public internet, by its name or address alone, without a look-up."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_EMBEDS_IPV4: Final = tuple(ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
_NOT_PUBLIC: Final = tuple(
    ip_network(net)
    for net in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "3fff::/20", "5f00::/16", "100::/63")
)
"""Networks that some versions of Python's table of addresses count as public: IANA's special-purpose registries of
2024, and the address at which Azure serves data of a machine to that machine."""
_INTERNAL: Final = (".svc", ".internal", ".local", ".localhost", ".lan", ".localdomain", ".home.arpa")
"""Endings of names that are not public. A name without a dot is not public either."""


def is_public_name(host: str) -> bool:
    """Whether ``host`` is a name that the public DNS may have, and not an address in any form."""
    name = host.lower().removesuffix(".")
    top = name.rpartition(".")[2]
    is_word = top.isalpha() or top.startswith("xn--")
    # Resolvers read full-width letters and the like as ASCII: such a name may lead inside.
    return name.isascii() and "." in name and is_word and not name.endswith(_INTERNAL)


def is_public_host(host: str) -> bool:
    """Whether ``host``, a name or an address as in a URL without brackets, is on the public internet."""
    try:
        return is_public(ip_address(host))
    except ValueError:
        return is_public_name(host)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is an address of the public internet, including any IPv4 address that it embeds."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in net for net in _EMBEDS_IPV4):
            return False
        if address.is_site_local:
            return False
    if any(address in net for net in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
