"""``python -m workers.schema_check``: whether the schema is that of this release or of a later one; else exits with 1.

A pod waits by it for the migrations of its image. During an upgrade, and after a roll back, pods of the release before
start on the schema of the next one.
"""

import sys

from db import migrate
from settings import Settings


def main() -> int:
    """Look at the database of the environment; returns the exit code."""
    if migrate.is_ready(Settings.load().database_url):
        return 0
    print("schema_check: the schema is missing or older. fix: run `alembic upgrade head`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
