"""The checks of `doctor` on access to the fleet's providers, with the fixes."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from providers.client import ProviderClient
from providers.transport.failures import Cause
from providers.transport.proxy import environment_proxy
from routing.fleet import Fleet, Provider
from routing.outcome import Failure, FailureKind

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_PROVIDER_DOWN: Final = "The provider is down or overloaded. Try again, and look at its status page."
_NO_HOST: Final = "DNS: check the host in base_url, or set proxy if only a proxy resolves it."
_NO_CONNECTION: Final = "Connection: check port and firewall, or set proxy if calls must leave through one."
_NO_LIST: Final = (
    "The provider answers, but has no list of models under base_url. Check base_url. Some gateways have no such list."
)
_NO_TLS: Final = "TLS: check that the port speaks TLS, and the certificates."
_ANOTHER_SERVER: Final = "Something other than the provider may be listening there. Check base_url and proxy."


async def probe_providers(
    fleet: Fleet, names: list[str], environ: Mapping[str, str]
) -> list[tuple[str, Failure | None]]:
    """Request the list of models from each provider, one after the other."""
    pool = ProviderClient(fleet, environ=environ)
    try:
        return [(name, await pool.probe(name)) for name in names]
    finally:
        await pool.aclose()


def environment_ignored(provider: Provider, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Return the settings of the environment for connections to ``provider`` that the fleet does not use, each with its
    fix."""
    parts = urlsplit(provider.base_url)
    if parts.hostname in _LOOPBACK:
        return
    if provider.proxy is None and environment_proxy(provider.base_url, environ) is not None:
        found = f"{parts.scheme.upper()}_PROXY or ALL_PROXY is set, and calls to {provider.name} do not use it"
        yield found, f'Set proxy = "env" in [providers.{provider.name}] to use it, or add the host to NO_PROXY.'
    if provider.ca_bundle is None and parts.scheme == "https" and environ.get("SSL_CERT_FILE"):
        found = f"SSL_CERT_FILE is set, and calls to {provider.name} do not use it"
        yield found, f"Set ca_bundle in [providers.{provider.name}] to that path to use it."


_FIXES: Final = {
    FailureKind.BILLING: "Quota: add credit to the account.",
    FailureKind.AUTH: "Key: check {key} and what the key may do.",
    FailureKind.RATE_LIMITED: "Quota: wait, or raise the account's limits.",
    FailureKind.NOT_FOUND: _NO_LIST,
    FailureKind.OVERLOADED: _PROVIDER_DOWN,
    FailureKind.SERVER_ERROR: _PROVIDER_DOWN,
}

_FIXES_BY_CAUSE: Final = {
    Cause.DNS_NOT_FOUND: _NO_HOST,
    Cause.DNS_FAILED: _NO_HOST,
    Cause.CONNECT_REFUSED: _NO_CONNECTION,
    Cause.CONNECT_TIMEOUT: _NO_CONNECTION,
    Cause.CONNECT_UNREACHABLE: _NO_CONNECTION,
    Cause.CONNECT_FAILED: _NO_CONNECTION,
    Cause.TLS_UNTRUSTED: "TLS: set ca_bundle to the certificate of the authority that signed the server's.",
    Cause.TLS_EXPIRED: "TLS: the server's certificate has expired, or the clock here is wrong.",
    Cause.TLS_WRONG_NAME: "TLS: the certificate is for another name. Use that name in base_url.",
    Cause.TLS_BAD_CERTIFICATE: _NO_TLS,
    Cause.TLS_HANDSHAKE: _NO_TLS,
    Cause.PROXY_UNREACHABLE: "Proxy: check the proxy's host and port.",
    Cause.PROXY_AUTH: "Proxy: check the login in {login}.",
    Cause.PROXY_REFUSED: "Proxy: the proxy refuses to connect to this host. Ask its operator to allow the host.",
    Cause.CONFIGURATION: "Check proxy, proxy_login_env, ca_bundle, client_certificate and client_key of the provider.",
    Cause.RESET: _ANOTHER_SERVER,
    Cause.CLOSED: _ANOTHER_SERVER,
    Cause.BROKEN: _ANOTHER_SERVER,
    Cause.INVALID_RESPONSE: _ANOTHER_SERVER,
    Cause.DEADLINE: "The server accepts connections and does not answer. Check base_url, or try again.",
}


def fix_of(failure: Failure, provider: Provider) -> str:
    if failure.status is None and failure.cause in set(Cause):
        fix = _FIXES_BY_CAUSE[Cause(failure.cause)]
    else:
        fix = _FIXES.get(failure.kind, "Check kind and base_url of the provider.")
    login, key_env = provider.proxy_login_env or "the proxy variable", provider.api_key_env or "api_key_env"
    return fix.format(key=key_env, login=login)
