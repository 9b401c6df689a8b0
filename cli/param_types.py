"""Types and defaults of command-line parameters: amounts, durations, the current user."""

import getpass
import re
import socket
from datetime import timedelta
from typing import Final

import typer

from cli.command_errors import CommandError, ExitCode
from db.batch_writer import MAX_USD


def parse_usd(given: str) -> float:
    """Dollars from 0 to `MAX_USD`; ``nan`` is no amount: nothing is ever more than that."""
    try:
        amount = float(given)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= MAX_USD:
        raise typer.BadParameter(f"{given!r} is no number of dollars from 0 to {MAX_USD:,.0f}")
    return amount


_TOLD: Final = re.compile(r"([0-9]{1,5})([hdwy])")
_LONGEST: Final = timedelta(days=200 * 365)
"""So long ago there is still a date."""
_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


def match_duration(told: str) -> timedelta | None:
    """How long that is; None where it is no stretch of time."""
    found = _TOLD.fullmatch(told.strip())
    if found is None:
        return None
    long = timedelta(hours=int(found[1]) * _HOURS[found[2]])
    return long if long <= _LONGEST else None


def parse_duration(option: str, told: str, *, example: str) -> timedelta:
    """How long what was given for ``option`` is. Raises Stop where it is no stretch of time."""
    found = match_duration(told)
    if found is None:
        raise CommandError(
            f"{option} {told[:20]!r} is no stretch of time.",
            hint=f"Write a number and h, d, w or y: {option} {example}.",
            code=ExitCode.USAGE,
        )
    return found


def current_user() -> str:
    """``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
