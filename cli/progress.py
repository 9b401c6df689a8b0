"""Waits for a batch to end, and shows how far it is: a live bar on a terminal, else a line now and then."""

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

from cli.command_errors import CommandError
from db.reports.batch_stats import Progress
from db.statement_errors import is_transient

_LOOK_S: Final = 0.25
_LINE_S: Final = 5.0
_ENDING_S: Final = 5.0
_HELD_S: Final = 10.0
_AWAY_S: Final = 120.0
_SMOOTH_S: Final = 5.0
_ASKING_SHARE: Final = 0.05
"""Looking at a large batch takes Postgres a while: it is asked so seldom that this is its share of the time."""


@dataclass(slots=True)
class ProgressRate:
    """Finished queries per second, smoothed over the last seconds."""

    per_s: float = 0.0
    _finished: int = 0
    _at: float | None = field(default=None)

    def note(self, finished: int, now: float) -> None:
        """``finished`` queries at ``now``, in seconds of a monotonic clock."""
        if self._at is not None and now > self._at:
            seconds = now - self._at
            weight = min(1.0, seconds / _SMOOTH_S)
            fresh = max(0, finished - self._finished) / seconds
            self.per_s = fresh if self.per_s == 0.0 else self.per_s + weight * (fresh - self.per_s)
        self._finished, self._at = finished, now

    def left_s(self, remaining: int) -> float | None:
        """Seconds until ``remaining`` queries are finished, None while nothing is known."""
        return remaining / self.per_s if self.per_s > 0 else None


def words(progress: Progress, pace: ProgressRate | None = None) -> str:
    """One line: tiers, escalated, failed, cost; while it moves its rate, and the time until all but the held is done.

    With a ``pace`` the rate is that of the last seconds, and says so; else the report's, since the submission.
    """
    parts = [f"{tier} {count:,}" for tier, count in sorted(progress.by_tier.items(), key=lambda item: -item[1])]
    parts.append(f"escalated {progress.escalated:,}")
    for name, count in (("failed", progress.failed), ("cancelled", progress.cancelled), ("held", progress.held)):
        if count:
            parts.append(f"{name} {count:,}")
    parts.append(f"${progress.cost_usd:.4f}{' (simulated)' if progress.simulated else ''}")
    if not progress.moves:
        return " · ".join(parts)
    if pace is None:
        parts.append(f"{progress.queries_per_s:,.1f} queries/s")
        pace = ProgressRate(per_s=progress.finished / progress.wall_s if progress.wall_s > 0 else 0.0)
    else:
        parts.append(f"{pace.per_s:,.0f} queries/s now")
    left = pace.left_s(progress.running + progress.waiting)
    if left is not None:
        parts.append(f"ETA {duration(left)}")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """``0:07``, ``12:40`` or ``3:05:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def drawing(progress: Progress, pace: ProgressRate | None = None) -> RenderableType:
    """The live bar."""
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(f"{progress.finished:,}/{progress.total:,}", style="bold"),
        ProgressBar(total=max(1, progress.total), completed=progress.finished, width=50),
        Text(f"{100 * progress.finished / max(1, progress.total):.0f} %"),
    )
    return Group(row, Text(words(progress, pace), style="dim"))


async def wait_for_end(
    look: Callable[[], Awaitable[Progress]], *, check: Callable[[], None], console: Console, again: str = ""
) -> Progress:
    """Returns how the batch stands when nothing of it is open any more.

    ``look`` asks for the progress, ``check`` has the workers looked after, ``again`` are the
    options that a later command needs to go on with it. Raises Stop where all that is left is held by its budget.
    """
    pace = ProgressRate()
    show = _Shown(console)
    with show:
        ended_for = held_for = 0.0
        while True:
            began = time.monotonic()
            progress = await _patiently(look, console=console)
            asked_s = time.monotonic() - began
            pace.note(progress.finished, began)
            show(progress, pace)
            pause_s = max(_LOOK_S, asked_s / _ASKING_SHARE)
            # The feeder writes the moment of the end; without a feeder the counts must do.
            if progress.ended and (progress.ended_at is not None or ended_for > _ENDING_S):
                return progress
            ended_for = ended_for + pause_s if progress.ended else 0.0
            only_held = progress.held > 0 and progress.finished + progress.held == progress.total
            held_for = held_for + pause_s if only_held else 0.0
            if held_for > _HELD_S and progress.held_for_account:
                raise CommandError(f"{progress.held_for_account}.", hint=_of_account(progress.handle, again))
            if held_for > _HELD_S:
                raise CommandError(
                    f"{progress.held:,} queries are held: the budget of {progress.handle} has no room for them.",
                    hint=_of_held(progress.handle, again),
                )
            check()
            await asyncio.sleep(pause_s)


def _of_account(handle: str, again: str) -> str:
    return (
        "fix: set a valid key where the workers run and restart them, or give the account credit. The queries then go\n"
        "on by themselves, within half a minute; none of them has failed.\n"
        f"`pointsman run --batch {handle}{again}` waits for them.\n"
        f"`pointsman results {handle}` has what was answered, `pointsman cancel {handle}` gives up the rest."
    )


def _of_held(handle: str, again: str) -> str:
    return (
        f"`pointsman budget {handle}` tells how much is missing, and with --raise-to USD lets them go on;\n"
        f"`pointsman run --batch {handle}{again}` waits for them then.\n"
        f"`pointsman results {handle}` has what was answered, `pointsman cancel {handle}` gives up the rest."
    )


async def _patiently(look: Callable[[], Awaitable[Progress]], *, console: Console) -> Progress:
    """The progress, waited for while Postgres restarts: the workers wait for it too."""
    until = time.monotonic() + _AWAY_S
    told = False
    while True:
        try:
            return await look()
        except DBAPIError as error:
            if not is_transient(error) or time.monotonic() > until:
                raise
        if not told:
            console.print("Postgres is away; waiting for it.", style="yellow")
            told = True
        await asyncio.sleep(1.0)


class _Shown:
    """Shows progress on a terminal as a drawing that stays in place, elsewhere as a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._line_at = float("-inf")
        self._told_end = False

    def __enter__(self) -> "_Shown":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, progress: Progress, pace: ProgressRate) -> None:
        if self._live:
            self._live.update(drawing(progress, pace), refresh=True)
            return
        now = time.monotonic()
        if now - self._line_at >= _LINE_S or (progress.ended and not self._told_end):
            self._line_at = now
            self._told_end = progress.ended
            self._console.print(f"{progress.finished:,}/{progress.total:,} · {words(progress, pace)}")
