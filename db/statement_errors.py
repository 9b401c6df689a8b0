"""Statements that Postgres rejects: whether the same statement may succeed later, and an error without its text."""

from sqlalchemy.exc import DBAPIError

_TRANSIENT = ("08", "25006", "40001", "40P01", "57P", "53300", "55P03")
"""SQLSTATE classes of transient failures: connection, a standby, serialization, deadlock, shutdown, clients, lock
timeout."""


class StatementFailed(Exception):
    """Postgres rejected a statement, or was unavailable for too long.

    Carries the SQLSTATE and not the message of Postgres, which may quote a prompt or an answer.
    """

    def __init__(self, error: DBAPIError) -> None:
        self.sqlstate = getattr(error.orig, "sqlstate", None)
        self.is_unavailable = is_transient(error)
        super().__init__(f"{type(error.orig).__name__} (SQLSTATE {self.sqlstate})")


def is_transient(error: DBAPIError) -> bool:
    """Whether the same statement may succeed later: Postgres is unavailable, or two transactions collided."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or type(error.orig).__name__ == "OperationalError"
    return str(state).startswith(_TRANSIENT)
