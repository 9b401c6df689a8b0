"""The proxy of a provider's calls. Credentials come from the environment, never from the fleet's file."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented in urllib's code only

import httpx

from providers.transport.failures import Cause, ConnectFailed
from routing.fleet import Provider

ENVIRONMENT: Final = "env"
"""``proxy = "env"``: HTTPS_PROXY or HTTP_PROXY, ALL_PROXY and NO_PROXY decide, in capitals or not."""


def proxy_of(provider: Provider, environ: Mapping[str, str]) -> httpx.Proxy | None:
    """Return the proxy of ``provider``'s calls, with its credentials. Raises ConnectFailed for one that cannot be
    used."""
    if provider.proxy is None:
        return None
    if provider.proxy == ENVIRONMENT:
        url = environment_proxy(provider.base_url, environ)
        return None if url is None else _proxy(url)
    login: tuple[str, str] | None = None
    if provider.proxy_login_env is not None:
        user, colon, password = environ.get(provider.proxy_login_env, "").partition(":")
        if not colon:
            raise ConnectFailed(Cause.CONFIGURATION)
        login = (user, password)
    return _proxy(provider.proxy, login)


def environment_proxy(base_url: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the environment's proxy for ``base_url``, or None if it has none or exempts the host.

    NO_PROXY has names, which include their subdomains, addresses, and ``*``. host:port is also supported.
    """
    parts = urlsplit(base_url)
    exempt = _variable("no_proxy", environ)
    if exempt and proxy_bypass_environment(parts.netloc, {"no": exempt}):
        return None
    url = _variable(f"{parts.scheme}_proxy", environ) or _variable("all_proxy", environ)
    if not url:
        return None
    return url if "://" in url else f"http://{url}"


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(name, "") or environ.get(name.upper(), "")


def _proxy(url: str, login: tuple[str, str] | None = None) -> httpx.Proxy:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConnectFailed(Cause.CONFIGURATION) from None  # the message holds the URL, and that a password
    if parts.scheme != "http" or not parts.hostname:
        raise ConnectFailed(Cause.CONFIGURATION)
    if parts.username is not None:
        login = (unquote(parts.username), unquote(parts.password or ""))
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return httpx.Proxy(f"http://{host}:{port or 80}", auth=login)
