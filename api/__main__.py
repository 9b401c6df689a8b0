"""``python -m api``: runs the HTTP service. On loopback it needs no API key until the first key is created."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.api_config import DEFAULT_HOST, DEFAULT_PORT, ApiConfig
from api.app import create_app
from api.http_protocol import BoundedHeadProtocol
from api.malloc_tuning import limit_arenas
from fleet_config import FleetError
from settings import Settings, SettingsError
from telemetry.logging import configure_logging
from telemetry.tracing import traces
from workers.process_setup import announce_ready, tune_gc

_BACKLOG = 4096
_MAX_CONNECTIONS = 10_000
"""Further connections get a 503 before their request is read, because each may hold a head of 32 KiB."""
_KEEP_ALIVE_S = 65
"""Longer than clients keep a connection open, so that none is closed while a request is on its way. Clients that poll
twice a minute need not reconnect."""
_GRACE_S = 10
_SWITCH_INTERVAL_S = 0.0001
"""How long, in seconds, a thread that validates a file holds the interpreter. Each callback of a burst of three
thousand may wait this long: at Python's 5 ms the last of 1,000 pollers waited up to 4 s."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Return 0, or 2 if the environment or the fleet file is invalid."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    options = parser.parse_args(argv)
    try:
        settings = Settings.load()
        fleet = settings.fleet()
        config = ApiConfig.load(os.environ, host=options.host, port=options.port)
        app = create_app(settings, fleet, config, on_ready=_announce_ready)
    except (SettingsError, FleetError) as error:
        print(f"api: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    limit_arenas()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    traces()  # now, and not during the first request
    _Server(server_config(app, host=config.host, port=config.port)).run()
    return 0


def server_config(app: FastAPI, *, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedHeadProtocol,
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        backlog=_BACKLOG,
        # The middleware counts requests in metrics; a line per request would be millions of lines.
        access_log=False,
        log_config=None,
        server_header=False,
        # Addresses are never used for access, so a proxy's headers are ignored.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _announce_ready() -> None:
    # A thousand connections are tens of thousands of young objects, none of them garbage: scanning them again and
    # again took a quarter of the time of such a burst.
    tune_gc()
    announce_ready()


class _Server(uvicorn.Server):
    """Sets ``stopping`` at once. uvicorn would first wait for streams, which end only when they see it.

    It also returns from `run`. uvicorn's own server raises the signal again, which skips exit handlers such as the one
    that sends the last spans.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT. A second SIGINT drops open requests."""
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]  # it is an application here, not an import string
        if service is not None:
            service.stopping.set()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
