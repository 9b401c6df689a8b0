"""A ladder within one model: its tiers are the same model at two efforts."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from db.batch_writer import BatchSpec
from db.reports.forecast_history import load_history
from routing.answer_checks.confidence_policy import ConfidencePolicy
from routing.fleet import Fleet
from simulator.process import SimulatorProcess
from submission.input_line import InputLine
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_budget_guard import PRICES, billed_usd
from tests.integration.test_confidence_calls import SMALL_FIRST, lines, one_model_fleet

EFFORTS = {"low": {"level": 0.3, "reasoning_tokens": 50}, "high": {"level": 1.0, "reasoning_tokens": 800}}


def one_model_at_two_efforts(url: str) -> Fleet:
    fleet = one_model_fleet(url, ConfidencePolicy())
    model = fleet.models["gpt-5.2"]
    low = replace(model, name="gpt-5.2-low", tier="small", reasoning_effort="low", logprobs=True)
    high = replace(model, name="gpt-5.2-high", tier="large", reasoning_effort="high", logprobs=True)
    tiers = {
        "small": replace(fleet.tiers["small"], models=(low.name,)),
        "large": replace(fleet.tiers["large"], models=(high.name,)),
    }
    return replace(fleet, models={low.name: low, high.name: high}, tiers=tiers)


def without_cap(line: InputLine) -> InputLine:
    body = {key: value for key, value in orjson.loads(line.body).items() if key != "max_tokens"}
    return line._replace(body=orjson.dumps(body))


def test_doubtful_answers_climb_to_more_effort_and_the_forecast_learns_the_reasoning(
    on_bench: OnBench, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.control(prices=PRICES, efforts={"gpt-5.2": EFFORTS})

    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_at_two_efforts(simulator.url)
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(map(without_cap, lines("e")), BatchSpec(source="test"), context)
            await work_off(context)
            figures = await account(batch, context)
            assert figures.progress.done == figures.progress.total
            history = await load_history(context.engine, fleet, tenant="default", total=figures.progress.total)
        rows = await bench.rows(
            "SELECT deployment, model, count(*) AS n, avg(reasoning_tokens) AS reasoned, sum(cost_usd) AS usd"
            " FROM calls GROUP BY 1, 2 ORDER BY 1 DESC"
        )
        assert [row.deployment for row in rows] == ["gpt-5.2-low", "gpt-5.2-high"]
        assert {row.model for row in rows} == {"gpt-5.2"}
        low, high = rows
        assert 0 < high.n < low.n
        assert 25 <= low.reasoned <= 75 < 400 <= high.reasoned <= 1200
        reasoned = {tier: tokens for tier, _, _, _, tokens, _ in history.lengths.of_shapes([""])}
        assert reasoned == pytest.approx({"small": float(low.reasoned), "large": float(high.reasoned)}, abs=0.1)
        bill = billed_usd(tmp_path / "calls.jsonl", simulator)
        assert float(low.usd + high.usd) == pytest.approx(bill, abs=1e-9)

    on_bench(story)
