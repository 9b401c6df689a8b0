"""Waits for the end of a batch and shows progress: a live bar on a terminal, else a line every few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from cli.command_errors import CommandError, ExitCode
from cli.console import plain, queries
from db.reports.batch_progress import Progress
from db.statement_errors import is_transient

LEAST_USD: Final = 0.00005
"""Shown as $0.0001."""

ACCOUNT_FIX: Final = (
    "Fix: set a valid key where the workers run and restart them, or add credit to the account. The queries then "
    "continue by themselves within 30 s."
)

_POLL_S: Final = 0.25
_LINE_S: Final = 5.0
_ENDING_S: Final = 5.0
_HELD_S: Final = 10.0
_OUTAGE_S: Final = 120.0
_SMOOTHING_S: Final = 5.0
_QUIET_S: Final = 10.0
_POLLING_SHARE: Final = 0.05
"""Polls take at most this share of the time, because polling a large batch loads Postgres."""


@dataclass(frozen=True, slots=True)
class LaterCommands:
    """The commands that continue a batch and write its answers."""

    run: str
    results: str

    @classmethod
    def of(cls, name: str, *, file: str = "", output: str = "", fleet: str = "") -> "LaterCommands":
        """Return the commands for the batch ``name``. The other parts are as the user gave them, each with a space
        before it."""
        joined = f" --input{file}" if file else ""
        return cls(f"pointsman run{file} --batch {name}{output}{fleet}", f"pointsman results {name}{output}{joined}")


class QueriesHeld(CommandError):
    """Only held queries of a batch are left. The available answers can be written."""


@dataclass(slots=True)
class ProgressRate:
    """Finished queries per second, smoothed over the last seconds."""

    per_s: float = 0.0
    _finished: int = 0
    _since: float | None = field(default=None)
    _at: float | None = field(default=None)
    _finished_at: float | None = field(default=None)

    def note(self, finished: int, now: float) -> None:
        """Record ``finished`` queries at ``now``, in seconds of a monotonic clock."""
        if self._at is not None and now > self._at:
            seconds = now - self._at
            weight = min(1.0, seconds / _SMOOTHING_S)
            newest = max(0, finished - self._finished) / seconds
            self.per_s = newest if self.per_s == 0.0 else self.per_s + weight * (newest - self.per_s)
        if self._since is None:
            self._since = now
        if self._finished_at is None or finished > self._finished:
            self._finished_at = now
        self._finished, self._at = finished, now

    def left_s(self, remaining: int) -> float | None:
        """Return the seconds until ``remaining`` queries are finished. None in the first seconds, when the rate is
        unreliable, and if no query finished for `_QUIET_S`: the rate then only fades."""
        if self._since is not None and self._at is not None and self._at - self._since < _SMOOTHING_S:
            return None
        if self._finished_at is not None and self._at is not None and self._at - self._finished_at >= _QUIET_S:
            return None
        return remaining / self.per_s if self.per_s > 0 else None


def progress_line(progress: Progress, rate: ProgressRate | None = None) -> str:
    """Return answers by tier, escalations, failures and cost. While queries run, add the rate and the time left without
    held queries.

    ``rate`` covers the last seconds. Without it, the mean since the submission is used. During a pilot, its progress
    replaces both.
    """
    parts = [_pilot(progress)] if progress.in_pilot else []
    parts += [f"{tier} {count:,}" for tier, count in sorted(progress.by_tier.items(), key=lambda item: -item[1])]
    parts.append(f"escalated {progress.escalated:,}")
    for name, count in (("failed", progress.failed), ("cancelled", progress.cancelled), ("held", progress.held)):
        if count:
            parts.append(f"{name} {count:,}")
    cost = f"${progress.cost_usd:.4f}"
    # While calls run, their reservations are many times what they will cost. At the end, the report counts them.
    if not progress.moves:
        audit_usd = progress.reserved_audit_usd
        lost_usd = progress.reserved_usd - audit_usd
        if lost_usd >= LEAST_USD:
            cost += f" and up to ${lost_usd:.4f} of calls without an outcome"
        if audit_usd >= LEAST_USD:
            cost += f" and up to ${audit_usd:.4f} of audits and grading under way"
    parts.append(f"{cost}{' (simulated)' if progress.simulated else ''}")
    blockers = plain("; ".join(progress.blockers))
    if not progress.moves:
        return " · ".join([*parts, *([f"ETA unknown ({blockers})"] if blockers else [])])
    if progress.in_pilot:
        return " · ".join([*parts, "ETA known after the pilot" + (f" ({blockers})" if blockers else "")])
    if rate is None:
        parts.append(f"{progress.queries_per_s:,.1f} queries/s")
        rate = ProgressRate(per_s=progress.finished / progress.wall_s if progress.wall_s > 0 else 0.0)
    else:
        parts.append(f"{rate.per_s:,.0f} queries/s now")
    left = rate.left_s(progress.running + progress.waiting)
    if left is not None or blockers:
        eta = "unknown" if left is None else f"{duration(left)}{' for the others' if progress.held else ''}"
        parts.append(f"ETA {eta}" + (f" ({blockers})" if blockers else ""))
    return " · ".join(parts)


def _pilot(progress: Progress) -> str:
    if progress.pilot_state == "deciding":
        return f"pilot: all {progress.sampled:,} ended, and their answers are being graded"
    return f"pilot: {progress.sampled_ended:,} of {progress.sampled:,} ended" if progress.sampled else "pilot: sampling"


def duration(seconds: float) -> str:
    """Return a text such as ``0:07``, ``12:40`` or ``3:05:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_bar(progress: Progress, rate: ProgressRate | None = None) -> RenderableType:
    """The live bar, above the progress line."""
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(f"{progress.finished:,}/{progress.total:,}", style="bold"),
        ProgressBar(total=max(1, progress.total), completed=progress.finished, width=50),
        Text(f"{100 * progress.finished / max(1, progress.total):.0f} %"),
    )
    return Group(row, Text(progress_line(progress, rate), style="dim"))


