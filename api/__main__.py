"""``python -m api``: the HTTP service. On loopback it works without keys until the first one is made."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from api.api_config import DEFAULT_HOST, DEFAULT_PORT, ApiConfig
from api.app import create_app
from api.malloc_tuning import keep_small
from settings import FleetError, Settings, SettingsError
from telemetry.logging import configure_logging
from telemetry.tracing import traces
from workers.process_setup import announce_ready, tune_gc

_BACKLOG = 4096
_KEEP_ALIVE_S = 65
"""Longer than any client keeps a connection, so that none is closed just as a request is sent on it; and clients that
poll twice a minute need not connect each time."""
_GRACE_S = 10
_TURN_S = 0.0001
"""After how long a thread that validates a file lets the loop go on. Each of a burst's callbacks may wait for so long,
three thousand of them one after the other: at Python's 5 ms the last of 1,000 pollers waited for up to 4 s."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Returns 0, or 2 where the environment or the fleet is wrong."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    given = parser.parse_args(argv)
    try:
        settings = Settings.load()
        fleet = settings.fleet()
        config = ApiConfig.load(os.environ, host=given.host, port=given.port)
        app = create_app(settings, fleet, config, on_ready=_tell_ready)
    except (SettingsError, FleetError) as error:
        print(f"api: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    keep_small()
    sys.setswitchinterval(_TURN_S)
    traces()  # now, and not while the first request waits
    running = uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        backlog=_BACKLOG,
        # The gate tells of requests, in metrics; a line each would be a million lines.
        access_log=False,
        log_config=None,
        server_header=False,
        # Nobody is let in, or told apart, by an address: what a proxy says of one is not looked at.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    _Server(running).run()
    return 0


def _tell_ready() -> None:
    # A thousand connections at once are young objects by the ten thousand, and none of them garbage: to look
    # through them again and again took a quarter of the time that such a burst of requests needs.
    tune_gc()
    announce_ready()


class _Server(uvicorn.Server):
    """Tells the service of its end at once: uvicorn would first wait for streams, which end when they hear of it.

    And returns from `run`: uvicorn's own would end with the signal that it got, and what is to be done at the exit of
    a process, as sending the last spans, would not be done.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGTERM and SIGINT. Waits for no request any more at the second SIGINT."""
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]  # ours is no string
        if service is not None:
            service.stopping.set()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
