"""``python -m workers.flower``: Flower on our queues, to look at and not to steer by.

On loopback it asks for no password and can change nothing. On any other address it does not
start without one (``FLOWER_BASIC_AUTH=user:password``).
"""

import argparse
import os
import sys
from collections.abc import Sequence

from settings import FleetError, Settings, SettingsError
from tasks.celery_app import configure

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Returns 0, or 2 where the environment, the fleet or the password is missing."""
    parser = argparse.ArgumentParser(prog="python -m workers.flower", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5555)
    given = parser.parse_args(argv)
    if given.address not in _LOOPBACK and not os.environ.get("FLOWER_BASIC_AUTH"):
        print("flower: not without a password: set FLOWER_BASIC_AUTH=user:password", file=sys.stderr)
        return 2
    try:
        settings = Settings.load()
        app = configure(settings, settings.fleet())
    except (SettingsError, FleetError) as error:
        print(f"flower: {error}", file=sys.stderr)
        return 2
    if given.address in _LOOPBACK:
        # Any local program may read its API, and none may have a worker shut down: a web page could, otherwise.
        os.environ["FLOWER_UNAUTHENTICATED_API"] = "true"
        os.environ["FLOWER_READ_ONLY"] = "true"
    app.start(["flower", f"--address={given.address}", f"--port={given.port}", "--max_tasks=10000"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
