"""How a command ends when it cannot do what it was asked: a line that says why, and a hint at the mend."""

import os
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from traceback import extract_tb
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from cli.console import plain
from db.engine import APP_ROLE
from settings import FleetError, SettingsError
from submission.input_line import InvalidInput, RejectedLine
from workers.data_dir import DataDirError
from workers.embedded.services import ServicesError
from workers.local_stack import StackError


class ExitCode(IntEnum):
    """The exit codes."""

    OK = 0
    FAILURE = 1
    """It was asked rightly and did not succeed."""
    USAGE = 2
    """What was asked, or a file that was given, is wrong."""
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command. ``message`` says why in one line, ``hint`` what to do."""

    def __init__(self, message: str, *, hint: str | None = None, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What the user is told. Never a prompt, an answer, a key, or a traceback."""

    kind: str
    lines: tuple[str, ...]
    hint: str | None
    code: ExitCode
    rejections: tuple[RejectedLine, ...] = field(default=(), repr=False)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        told: dict[str, Any] = {"code": self.kind, "message": self.lines[0], "hint": self.hint}
        if self.rejections:
            told["rejections"] = [
                {"line": r.line_no, "field": r.field, "message": r.message, "fix": r.fix, "custom_id": r.custom_id}
                for r in self.rejections
            ]
        return {"error": told}


SHOWN_REJECTIONS: Final = 20
DEBUG_HINT: Final = "POINTSMAN_DEBUG=1 shows where it happened."


def describe_error(error: BaseException) -> ErrorReport:
    """What the user is told of ``error``."""
    match error:
        case CommandError():
            return ErrorReport("stopped", (error.message,), error.hint, error.code)
        case InvalidInput():
            return _bad_input(error)
        case SettingsError():
            return ErrorReport("settings", (str(error),), None, ExitCode.USAGE)
        case FleetError():
            return ErrorReport("fleet", tuple(str(error).splitlines()), None, ExitCode.USAGE)
        case ServicesError() | StackError() | DataDirError():
            hint = "`pointsman doctor` looks at each dependency."
            return ErrorReport("services", (_first_and_last(str(error)),), hint, ExitCode.FAILURE)
        case DBAPIError():
            return _database(error)
        case KeyboardInterrupt():
            return ErrorReport("interrupted", ("Interrupted.",), None, ExitCode.INTERRUPTED)
        case BrokenPipeError():
            return ErrorReport("closed", ("Nobody reads the output any more.",), None, ExitCode.FAILURE)
        case OSError() if error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            usage = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | PermissionError)
            return ErrorReport(
                "file", (f"{where}{error.strerror}.",), None, ExitCode.USAGE if usage else ExitCode.FAILURE
            )
        case _:
            return _unexpected(error)


def _first_and_last(message: str) -> str:
    """What happened, and of the log that is quoted after it the last line: what is between is a traceback."""
    first, *rest = [line for line in message.splitlines() if line.strip()] or [""]
    return f"{first} {plain(rest[-1].strip())}" if rest else first


def _bad_input(error: InvalidInput) -> ErrorReport:
    shown = [plain(str(rejection)) for rejection in error.rejections[:SHOWN_REJECTIONS]]
    more = len(error.rejections) - len(shown)
    if more > 0:
        shown.append(f"… and {more} more.")
    whole = all(rejection.line_no == 0 for rejection in error.rejections)
    hint = "Nothing was submitted."
    if not whole:
        hint += " Mend these lines, or submit the others alone with --skip-invalid."
    return ErrorReport("bad_input", tuple(shown) or ("No query was found.",), hint, ExitCode.USAGE, error.rejections)


def _database(error: DBAPIError) -> ErrorReport:
    # Never str(error): it quotes the statement's parameters, and so may quote prompts.
    state = getattr(error.orig, "sqlstate", None)
    # Refused at connecting, a role that is not there has no SQLSTATE; its name is ours.
    if state in ("42P01", "42703", "42883", "3F000") or (state is None and APP_ROLE in str(error.orig)):
        hint = "Bring its schema up to date: `alembic upgrade head`, or `pointsman up`, which does."
        return ErrorReport(
            "database", ("The database has an older schema than this program, or none.",), hint, ExitCode.FAILURE
        )
    if state is None or state.startswith(("08", "57P", "53300")):
        hint = "Is DATABASE_URL right, and is Postgres up? `pointsman doctor` looks."
        return ErrorReport("database", ("Postgres cannot be reached.",), hint, ExitCode.FAILURE)
    if state == "22023" or state.startswith("28"):
        hint = "Check the user in DATABASE_URL and its rights: it must be a member of pointsman_app."
        return ErrorReport("database", ("Postgres does not let us in.",), hint, ExitCode.FAILURE)
    return ErrorReport("database", (f"Postgres refused a statement (SQLSTATE {state}).",), DEBUG_HINT, ExitCode.FAILURE)


def _unexpected(error: BaseException) -> ErrorReport:
    # Not its message, which may quote what it stumbled over.
    frames = extract_tb(error.__traceback__)
    where = f" in {frames[-1].name} ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return ErrorReport(
        "unexpected", (f"This should not have happened: {type(error).__name__}{where}.",), DEBUG_HINT, ExitCode.FAILURE
    )


def exit_quietly() -> None:
    """Keeps Python from complaining at exit that stdout is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
