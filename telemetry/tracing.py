"""Whether traces are wanted and where they go, by the variables that OpenTelemetry has for it.

Nothing of OpenTelemetry is imported here, nor anywhere until somebody has set an endpoint: `spans` does that.
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
_LOOK_S: Final = 2.0
_NO_ADDRESS: Final = "an address that is none (write http://host:4318)"

PACKAGES: Final = {
    "opentelemetry-sdk": "opentelemetry.sdk.trace",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
}
INSTALL: Final = f"pip install {' '.join(PACKAGES)} (the extra `otel` of pyproject.toml)"

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/, version 00."""


def destination(environ: Mapping[str, str]) -> str | None:
    """Where traces go, fit to be shown: without user, password and query. None where they are off."""
    url = _url(environ)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
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
    return [package for package, module in PACKAGES.items() if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def is_reachable(where: str) -> bool:
    """Whether somebody listens at a `destination`, as seen from here."""
    if where == _NO_ADDRESS:
        return False
    address = urlsplit(where)
    port = address.port or (443 if address.scheme == "https" else 80)
    return accepts_connections(address.hostname or "", port, timeout_s=_LOOK_S)


def speaks_other_protocol(environ: Mapping[str, str]) -> bool:
    """Whether another protocol than ours is asked for, which is then not spoken."""
    asked = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    return asked.strip().lower() != "http/protobuf"


def read_traceparent(header: object) -> str | None:
    """A W3C ``traceparent`` that can be followed, else None: the standard has a broken one ignored."""
    return header if isinstance(header, str) and _TRACEPARENT.fullmatch(header) else None


@contextmanager
def suppress_tracing_errors() -> Iterator[None]:
    """Whatever is wrong with a trace inside the block, the work goes on."""
    try:
        yield
    except Exception as error:
        warn("trace_failed", f"a trace is not whole ({type(error).__name__})")


class _LazyTraces:
    """Decides once per process."""

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
        warn("traces_protocol", f"traces are sent as http/protobuf, whatever protocol is asked for, to {where}")
    from telemetry.spans import Traces

    try:
        started = Traces(environ)
    except Exception as error:
        # Whatever the variables say wrongly, it is no reason not to answer queries. Its message may quote a header.
        warn("traces_off", f"traces are off: OpenTelemetry does not start ({type(error).__name__})")
        return None
    atexit.register(started.stop)
    return started


def warn(event: str, words: str) -> None:
    """One line on stderr: in a worker's log with ``event`` as its name, in front of a user as words."""
    if structlog.is_configured():
        log.warning(event, told=words)
    else:
        print(f"pointsman: {words}", file=sys.stderr, flush=True)


traces: Final = _LazyTraces().traces
"""``traces()`` → this process's `Traces`, or None where they are off. Starts them at the first call."""
