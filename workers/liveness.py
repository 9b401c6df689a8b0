"""``python -m workers.liveness``: a liveness probe that checks whether the process with this environment makes
progress.

Exits with 0 if its event loop moved within `STALE_S` seconds, else with 1. It asks neither Postgres nor the broker, so
their outage restarts no worker.
"""

import os
import sys
import time

from workers.process_setup import READY_FILE, STALE_S


def main() -> int:
    """Check the ready file, and return the exit code."""
    path = os.environ.get(READY_FILE)
    if not path:
        print(f"liveness: set {READY_FILE} to the path that the process uses", file=sys.stderr)
        return 2
    try:
        idle_s = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        print("liveness: the process is not ready yet", file=sys.stderr)
        return 1
    print(f"the event loop last made progress {max(idle_s, 0.0):.0f} s ago")
    return 0 if idle_s < STALE_S else 1


if __name__ == "__main__":
    sys.exit(main())
