"""``python -m workers.flower``: a read-only Flower on Pointsman's queues.

On loopback it needs no password, can change nothing, and answers only programs of its own user and its own pages. On
any other address it requires a password (``FLOWER_BASIC_AUTH=user:password``, or ``FLOWER_BASIC_AUTH_FILE``), and is
still read-only: a user with the password can neither send tasks nor stop workers.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet_config import FleetError
from settings import Settings, SettingsError
from tasks.celery_app import configure
from workers.local_requests import is_local_program
from workers.peer_user import is_own_user
from workers.process_setup import announce_ready, keep_progress

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Return 0, or 2 if the environment, the fleet or the password is missing."""
    parser = argparse.ArgumentParser(prog="python -m workers.flower", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5555)
    options = parser.parse_args(argv)
    if login := os.environ.get("FLOWER_BASIC_AUTH_FILE"):
        try:
            os.environ["FLOWER_BASIC_AUTH"] = Path(login).read_text(encoding="utf-8").strip()
        except OSError as error:
            print(f"flower: FLOWER_BASIC_AUTH_FILE cannot be read: {error.strerror}", file=sys.stderr)
            return 2
    if options.address not in _LOOPBACK and not os.environ.get("FLOWER_BASIC_AUTH"):
        print(
            "flower: a password is required on this address. fix: set FLOWER_BASIC_AUTH=user:password", file=sys.stderr
        )
        return 2
    try:
        settings = Settings.load()
        app = configure(settings, settings.fleet())
    except (SettingsError, FleetError) as error:
        print(f"flower: {error}", file=sys.stderr)
        return 2
    os.environ["FLOWER_READ_ONLY"] = "true"
    if options.address in _LOOPBACK:
        _answer_local_programs_only()
    else:
        _protect_metrics()
    _keep_progress()
    # Else Celery takes BROKER_URL of the environment: without the password's file, and without sentinels.
    broker = ["--broker", app.conf.broker_url]
    app.start([*broker, "flower", f"--address={options.address}", f"--port={options.port}", "--max_tasks=10000"])
    return 0


def _keep_progress() -> None:
    """Create the ready file once Flower's event loop runs, and touch it while the loop makes progress."""
    from tornado.ioloop import IOLoop

    async def progress() -> None:
        announce_ready()
        await keep_progress()

    IOLoop.current().add_callback(progress)


def _protect_metrics() -> None:
    """Require the password for ``/metrics``, which Flower leaves open: it names workers and tasks.

    ``/healthcheck`` stays open: it only answers OK.
    """
    from flower.views.monitor import Metrics
    from tornado.web import authenticated

    Metrics.get = authenticated(Metrics.get)


def _answer_local_programs_only() -> None:
    """Let programs of this user read Flower's API, and no web page.

    Flower's own switch for that, FLOWER_UNAUTHENTICATED_API, answers any page with ``Access-Control-Allow-Origin: *``.
    """
    from flower.api import BaseApiHandler
    from flower.views import BaseHandler
    from tornado.web import HTTPError

    def prepare(handler: Any) -> None:
        connection = handler.request.connection.stream.socket
        if not (
            is_local_program(handler.request.headers)
            and is_own_user(connection.getsockname(), connection.getpeername())
        ):
            raise HTTPError(403, "This Flower answers only programs of its own user and requests from its own pages")

    BaseHandler.prepare = prepare
    BaseApiHandler.prepare = prepare


if __name__ == "__main__":
    sys.exit(main())
