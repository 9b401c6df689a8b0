"""Whether traces are enabled and where they go, by OpenTelemetry's environment variables.

OpenTelemetry itself is imported only by `spans`, and only when an endpoint is set.
"""

import atexit
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from providers.transport.reachable import accepts_connections

if TYPE_CHECKING:
    from telemetry.spans import Traces

log = structlog.get_logger()

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PATH: Final = "v1/traces"
_CONNECT_S: Final = 2.0
_NO_ADDRESS: Final = "an invalid address (use http://host:4318)"

PACKAGES: Final = {
    "opentelemetry-sdk": "opentelemetry.sdk.trace",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
}
INSTALL: Final = f"pip install {' '.join(PACKAGES)} (the extra `otel` of pyproject.toml)"

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/, version 00."""


def destination(environ: Mapping[str, str]) -> str | None:
    """Where traces go, safe to show: without user, password and query. None if tracing is off."""
    url = _url(environ)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        return _NO_ADDRESS
    _, _, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{host}{parts.path}"


def _url(environ: Mapping[str, str]) -> str | None:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in ("", "otlp"):
        return None
    if own := environ.get(TRACES_ENDPOINT, "").strip():
        return own
    shared = environ.get(ENDPOINT, "").strip()
    return f"{shared.removesuffix('/')}/{_PATH}" if shared else None


def missing() -> list[str]:
    """The packages that traces need and that are not installed."""
    return [package for package, module in PACKAGES.items() if not _is_installed(module)]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def is_reachable(where: str) -> bool:
    """Whether a `destination` accepts connections from here."""
    if where == _NO_ADDRESS:
        return False
    address = urlsplit(where)
    port = address.port or (443 if address.scheme == "https" else 80)
    return accepts_connections(address.hostname or "", port, timeout_s=_CONNECT_S)


def speaks_other_protocol(environ: Mapping[str, str]) -> bool:
    """Whether a protocol other than http/protobuf is configured; it is then ignored."""
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    return protocol.strip().lower() != "http/protobuf"


def read_traceparent(header: object) -> str | None:
    """A valid W3C ``traceparent``, else None: the standard says to ignore a malformed one."""
    return header if isinstance(header, str) and _TRACEPARENT.fullmatch(header) else None


@contextmanager
def suppress_tracing_errors() -> Iterator[None]:
    """An error in a trace inside the block does not stop the work."""
    try:
        yield
    except Exception as error:
        warn("trace_failed", f"a trace is incomplete ({type(error).__name__})")


class _LazyTraces:
    """Starts the traces once per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decided = False
        self._traces: Traces | None = None

    def traces(self) -> "Traces | None":
        if not self._decided:
            with self._lock:
                if not self._decided:
                    self._traces = _start(os.environ)
                    self._decided = True
        return self._traces


def _start(environ: Mapping[str, str]) -> "Traces | None":
    where = destination(environ)
    if where is None:
        return None
    if absent := missing():
        warn("traces_off", f"traces are off: {', '.join(absent)} not installed; {INSTALL}")
        return None
    if speaks_other_protocol(environ):
        warn("traces_protocol", f"the configured protocol is not supported: traces go by http/protobuf to {where}")
    from telemetry.spans import Traces

    try:
        started = Traces(environ)
    except Exception as error:
        # An error in these variables must not stop queries. Its message may quote a header.
        warn("traces_off", f"traces are off: OpenTelemetry does not start ({type(error).__name__})")
        return None
    atexit.register(started.stop)
    return started


def warn(event: str, message: str) -> None:
    """One line on stderr: a log event in a worker, plain text in a command."""
    if structlog.is_configured():
        log.warning(event, message=message)
    else:
        print(f"pointsman: {message}", file=sys.stderr, flush=True)


traces: Final = _LazyTraces().traces
"""``traces()`` → this process's `Traces`, or None if tracing is off. The first call starts them."""