async def wait_for_end(
    poll: Callable[[], Awaitable[Progress]],
    *,
    check: Callable[[], None],
    console: Console,
    commands: LaterCommands | None = None,
) -> Progress:
    """Return the progress of the batch once no query is open.

    ``poll`` reads the progress, ``check`` restarts crashed workers, and ``commands`` continue the batch later. Raises
    QueriesHeld if only queries are left that the budget or an account holds.
    """
    rate = ProgressRate()
    with _Display(console) as show:
        ended_s = held_s = 0.0
        while True:
            began = time.monotonic()
            progress = await _poll_with_retry(poll, console=console)
            polled_s = time.monotonic() - began
            if progress.in_pilot:
                rate = ProgressRate()  # the rest is answered by fewer tiers, and faster
            else:
                rate.note(progress.finished, began)
            show(progress, rate)
            pause_s = max(_POLL_S, polled_s / _POLLING_SHARE)
            # The feeder records the end of a batch; without a feeder the counts decide.
            if progress.ended and (progress.ended_at is not None or ended_s > _ENDING_S):
                return progress
            ended_s = ended_s + pause_s if progress.ended else 0.0
            only_held = progress.held > 0 and progress.finished + progress.held + progress.after_pilot == progress.total
            held_s = held_s + pause_s if only_held else 0.0
            if held_s > _HELD_S:
                raise _held(progress, commands or LaterCommands.of(progress.public_id))
            check()
            await asyncio.sleep(pause_s)


def _held(progress: Progress, commands: LaterCommands) -> QueriesHeld:
    name = progress.public_id
    if progress.held_for_account:
        message = f"{progress.held_for_account}."
        fix = f"{name} is still open, and none of these queries has failed. {ACCOUNT_FIX}"
    else:
        message = f"{queries(progress.held)} held because the budget of {name} is exhausted."
        fix = f"`pointsman budget {name}` shows the shortfall; with --raise-to USD, it releases the queries."
    return QueriesHeld(
        message,
        hint=f"{fix}\n`{commands.run}` then waits for the end.\n"
        f"`{commands.results}` writes the answers, `pointsman cancel {name}` cancels the rest.",
        code=ExitCode.ACCOUNT_REFUSED if progress.held_for_account else ExitCode.OVER_BUDGET,
    )


async def _poll_with_retry(poll: Callable[[], Awaitable[Progress]], *, console: Console) -> Progress:
    """Return the progress. It survives a restart of Postgres, as the workers do."""
    deadline = time.monotonic() + _OUTAGE_S
    is_announced = False
    while True:
        try:
            return await poll()
        except DBAPIError as error:
            if not is_transient(error) or time.monotonic() > deadline:
                raise
        if not is_announced:
            console.print("Postgres is down; waiting for it.", style="yellow")
            is_announced = True
        await asyncio.sleep(1.0)


class _Display:
    """Progress as a bar that stays in place on a terminal, elsewhere as a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._line_at = float("-inf")
        self._shows_end = False

    def __enter__(self) -> "_Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, progress: Progress, rate: ProgressRate) -> None:
        if self._live:
            self._live.update(progress_bar(progress, rate), refresh=True)
            return
        now = time.monotonic()
        if now - self._line_at >= _LINE_S or (progress.ended and not self._shows_end):
            self._line_at = now
            self._shows_end = progress.ended
            self._console.print(f"{progress.finished:,}/{progress.total:,} · {progress_line(progress, rate)}")
