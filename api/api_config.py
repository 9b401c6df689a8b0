"""How the service is set up: from the environment, all of it optional."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from settings import SettingsError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8080


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Sizes in bytes, times in seconds."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    max_file_bytes: int = 200 * 1024**2
    max_batch_lines: int = 50_000
    max_chat_bytes: int = 4 * 1024**2
    chat_timeout_s: float = 300.0
    """How long a chat completion waits for its answer; less than the SDK's own 600 s."""
    private_webhooks: bool = False
    """Whether webhooks may go to addresses of this machine and its network."""
    status_for_s: float = 1.0
    """How old a batch's status may be: however many poll, it is looked up once in this time."""
    look_s: float = 1.0
    """Between two looks at what is to be done in the background."""

    @classmethod
    def load(cls, environ: Mapping[str, str], *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> "ApiConfig":
        """What ``POINTSMAN_API_*`` say. Raises SettingsError."""
        default = cls()
        return cls(
            host=host,
            port=port,
            max_file_bytes=_number(environ, "POINTSMAN_API_MAX_FILE_BYTES", default.max_file_bytes),
            max_batch_lines=_number(environ, "POINTSMAN_API_MAX_BATCH_LINES", default.max_batch_lines),
            max_chat_bytes=_number(environ, "POINTSMAN_API_MAX_CHAT_BYTES", default.max_chat_bytes),
            chat_timeout_s=_number(environ, "POINTSMAN_API_CHAT_TIMEOUT_S", int(default.chat_timeout_s)),
            private_webhooks=environ.get("POINTSMAN_API_PRIVATE_WEBHOOKS") == "1",
        )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    given = environ.get(name)
    if not given:
        return default
    if not given.isascii() or not given.isdecimal() or int(given) < 1:
        raise SettingsError(f"{name} is not a whole number above 0.")
    return int(given)
