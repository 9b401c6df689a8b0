"""``python -m tests.integration.killed_buyer SETTINGS``: buys until all queries have ended, however often it is killed.

Each attempt is a fork of this process, so that a death costs no new start. An attempt dies by ``kill -9`` at each of
the ``failpoints`` once, or after each of ``delays_s``. Between two attempts all leases and waits are over, as if
minutes had passed. It prints how many attempts died. SETTINGS is a JSON object: `BuyerSettings`.
"""

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import text

from db import failpoints
from db.engine import make_engine
from tasks.lanes import batch_results
from tests.integration.end_to_end import worker_context_of
from tests.integration.lane_fixtures import buy, killable_fleet
from tests.integration.ledger_fixtures import LedgerHarness

MOST_ATTEMPTS = 60
_WAITS = 3
"""The exit status of an attempt that would have to wait for long: on a busy machine a create may time out."""

TIME_PASSES = (
    "UPDATE provider_batches SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL",
    "UPDATE provider_batches SET due_at = now(), creating_at = creating_at - interval '150 seconds',"
    " arrives_by = arrives_by - interval '150 seconds' WHERE state <> 'done'",
    "UPDATE queries SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL",
)
"""What a worker's death leaves, minutes later."""


@dataclass(frozen=True)
class BuyerSettings:
    """``folder`` gets a file for each failpoint that was met."""

    database_url: str
    simulator_url: str
    provider: str
    folder: str
    failpoints: list[str] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)

    def to_json(self) -> str:
        """The argument of the process."""
        return json.dumps(asdict(self))


def main() -> int:
    """Attempt after attempt; the exit status."""
    settings = BuyerSettings(**json.loads(sys.argv[1]))
    delays_s = list(settings.delays_s)
    deaths = 0
    for _ in range(MOST_ATTEMPTS):
        child = os.fork()
        if child == 0:
            os._exit(_status_of(_attempt(settings)))
        status = _outlived(child, delays_s.pop(0) if delays_s else None)
        if status == 0:
            print(deaths)
            return 0
        if status not in (-signal.SIGKILL, _WAITS):
            return 1
        deaths += status == -signal.SIGKILL
        if _status_of(_let_time_pass(settings)):
            return 1
    return 1


def _outlived(child: int, delay_s: float | None) -> int:
    """The exit status of ``child``, negative for a signal; it is killed after ``delay_s``."""
    killed_at = None if delay_s is None else time.monotonic() + delay_s
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if killed_at is not None and time.monotonic() >= killed_at:
            os.kill(child, signal.SIGKILL)
            killed_at = None
        time.sleep(0.005)


def _status_of(work: Coroutine[Any, Any, None]) -> int:
    """0, or 1 with a traceback."""
    try:
        asyncio.run(work)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


async def _attempt(settings: BuyerSettings) -> None:
    vars(batch_results)["APPLIED_AT_ONCE"] = 8  # so that a small batch is applied in several parts
    failpoints.armed.update({name: f"{settings.folder}/{name}" for name in settings.failpoints})
    engine = make_engine(settings.database_url)
    fleet = killable_fleet(settings.simulator_url, settings.provider)
    bench = LedgerHarness(engine, fleet)
    async with worker_context_of(bench, fleet) as context:
        await context.ledger.rescue(as_of=await context.ledger.clock())
        try:
            await buy(context, rounds=200)
        except AssertionError:
            await _show(bench)
            os._exit(_WAITS)
    await engine.dispose()


async def _show(bench: LedgerHarness) -> None:
    """What is still open, for people."""
    for sql in (
        "SELECT id, tier, state, queries, answered, outcome, cause, tries, turns, due_at - now() AS due_in"
        " FROM provider_batches ORDER BY id",
        "SELECT tier, state, count(*), min(due_at - now()) AS due_in FROM queries GROUP BY tier, state",
    ):
        for row in await bench.rows(sql):
            print(dict(row._mapping), file=sys.stderr)


async def _let_time_pass(settings: BuyerSettings) -> None:
    engine = make_engine(settings.database_url)
    async with engine.begin() as connection:
        for statement in TIME_PASSES:
            await connection.execute(text(statement))
    await engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
