"""Arguments and options that several commands share, with their parsers."""

import getpass
import re
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command_errors import UsageError
from db.batch_writer import MAX_USD
from submission.deadline import deadline_by, deadline_within


def parse_usd(text: str) -> float:
    """Return US dollars from 0 to `MAX_USD`. Raises typer.BadParameter, also for ``nan``, because no amount exceeds
    it."""
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= MAX_USD:
        raise typer.BadParameter(f"{text!r} must be an amount in USD between 0 and {MAX_USD:,.0f}")
    return amount


BatchArgument = Annotated[str | None, typer.Argument(metavar="BATCH", help="Default: the newest batch.")]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The file is replaced in one step at the end. Default, and -: stdout."
    ),
]
FleetOption = Annotated[
    Path | None,
    typer.Option("--fleet", metavar="FILE", help="Fleet file. Default: POINTSMAN_FLEET, or fleet.toml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and messages on stderr.")]
SkipInvalidOption = Annotated[
    bool, typer.Option("--skip-invalid", help="Submit the valid lines, and write the others to FILE.rejected.jsonl.")
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Forecast tiers, cost and time without submitting or calling anything. The exit code is 3 if the "
        "budget does not cover the cost.",
    ),
]
BudgetOption = Annotated[
    float | None, typer.Option("--budget", metavar="USD", parser=parse_usd, help="Maximum cost of the batch, in USD.")
]
ReplayOption = Annotated[
    Path | None,
    typer.Option("--replay", metavar="FILE", exists=True, dir_okay=False, help="Recorded answers for the simulator."),
]
RouterOption = Annotated[
    str | None,
    typer.Option("--router", metavar="DIR|NAME", help="A trained folder, a registered name, or 'default'."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same data and seed give the same result.")]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DURATION: Final = re.compile(r"([0-9]{1,5})([hdwy])")
_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}
_MAX_DURATION: Final = timedelta(days=200 * 365)
"""A time this long before now is still a valid date."""


def read_deadline(by: str | None, within: str | None) -> datetime | None:
    """Return the time in ``--by`` or ``--within``, or None without either. Raises UsageError."""
    if by is not None and within is not None:
        raise UsageError("--by and --within both set the deadline.", hint="Give one of them.")
    now = datetime.now().astimezone()
    for option, text, read in (("--by", by, deadline_by), ("--within", within, deadline_within)):
        if text is not None:
            try:
                return read(text, now)
            except ValueError as error:
                fix = str(error)
                raise UsageError(f"Invalid {option}: {text[:40]!r}.", hint=f"{fix[0].upper()}{fix[1:]}.") from None
    return None


def match_duration(text: str) -> timedelta | None:
    """Return the duration, such as ``24h``, ``7d``, ``12w`` or ``1y``, or None for any other text."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        return None
    duration = timedelta(hours=int(found[1]) * _HOURS[found[2]])
    return duration if duration <= _MAX_DURATION else None


def parse_duration(option: str, text: str, *, example: str) -> timedelta:
    """Return the value of ``option``. Raises UsageError if it is not a duration."""
    duration = match_duration(text)
    if duration is None:
        raise UsageError(
            f"Invalid duration for {option}: {text[:20]!r}.",
            hint=f"Use a number with h, d, w or y, for example {option} {example}.",
        )
    return duration


def check_name(text: str) -> None:
    """Raise UsageError if ``text`` is not a valid name for a key or a tenant."""
    if not _NAME.fullmatch(text):
        raise UsageError(f"{text[:80]!r} is not a valid name.", hint="Use up to 63 letters, digits, ., _ and -.")


def current_user() -> str:
    """``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
