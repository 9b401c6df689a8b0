"""``pointsman drift`` on a log: calm while all is as it was, an alarm with its reason once it is not."""

import json
import subprocess
import sys
from typing import Any

import pytest

from settings import Settings
from tests.integration.bench import Bench, OnBench

WRITE = """
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, score,
                       confidence, propensity, reasons, detail)
SELECT 1, n, 1, 'route', 'advance', 'route', t.tier, 'ready', t.tier, 'gate',
       (n * 7919 % 1000) / 1000.0 * :spread, 0.9, 1, '{}', jsonb_build_object('category', 'general')
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n,
     LATERAL (SELECT CASE WHEN n % 10 < :small THEN 'small' ELSE 'large' END AS tier) AS t
RETURNING 1
"""


async def decide(bench: Bench, first: int, last: int, *, small: int = 7, spread: float = 1.0) -> None:
    await bench.rows(WRITE, first=first, last=last, small=small, spread=spread)


def drift(settings: Settings, *arguments: str, code: int = 0) -> dict[str, Any]:
    environ = {"POINTSMAN_HOME": str(settings.home), "DATABASE_URL": settings.database_url, "PATH": ""}
    command = [sys.executable, "-m", "cli.main", "drift", *arguments, "--json"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def test_a_log_that_stays_as_it_was_gives_no_alarm(on_bench: OnBench, settings: Settings) -> None:
    on_bench(lambda bench: decide(bench, 1, 1500))
    told = drift(settings, "--reference", "1000", "--recent", "2000")
    assert (told["reference"], told["recent"]) == (1000, 500), "no decision counts on both sides"
    assert {one["drift"] for one in told["features"]} == {"stable"}
    assert {one["feature"] for one in told["features"]} == {"tier", "category", "score", "confidence", "body_bytes"}


def test_a_shift_of_the_mix_and_of_a_feature_is_an_alarm_that_says_what_moved(
    on_bench: OnBench, settings: Settings
) -> None:
    async def story(bench: Bench) -> None:
        await decide(bench, 1, 1000)
        await decide(bench, 1001, 1500, small=2, spread=0.5)

    on_bench(story)
    told = drift(settings, "--reference", "1000", code=1)
    by = {one["feature"]: one for one in told["features"]}
    assert by["tier"]["drift"] == by["score"]["drift"] == "shifted"
    assert by["confidence"]["drift"] == "stable"
    assert by["tier"]["moved"] in ("small: 70% → 20%", "large: 30% → 80%")


def test_the_reference_begins_with_the_router_that_serves(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: Bench) -> None:
        await decide(bench, 1, 500, small=0)
        await bench.rows("INSERT INTO router_promotions (name, promoted_by) VALUES ('v1', 'ann') RETURNING 1")
        await decide(bench, 501, 1500)

    on_bench(story)
    told = drift(settings, "--reference", "500")
    assert {one["drift"] for one in told["features"]} == {"stable"}


@pytest.mark.parametrize("decisions", [0, 40])
def test_too_few_decisions_are_said_to_be_too_few(on_bench: OnBench, settings: Settings, decisions: int) -> None:
    on_bench(lambda bench: decide(bench, 1, decisions))
    told = drift(settings, "--reference", "30", code=2)
    assert "30 of each are the least" in told["error"]["message"]


def test_the_table_has_words_and_no_markup(on_bench: OnBench, settings: Settings) -> None:
    on_bench(lambda bench: decide(bench, 1, 500))
    environ = {"POINTSMAN_HOME": str(settings.home), "DATABASE_URL": settings.database_url, "PATH": ""}
    command = [sys.executable, "-m", "cli.main", "drift", "--reference", "300"]
    told = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "stable" in told
    assert "[" not in told
