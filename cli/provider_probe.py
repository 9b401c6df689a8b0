"""What `doctor` finds out about reaching the fleet's providers, and what to do about it."""

from collections.abc import Iterator, Mapping
from typing import Final, assert_never
from urllib.parse import urlsplit

from providers.client import ProviderClient
from providers.transport.failures import Cause
from providers.transport.proxy import environment_proxy
from routing.fleet import Fleet, Provider
from routing.outcome import Failure, FailureKind

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


async def probe_providers(
    fleet: Fleet, names: list[str], environ: Mapping[str, str]
) -> list[tuple[str, Failure | None]]:
    """Asks each provider for its list of models, one after the other."""
    pool = ProviderClient(fleet, environ=environ)
    try:
        return [(name, await pool.probe(name)) for name in names]
    finally:
        await pool.aclose()


def environment_ignored(provider: Provider, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What the environment says of the way to ``provider`` and the fleet does not take up, each with its fix."""
    parts = urlsplit(provider.base_url)
    if parts.hostname in _LOOPBACK:
        return
    if provider.proxy is None and environment_proxy(provider.base_url, environ) is not None:
        found = f"{parts.scheme.upper()}_PROXY or ALL_PROXY is set, and calls to {provider.name} do not use it"
        yield found, f'Set proxy = "env" in [providers.{provider.name}] to use it, or add the host to NO_PROXY.'
    if provider.ca_bundle is None and parts.scheme == "https" and environ.get("SSL_CERT_FILE"):
        found = f"SSL_CERT_FILE is set, and calls to {provider.name} do not use it"
        yield found, f"Set ca_bundle in [providers.{provider.name}] to that path to use it."


def fix_of(failure: Failure, provider: Provider) -> str:
    """What to do about a probe that failed."""
    if failure.status is None and failure.cause in set(Cause):
        return _fix_of_cause(Cause(failure.cause), provider)
    match failure.kind:
        case FailureKind.BILLING:
            return "Quota: add credit to the account."
        case FailureKind.AUTH:
            return f"Key: check {provider.api_key_env or 'api_key_env'} and what the key may do."
        case FailureKind.RATE_LIMITED:
            return "Quota: wait, or raise the account's limits."
        case FailureKind.NOT_FOUND:
            return "It answers, but has no list of models under base_url. Check base_url; some gateways have none."
        case FailureKind.OVERLOADED | FailureKind.SERVER_ERROR:
            return "The provider is down or overloaded. Try again, and look at its status page."
        case _:
            return "Check kind and base_url of the provider."


def _fix_of_cause(cause: Cause, provider: Provider) -> str:
    match cause:
        case Cause.DNS_NOT_FOUND | Cause.DNS_FAILED:
            return "DNS: check the host in base_url, or set proxy if only a proxy resolves it."
        case Cause.CONNECT_REFUSED | Cause.CONNECT_TIMEOUT | Cause.CONNECT_UNREACHABLE | Cause.CONNECT_FAILED:
            return "Connection: check port and firewall, or set proxy if calls must leave through one."
        case Cause.TLS_UNTRUSTED:
            return "TLS: set ca_bundle to the certificate of the authority that signed the server's."
        case Cause.TLS_EXPIRED:
            return "TLS: the server's certificate has expired, or the clock here is wrong."
        case Cause.TLS_WRONG_NAME:
            return "TLS: the certificate is for another name. Use that name in base_url."
        case Cause.TLS_BAD_CERTIFICATE | Cause.TLS_HANDSHAKE:
            return "TLS: check that the port speaks TLS, and the certificates."
        case Cause.PROXY_UNREACHABLE:
            return "Proxy: check the proxy's host and port."
        case Cause.PROXY_AUTH:
            return f"Proxy: check the login in {provider.proxy_login_env or 'the proxy variable'}."
        case Cause.PROXY_REFUSED:
            return "Proxy: it does not connect to this host. Have the host allowed there."
        case Cause.CONFIGURATION:
            return "Check proxy, proxy_login_env, ca_bundle, client_certificate and client_key of the provider."
        case Cause.RESET | Cause.CLOSED | Cause.BROKEN | Cause.INVALID_RESPONSE:
            return "Something other than the provider may be listening there. Check base_url and proxy."
        case Cause.DEADLINE:
            return "It accepts connections and does not answer. Check base_url, or try again."
        case _:
            assert_never(cause)
