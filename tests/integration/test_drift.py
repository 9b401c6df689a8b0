"""``pointsman drift`` on a log: calm while all is as it was, an alarm with its reason once it is not."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.reports.drift_samples import drift_times
from settings import Settings
from tests.command_line import in_process
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

WRITE = """
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, score,
                       confidence, propensity, reasons, detail)
SELECT 1, n, 1, 'route', 'advance', 'route', t.tier, 'ready', t.tier, 'gate',
       (n * 7919 % 1000) / 1000.0 * :spread, 0.9, 1, '{}', jsonb_build_object('category', 'general')
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n,
     LATERAL (SELECT CASE WHEN n % 10 < :small THEN 'small' ELSE 'large' END AS tier) AS t
RETURNING 1
"""


Drift = Callable[..., dict[str, Any]]


async def decide(bench: LedgerHarness, first: int, last: int, *, small: int = 7, spread: float = 1.0) -> None:
    await bench.rows(WRITE, first=first, last=last, small=small, spread=spread)


@pytest.fixture
def drift(settings: Settings) -> Drift:
    """The command's JSON, having ended with ``code``."""

    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        environ = {"POINTSMAN_HOME": str(settings.home), "DATABASE_URL": settings.database_url}
        ended = in_process("drift", *arguments, "--json", environ=environ)
        assert ended.returncode == code, ended.stderr
        told: dict[str, Any] = json.loads(ended.stdout)
        return told

    return run


def test_a_log_that_stays_as_it_was_gives_no_alarm(on_bench: OnBench, drift: Drift) -> None:
    on_bench(lambda bench: decide(bench, 1, 1500))
    told = drift("--reference", "1000", "--recent", "2000")
    assert (told["reference"], told["recent"]) == (1000, 500), "no decision counts on both sides"
    assert {one["drift"] for one in told["features"]} == {"stable"}
    assert {one["feature"] for one in told["features"]} == {"tier", "category", "score", "confidence", "body_bytes"}


def test_a_shift_of_the_mix_and_of_a_feature_is_an_alarm_that_says_what_moved(on_bench: OnBench, drift: Drift) -> None:
    async def story(bench: LedgerHarness) -> None:
        await decide(bench, 1, 1000)
        await decide(bench, 1001, 1500, small=2, spread=0.5)

    on_bench(story)
    told = drift("--reference", "1000", code=1)
    by = {one["feature"]: one for one in told["features"]}
    assert by["tier"]["drift"] == by["score"]["drift"] == "shifted"
    assert by["confidence"]["drift"] == "stable"
    assert by["tier"]["moved"] in ("small: 70 % → 20 %", "large: 30 % → 80 %")


def test_the_reference_begins_with_the_router_that_serves(on_bench: OnBench, drift: Drift) -> None:
    async def story(bench: LedgerHarness) -> None:
        await decide(bench, 1, 500, small=0)
        await bench.rows("INSERT INTO router_promotions (name, promoted_by) VALUES ('v1', 'ann') RETURNING 1")
        await decide(bench, 501, 1500)

    on_bench(story)
    told = drift("--reference", "500")
    assert {one["drift"] for one in told["features"]} == {"stable"}


@pytest.mark.parametrize("decisions", [0, 40])
def test_too_few_decisions_are_said_to_be_too_few(on_bench: OnBench, drift: Drift, decisions: int) -> None:
    on_bench(lambda bench: decide(bench, 1, decisions))
    told = drift("--reference", "30", code=2)
    assert "each needs at least 30" in told["error"]["message"]
    assert told["error"]["hint"] == f"Route at least {60 - decisions} more queries; then add --reference 30."


def test_what_is_advised_is_not_what_was_typed_and_helps(on_bench: OnBench, drift: Drift) -> None:
    on_bench(lambda bench: decide(bench, 1, 400))
    hint = drift(code=2)["error"]["hint"]
    assert hint == "Use a smaller reference than 10,000: --reference 200."
    told = drift(*hint.rstrip(".").split()[-2:])
    assert (told["reference"], told["recent"]) == (200, 200)
    hint = drift("--last", "24h", "--against", "7d", code=2)["error"]["hint"]
    assert "--last 24h --against 28d; or omit --last" in hint


def test_the_table_has_words_and_no_markup(on_bench: OnBench, command: Any) -> None:
    on_bench(lambda bench: decide(bench, 1, 500))
    told = command("drift", "--reference", "300").stdout
    assert "stable" in told
    assert "[" not in told
    assert not set(told) & set("│─┃━"), "plain, as every table of ours is"


async def decided_before(bench: LedgerHarness, first: int, last: int, *, hours: int, small: int) -> None:
    """The same as `decide`, so long ago, by the owner: the application writes no times."""
    sql = WRITE.replace("INSERT INTO decisions (", "INSERT INTO decisions (at, ").replace(
        "SELECT 1, n, 1,", f"SELECT now() - interval '{hours} hours', 1, n, 1,"
    )
    await bench.rows_as_owner(sql, first=first, last=last, small=small, spread=1.0)


def test_the_last_day_is_held_against_the_week_before(on_bench: OnBench, drift: Drift) -> None:
    async def story(bench: LedgerHarness) -> None:
        await decided_before(bench, 1, 500, hours=24 * 9, small=0)
        await decided_before(bench, 501, 1500, hours=48, small=7)
        await decide(bench, 1501, 2000, small=2)

    on_bench(story)
    told = drift("--last", "24h", code=1)
    assert (told["reference"], told["recent"]) == (1000, 500)
    by = {one["feature"]: one["drift"] for one in told["features"]}
    assert (by["tier"], by["score"]) == ("shifted", "stable")
    assert drift("--last", "x", code=2)["error"]["hint"] == ("Use a number with h, d, w or y, for example --last 24h.")


def test_of_a_long_stretch_a_sample_is_read_that_has_the_mix_of_the_whole(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await decided_before(bench, 1, 20_000, hours=48, small=3)
        await decide(bench, 20_001, 20_500)
        now = datetime.now(UTC)
        since, between = now - timedelta(days=8), now - timedelta(days=1)
        told = await drift_times(bench.engine, since=since, between=between, until=now, most=2000)
        assert told.counts[1] == 500
        assert 1700 <= told.counts[0] <= 2001
        assert 0.25 < told.reference["tier"].count("small") / told.counts[0] < 0.35

    on_bench(story)
