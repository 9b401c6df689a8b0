"""``python -m workers.flower``: a read-only Flower on Pointsman's queues.

On loopback it needs no password and can change nothing. On any other address it requires one
(``FLOWER_BASIC_AUTH=user:password``).
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
    options = parser.parse_args(argv)
    if options.address not in _LOOPBACK and not os.environ.get("FLOWER_BASIC_AUTH"):
        print("flower: a password is required on this address: set FLOWER_BASIC_AUTH=user:password", file=sys.stderr)
        return 2
    try:
        settings = Settings.load()
        app = configure(settings, settings.fleet())
    except (SettingsError, FleetError) as error:
        print(f"flower: {error}", file=sys.stderr)
        return 2
    if options.address in _LOOPBACK:
        # Local programs may read its API; without read-only mode a web page could shut down a worker.
        os.environ["FLOWER_UNAUTHENTICATED_API"] = "true"
        os.environ["FLOWER_READ_ONLY"] = "true"
    app.start(["flower", f"--address={options.address}", f"--port={options.port}", "--max_tasks=10000"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
