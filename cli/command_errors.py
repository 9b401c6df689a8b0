"""Errors that end a command: the cause in one line, a hint with the fix, and an exit code."""

import os
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from traceback import extract_tb
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from cli.console import plain
from db.engine import APP_ROLE, PooledLoginError
from db.migration_errors import MigrationError
from fleet_config import FleetError
from settings import SettingsError
from submission.input_line import InvalidInput, RejectedLine
from workers.data_dir import DataDirError
from workers.embedded.services import ServicesError
from workers.local_stack import StackError


class ExitCode(IntEnum):
    """The exit codes."""

    OK = 0
    FAILURE = 1
    """The command is valid, but it failed."""
    USAGE = 2
    """The command line or an input file is invalid."""
    OVER_BUDGET = 3
    """A dry run expects a cost over the budget, or the budget left queries of a batch unanswered."""
    ACCOUNT_REFUSED = 4
    """A provider refuses its account: queries of a batch are held until that is fixed, and then continue."""
    INTERRUPTED = 130


class CommandError(Exception):
    """An error that ends the command. ``message`` states the cause in one line, and ``hint`` the fix."""

    def __init__(self, message: str, *, hint: str | None = None, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class UsageError(CommandError):
    """The command line or an input file is invalid."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, code=ExitCode.USAGE)


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as the user sees it. It never contains a prompt, an answer, a key, or a traceback."""

    kind: str
    lines: tuple[str, ...]
    hint: str | None = None
    code: ExitCode = ExitCode.FAILURE
    rejections: tuple[RejectedLine, ...] = field(default=(), repr=False)

    def as_json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.kind, "message": self.lines[0], "hint": self.hint}
        if self.rejections:
            error["rejections"] = [
                {r.unit: r.line_no, "field": r.field, "message": r.message, "fix": r.fix, "custom_id": r.custom_id}
                for r in self.rejections
            ]
        return {"error": error}


SHOWN_REJECTIONS: Final = 20
DEBUG_HINT: Final = "Set POINTSMAN_DEBUG=1 to see the traceback."


_EXTRAS: Final = {"matplotlib": "training", "pyarrow": "data", "sklearn": "training"}
"""Optional packages, and the extra of pyproject.toml that installs them."""


def describe_error(error: BaseException) -> ErrorReport:
    """Return ``error`` as the user sees it."""
    match error:
        case CommandError():
            return ErrorReport("stopped", (error.message,), error.hint, error.code)
        case InvalidInput():
            return _invalid_input(error)
        case SettingsError():
            return ErrorReport("settings", (str(error),), code=ExitCode.USAGE)
        case FleetError():
            return ErrorReport("fleet", tuple(str(error).splitlines()), code=ExitCode.USAGE)
        case PooledLoginError():
            return ErrorReport("database", (str(error),), code=ExitCode.USAGE)
        case MigrationError():
            return ErrorReport("database", (str(error),), error.hint)
        case ServicesError() | StackError() | DataDirError():
            return ErrorReport("services", (_first_and_last(str(error)),), "`pointsman doctor` checks each dependency.")
        case DBAPIError():
            return _database(error)
        case KeyboardInterrupt():
            return ErrorReport("interrupted", ("Interrupted.",), code=ExitCode.INTERRUPTED)
        case BrokenPipeError():
            return ErrorReport("closed", ("The output was closed (broken pipe).",))
        case OSError() if error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            is_usage = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | PermissionError)
            code = ExitCode.USAGE if is_usage else ExitCode.FAILURE
            return ErrorReport("file", (f"{where}{error.strerror}.",), code=code)
        case ModuleNotFoundError() if error.name in _EXTRAS:
            hint = (
                f"Run pip install 'pointsman[{_EXTRAS[error.name]}]'. docs/operations.md explains how to add it "
                "to an image."
            )
            return ErrorReport(
                "missing", (f"This command needs the package {error.name}, which is not installed.",), hint
            )
        case _:
            return _unexpected(error)


def _first_and_last(message: str) -> str:
    """Return the first line, and the last line of the log quoted below it. The lines between are a traceback."""
    first, *rest = [line for line in message.splitlines() if line.strip()] or [""]
    return f"{first} {plain(rest[-1].strip())}" if rest else first


def _invalid_input(error: InvalidInput) -> ErrorReport:
    shown = [plain(str(rejection)) for rejection in error.rejections[:SHOWN_REJECTIONS]]
    more = len(error.rejections) - len(shown)
    if more > 0:
        shown.append(f"… and {more} more.")
    hint = "Nothing was submitted."
    if any(rejection.line_no for rejection in error.rejections):
        units = {rejection.unit for rejection in error.rejections}
        hint += f" Fix these {' and '.join(sorted(units))}s, or skip them with --skip-invalid."
    return ErrorReport(
        "bad_input", tuple(shown) or ("The input contains no query.",), hint, ExitCode.USAGE, error.rejections
    )


def _database(error: DBAPIError) -> ErrorReport:
    # Never str(error): it quotes the statement's parameters, which may hold prompts.
    state = getattr(error.orig, "sqlstate", None)
    # A missing role fails the connection without an SQLSTATE; the message then holds our role's name.
    if state in ("42P01", "42703", "42883", "3F000") or (state is None and APP_ROLE in str(error.orig)):
        message = "The database schema is missing or older than this version of Pointsman."
        hint = "Migrate it with `alembic upgrade head`; `pointsman up` does this for you."
    elif state is None or state.startswith(("08", "57P", "53300")):
        message = "Postgres cannot be reached."
        hint = "Check DATABASE_URL and whether Postgres is up. `pointsman doctor` checks both."
    elif state == "22023" or state.startswith("28") or (state == "42501" and "set role" in str(error.orig)):
        message = "Postgres rejected the login or the role."
        hint = "Check the user in DATABASE_URL: it must be a member of pointsman_app."
    elif state == "42501":
        message = "The database user in DATABASE_URL lacks the permission for this command."
        hint = (
            "Set DATABASE_URL to the schema's owner for this command, or for `audit login` to a user with CREATEROLE."
        )
    else:
        message, hint = f"Postgres rejected a statement (SQLSTATE {state}).", DEBUG_HINT
    return ErrorReport("database", (message,), hint)


def _unexpected(error: BaseException) -> ErrorReport:
    # Without the message, which may quote data.
    frames = extract_tb(error.__traceback__)
    where = f" in {frames[-1].name} ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return ErrorReport("unexpected", (f"Unexpected error: {type(error).__name__}{where}.",), DEBUG_HINT)


def exit_quietly() -> None:
    """Prevent Python's complaint at exit about a closed stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
