"""When Postgres does not take a statement: whether it will later, and an error that quotes nothing."""

from sqlalchemy.exc import DBAPIError

_PASSING = ("08", "40001", "40P01", "57P", "53300", "55P03")
"""SQLSTATE classes that pass: connection, serialisation, deadlock, shutdown, too many clients, lock timeout."""


class StatementFailed(Exception):
    """Postgres would not take a statement, or was away for too long.

    Has Postgres' SQLSTATE and not its words, which may quote a prompt or an answer.
    """

    def __init__(self, error: DBAPIError) -> None:
        self.sqlstate = getattr(error.orig, "sqlstate", None)
        self.away = is_transient(error)
        super().__init__(f"{type(error.orig).__name__} (SQLSTATE {self.sqlstate})")


def is_transient(error: DBAPIError) -> bool:
    """Whether the same statement may succeed later: Postgres is away, or two moves met."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or type(error.orig).__name__ == "OperationalError"
    return str(state).startswith(_PASSING)
