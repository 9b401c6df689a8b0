"""``pointsman spend``: real and simulated calls apart, by day and by key."""

import json
from typing import Any

from cli.command_errors import CommandError, ExitCode
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_reconcile import FILL, TODAY


def test_spend_is_summed_and_shown_at_once(command: Any, on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with bench.owner() as owner, owner.connect() as connection:
            await connection.exec_driver_sql(FILL)

    on_bench(story)
    shown = command("spend")
    assert shown.exit_code == 0, shown.output
    assert "6 calls, $1.65" in shown.stdout
    told = json.loads(command("spend", "--simulated", "--json").stdout)
    assert [(day["day"], day["calls"], day["cost_usd"], day["tiers"]) for day in told["data"]] == [
        (TODAY, 1, 9.0, {"s": 9.0})
    ]
    assert "without a key (default)" in command("spend", "--by", "key").stdout
    nothing = command("spend", "--tenant", "nothing")
    assert isinstance(nothing.exception, CommandError)
    assert (nothing.exception.code, "No call of a real batch" in nothing.exception.message) == (ExitCode.OK, True)
