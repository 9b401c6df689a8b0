"""Progress of a running batch."""

import asyncio
import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from rich.console import Console
from sqlalchemy.exc import OperationalError

from cli.command_errors import CommandError, ExitCode
from cli.progress import LaterCommands, ProgressRate, duration, progress_bar, progress_line, wait_for_end
from db.reports.batch_progress import Progress

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROGRESS = Progress(
    public_id="batch_a",
    source="a.jsonl",
    total=1000,
    simulated=True,
    created_at=NOW,
    cancelled_at=None,
    ended_at=None,
    done=400,
    failed=2,
    cancelled=0,
    held=0,
    running=98,
    waiting=500,
    escalated=30,
    calls=460,
    cost_usd=0.0123,
    reserved_usd=1.5,
    wall_s=4.0,
    by_tier={"large": 40, "small": 360},
    open_by_stage={"route": 500, "small": 98},
)
ENDED = replace(PROGRESS, done=998, running=0, waiting=0, ended_at=NOW, open_by_stage={})


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (7, "0:07"), (760, "12:40"), (11_100, "3:05:00")])
def test_a_duration_reads_like_a_clock(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_pace_follows_the_last_seconds() -> None:
    rate = ProgressRate()
    rate.note(0, 100.0)
    assert rate.left_s(10) is None
    rate.note(100, 101.0)
    assert rate.per_s == 100.0
    assert rate.left_s(50) is None, "one second says little"
    rate.note(500, 105.0)
    assert rate.left_s(50) == 0.5
    for second in range(106, 150):
        rate.note(500 + 10 * (second - 105), float(second))
    assert rate.per_s == pytest.approx(10.0, abs=0.1)


def test_the_time_left_is_unknown_while_nothing_finishes() -> None:
    rate = ProgressRate()
    for second in range(20):
        rate.note(10 * second, float(second))
    for second in range(20, 60):
        rate.note(190, float(second))
        assert (rate.left_s(100) is None) == (second >= 29), "a provider is down, and the rate fades toward 0"
    rate.note(200, 60.0)
    assert rate.left_s(100) is not None


def test_the_line_tells_tiers_escalated_cost_pace_and_time_left() -> None:
    line = "small 360 · large 40 · escalated 30 · failed 2 · $0.0123 (simulated)"
    assert progress_line(PROGRESS, ProgressRate(per_s=100.0)) == f"{line} · 100 queries/s now · ETA 0:06"
    assert progress_line(PROGRESS) == f"{line} · 100.0 queries/s · ETA 0:06", "400 answered and 402 ended in 4 s"


@pytest.mark.parametrize("rate", [None, ProgressRate(per_s=100.0)], ids=["since the submission", "of the last seconds"])
def test_there_is_no_rate_once_nothing_runs_or_waits(rate: ProgressRate | None) -> None:
    settled = replace(ENDED, reserved_usd=0.0)
    assert progress_line(settled, rate).endswith("$0.0123 (simulated)")
    held = replace(PROGRESS, held=598, running=0, waiting=0, wall_s=4000.0, reserved_usd=0.0)
    line = "$0.0123 (simulated) · ETA unknown (598 held for lack of budget)"
    assert progress_line(held, rate).endswith(line)


def test_at_the_end_the_cost_names_what_calls_without_an_outcome_may_add() -> None:
    assert progress_line(ENDED).endswith("$0.0123 and up to $1.5000 of calls without an outcome (simulated)")
    audited = progress_line(replace(ENDED, reserved_audit_usd=1.5))
    assert audited.endswith("$0.0123 and up to $1.5000 of audits and grading under way (simulated)"), "nothing is lost"
    assert "outcome" not in progress_line(PROGRESS), "reservations of calls in flight are many times their cost"


def test_what_is_held_is_not_waited_for() -> None:
    held = replace(PROGRESS, held=500, waiting=0)
    line = "ETA 0:01 for the others (500 held for lack of budget)"
    assert progress_line(held, ProgressRate(per_s=100.0)).endswith(line), "98 run"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "put_off": {
                    "small": {
                        "queries": 412,
                        "until": "2026-01-01T10:00:05+00:00",
                        "reason": "nano is at its rate limit",
                    }
                }
            },
            "412 waiting at small until 10:00:05 UTC (nano is at its rate limit)",
        ),
        (
            {"held": 3, "held_for": {"nano": {"queries": 3, "provider": "openai", "reason": "auth"}}},
            "3 queries are held because the provider refuses the account (openai: auth)",
        ),
        ({"held": 1}, "1 held for lack of budget"),
        ({"after_pilot": 20}, "20 waiting for the pilot's decision"),
        (
            {"lost": 1, "lost_until": datetime(2026, 1, 1, 10, 3, tzinfo=UTC)},
            "1 waiting for the lease of a dead worker, until 10:03:00 UTC",
        ),
        ({"unserved": ["large"]}, "no worker serves large (`pointsman up` starts workers)"),
    ],
)
def test_the_time_left_says_what_blocks(changes: dict[str, Any], said: str) -> None:
    blocked = replace(PROGRESS, **changes)
    assert progress_line(blocked, ProgressRate(per_s=100.0)).endswith(f"({said})")
    assert progress_line(blocked, ProgressRate()).endswith(f"ETA unknown ({said})")


