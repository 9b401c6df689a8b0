"""Configuration of the HTTP service: optional environment variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers

from settings import SettingsError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8080
_IDENTITY_HEADER: Final = "POINTSMAN_API_IDENTITY_HEADER"
_TRUSTED_PROXIES: Final = "POINTSMAN_API_TRUSTED_PROXIES"


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """A proxy that authenticates users and sends their name in a header."""

    header: str
    addresses: tuple[IPv4Network | IPv6Network, ...]

    def identity(self, headers: Headers, peer: str | None) -> str | None:
        """Return the user of a request from ``peer``, or None if it is not from the proxy or does not name exactly one
        user."""
        named = headers.getlist(self.header)
        if len(named) != 1 or peer is None:
            return None
        try:
            is_trusted = any(ip_address(peer) in network for network in self.addresses)
        except ValueError:
            return None
        return named[0].strip() or None if is_trusted else None


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Sizes in bytes, times in seconds."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    max_file_bytes: int = 200 * 1024**2
    max_batch_lines: int = 50_000
    max_chat_bytes: int = 4 * 1024**2
    chat_timeout_s: float = 300.0
    """How long a chat completion waits for its answer. It is below the SDK's 600 s."""
    proxy: TrustedProxy | None = None
    """The proxy that authenticates users by a header. None: no header is accepted."""
    private_webhooks: bool = False
    """Whether webhooks may target this machine and its private network."""
    status_ttl_s: float = 1.0
    """The maximum age of a batch's status. However many clients poll, it is read once in this time."""
    poll_s: float = 1.0
    """The interval at which background jobs look for work."""

    @classmethod
    def load(cls, environ: Mapping[str, str], *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> "ApiConfig":
        """Read the configuration from ``POINTSMAN_API_*``. Raises SettingsError."""
        default = cls()
        return cls(
            host=host,
            port=port,
            max_file_bytes=_number(environ, "POINTSMAN_API_MAX_FILE_BYTES", default.max_file_bytes),
            max_batch_lines=_number(environ, "POINTSMAN_API_MAX_BATCH_LINES", default.max_batch_lines),
            max_chat_bytes=_number(environ, "POINTSMAN_API_MAX_CHAT_BYTES", default.max_chat_bytes),
            chat_timeout_s=_number(environ, "POINTSMAN_API_CHAT_TIMEOUT_S", int(default.chat_timeout_s)),
            proxy=_proxy(environ),
            private_webhooks=environ.get("POINTSMAN_API_PRIVATE_WEBHOOKS") == "1",
        )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def _proxy(environ: Mapping[str, str]) -> TrustedProxy | None:
    header, given = environ.get(_IDENTITY_HEADER, "").strip(), environ.get(_TRUSTED_PROXIES, "").strip()
    if not header and not given:
        return None
    if not header or not given:
        raise SettingsError(f"{_IDENTITY_HEADER} and {_TRUSTED_PROXIES} depend on each other. Set both, or neither.")
    try:
        addresses = tuple(ip_network(each.strip()) for each in given.split(","))
    except ValueError:
        message = f"{_TRUSTED_PROXIES} must be addresses or networks, such as 10.0.0.5,10.1.0.0/16."
        raise SettingsError(message) from None
    return TrustedProxy(header, addresses)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    raw = environ.get(name)
    if not raw:
        return default
    if not raw.isascii() or not raw.isdecimal() or int(raw) < 1:
        raise SettingsError(f"{name} must be a whole number above 0.")
    return int(raw)
