"""Whether an HTTP request comes from a program of this machine, and not from a web page or through a proxy.

A page in this machine's browser can reach a service on loopback, from its own origin or through a name that resolves to
loopback. A reverse proxy on this machine makes the whole network local. None of our clients sends any of these headers.
"""

from collections.abc import Mapping
from typing import Final

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROXIES: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def is_local_program(headers: Mapping[str, str]) -> bool:
    """Whether ``headers``, a case-insensitive mapping, are those of a local program's request."""
    host = headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    origin = headers.get("origin")
    return (
        name.lower() in _LOCAL_NAMES
        and not is_foreign
        and (origin is None or origin == f"http://{host}")
        and not any(proxy in headers for proxy in _PROXIES)
    )
