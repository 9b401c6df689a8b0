"""``python -m workers.schema_check``: exits with 0 if the schema is that of this release or a later one, else with 1.

A pod waits with it for the migrations of its image. During an upgrade, and after a rollback, pods of the earlier
release start on the later schema.
"""

import sys

from db import migrate
from settings import Settings


def main() -> int:
    """Check the database of the environment, and return the exit code."""
    if migrate.is_ready(Settings.load().database_url):
        return 0
    print("schema_check: the schema is missing or older. fix: run `alembic upgrade head`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
