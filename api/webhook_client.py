"""One POST of a webhook to a checked address, without redirects or proxies. Only the status of the response is read."""

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from providers.public_host import is_public
from providers.transport.factory import post_pinned
from providers.transport.failures import TRANSPORT_ERRORS, cause_of

MOST_LOOKUPS: Final = 20
_RESOLVERS: Final = ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="webhook-dns")
"""A separate pool of threads, because a name without an answer blocks a thread for half a minute."""


class ForbiddenAddress(Exception):
    """The URL of a webhook, or its address, is not allowed. The message says why."""


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The parts of a URL."""

    secure: bool
    host: str
    port: int
    path: str
    """The path with the query string."""

    @property
    def authority(self) -> str:
        """The host and port for the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL, without a user or a fragment."""
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"


def parse_target(url: str, *, private: bool) -> WebhookTarget:
    """Return the parts of ``url``. Plain http is allowed only with private addresses. Raises ForbiddenAddress."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ForbiddenAddress("The URL has characters that must be escaped.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ForbiddenAddress("It is not a URL.") from error
    if parts.scheme not in (("https", "http") if private else ("https",)):
        raise ForbiddenAddress("The URL must begin with https://.")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise ForbiddenAddress("The URL must name a host, and no user.")
    secure = parts.scheme == "https"
    path = parts.path or "/"
    target = WebhookTarget(
        secure, parts.hostname, port or (443 if secure else 80), path + (f"?{parts.query}" if parts.query else "")
    )
    try:
        literal = ip_address(target.host)
    except ValueError:
        return target
    if not private and not is_public(literal):
        raise ForbiddenAddress(
            "The URL's address is private. Use a public address, or ask the operator of this API to allow private ones."
        )
    return target


async def resolve(target: WebhookTarget, *, private: bool) -> list[str]:
    """Return the target's addresses, which are allowed. Raises ForbiddenAddress, or OSError if the name has none."""
    look_up = partial(socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, look_up)
    addresses = [ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    if not private and not all(is_public(address) for address in addresses):
        raise ForbiddenAddress("The host's address is private.")
    return [str(address) for address in addresses]


class WebhookDeliveryError(Exception):
    """No response came. The message says why, in our own words."""


async def post_webhook(
    target: WebhookTarget, body: bytes, headers: Mapping[str, str], *, private: bool, timeout_s: float
) -> int:
    """Send ``body`` and return the response's status. Raises WebhookDeliveryError, or ForbiddenAddress."""
    try:
        # A look-up cannot be cancelled, and holds a thread until it ends: until then it counts for its tenant.
        addresses = await resolve(target, private=private)
        async with asyncio.timeout(timeout_s):
            return await post_pinned(
                target.url,
                addresses=addresses,
                content=body,
                headers={"content-type": "application/json", "user-agent": "pointsman", **headers},
                connect_s=timeout_s,
            )
    except TimeoutError as error:
        raise WebhookDeliveryError(f"no response within {timeout_s:g} s") from error
    except (*TRANSPORT_ERRORS, UnicodeError) as error:  # UnicodeError: a name that is none
        raise WebhookDeliveryError(f"no response: {cause_of(error)}") from error