def test_a_pilot_shows_its_own_progress_and_no_time_left() -> None:
    pilot = replace(
        PROGRESS, done=44, failed=0, waiting=858, after_pilot=852, pilot_state="sampling", sampled=148, sampled_ended=44
    )
    line = progress_line(pilot, ProgressRate(per_s=8.0))
    assert line.startswith("pilot: 44 of 148 ended · small 360")
    assert line.endswith("(simulated) · ETA known after the pilot (852 waiting for the pilot's decision)")
    deciding = progress_line(replace(pilot, pilot_state="deciding"))
    assert deciding.startswith("pilot: all 148 ended, and their answers are being graded · ")
    assert "queries/s · ETA 1" in progress_line(replace(pilot, pilot_state="decided"))


def test_the_drawing_has_counts_and_a_share() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(progress_bar(PROGRESS, ProgressRate()))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "402/1,000" in shown
    assert "40 %" in shown


def _wait(*seen: Progress) -> tuple[Progress, str, int]:
    """What `wait_for_end` returns and prints for a batch that is polled so, one after another."""
    console = Console(file=io.StringIO(), width=200)
    looks = list(seen)
    checks: list[None] = []

    async def poll() -> Progress:
        return looks.pop(0) if len(looks) > 1 else looks[0]

    ended = asyncio.run(wait_for_end(poll, check=lambda: checks.append(None), console=console))
    return ended, console.file.getvalue(), len(checks)  # type: ignore[attr-defined]


def test_waiting_ends_with_the_batch_and_looks_after_the_workers_meanwhile() -> None:
    ended, shown, checks = _wait(PROGRESS, PROGRESS, ENDED)
    assert ended is ENDED
    assert checks == 2
    assert shown.splitlines()[0].startswith("402/1,000 · small 360")
    assert shown.splitlines()[-1].startswith("1,000/1,000")


def test_waiting_stops_with_the_cause_where_an_account_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.progress._HELD_S", 0.0)
    fault = {"queries": 100, "provider": "openai", "reason": "auth at gpt-5 (status 401 invalid_api_key)"}
    held = replace(PROGRESS, done=900, failed=0, held=100, running=0, waiting=0, held_for={"gpt-5": fault})
    with pytest.raises(
        CommandError, match=r"100 queries are held because .*openai: auth at gpt-5 \(status 401 invalid_api_key\)"
    ) as told:
        _wait(held)
    hint = told.value.hint or ""
    assert "batch_a is still open, and none of these queries has failed. Fix: set a valid key" in hint
    assert "`pointsman run --batch batch_a` then waits for the end." in hint
    assert told.value.code == 4, "not that of a failure: the batch goes on after the fix"


def test_waiting_stops_where_all_that_is_left_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.progress._HELD_S", 0.3)
    held = replace(PROGRESS, done=900, failed=0, held=100, running=0, waiting=0)
    with pytest.raises(CommandError, match="100 queries held because the budget") as held_error:
        _wait(held)
    assert held_error.value.code == ExitCode.OVER_BUDGET
    commands = LaterCommands.of("batch_a", file=" q.csv", output=" -o a.csv", fleet=" --fleet f.toml")
    assert commands.run == "pointsman run q.csv --batch batch_a -o a.csv --fleet f.toml"
    assert commands.results == "pointsman results batch_a -o a.csv --input q.csv"
    with pytest.raises(CommandError, match="100 queries held because the budget"):
        _wait(replace(held, done=10, waiting=890, after_pilot=890))


def test_waiting_outlasts_a_restart_of_postgres() -> None:
    console = Console(file=io.StringIO(), width=200)
    looks: list[Progress | OperationalError] = [
        PROGRESS,
        OperationalError("SELECT", {}, psycopg.OperationalError("the server closed the connection")),
        ENDED,
    ]

    async def poll() -> Progress:
        seen = looks.pop(0)
        if isinstance(seen, OperationalError):
            raise seen
        return seen

    assert asyncio.run(wait_for_end(poll, check=lambda: None, console=console)) is ENDED
    assert "Postgres is down" in console.file.getvalue()  # type: ignore[attr-defined]
