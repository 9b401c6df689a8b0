"""Confidence that costs calls: samples and verifications are in the ledger, within the budgets, and decide."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from db.batch_writer import BatchSpec
from db.label_store import Label, label
from db.reports.batch_warnings import batch_warnings
from db.reports.results import result_lines, result_rows
from fleet_config import load_fleet
from routing.answer_checks.confidence_policy import CalibrationMap, ConfidencePolicy, ConfidenceSource
from routing.budget.query_budget import worst_usd
from routing.fleet import BudgetPolicy, Fleet
from routing.policy.llm_router_prompt import RouterVote
from routing.query import Query, read_body
from settings import ROOT
from simulator.process import SimulatorProcess
from submission.input_line import InputLine
from tests.chaos import query_corpus
from tests.integration.end_to_end import Watch, account, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_budget_guard import PRICES, billed_usd
from trained_routers.hot_reload import LoadedRouters

QUERIES = 40


class AlwaysSmall:
    """A classifier that sends every query to the small tier."""

    name = "always-small"
    workload = None

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        return [RouterVote(self.name, "small", 1.0, 0.0, "a test") for _ in queries]


SMALL_FIRST = LoadedRouters(predictor=AlwaysSmall())


def one_model_fleet(url: str, policy: ConfidencePolicy, *maps: CalibrationMap) -> Fleet:
    """Two tiers of one model each, of which the small one has ``policy``."""
    fleet = simulated_fleet(url)
    small, large = fleet.models["gpt-5-nano"], fleet.models["gpt-5.2"]
    return replace(
        fleet,
        models={model.name: model for model in (small, large)},
        tiers={
            "small": replace(fleet.tiers["small"], models=(small.name,), escalates_to="large", confidence=policy),
            "large": replace(fleet.tiers["large"], models=(large.name,)),
        },
        calibrations=maps,
        router=replace(fleet.router, stages=("classifier",)),
    )


def lines(
    tag: str, *, pin: str | None = None, workload: str | None = None, max_cost_usd: float | None = None
) -> Iterator[InputLine]:
    """Queries whose samples may differ: each has a seed."""
    options = {
        name: value
        for name, value in (
            ("pin", pin),
            ("metadata", None if workload is None else {"workload": workload}),
            ("max_cost_usd", max_cost_usd),
        )
        if value is not None
    }
    for line in query_corpus.lines(tag, QUERIES):
        body = orjson.loads(line.body) | {"seed": 11}
        yield InputLine(line.line_no, line.custom_id, orjson.dumps(body), orjson.dumps(options) if options else None)


async def purposes(bench: LedgerHarness) -> Counter[tuple[str, str]]:
    rows = await bench.rows("SELECT tier, purpose, count(*) AS n FROM calls GROUP BY 1, 2")
    return Counter({(row.tier, row.purpose): row.n for row in rows})


async def judged_at_small(bench: LedgerHarness) -> list[tuple[bool, float | None, str, float | None]]:
    rows = await bench.rows(
        "SELECT move = 'finish' AS stood, confidence, detail ->> 'source' AS source, detail ->> 'raw' AS raw"
        " FROM decisions WHERE kind = 'judge' AND tier = 'small'"
    )
    return [(row.stood, row.confidence, row.source, None if row.raw is None else float(row.raw)) for row in rows]


@pytest.fixture
def priced(simulator: SimulatorProcess) -> SimulatorProcess:
    simulator.control(prices=PRICES)
    return simulator


def test_an_answer_that_its_samples_contradict_climbs(
    on_bench: OnBench, priced: SimulatorProcess, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY, samples=2))
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(lines("s"), BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == QUERIES
        calls = await purposes(bench)
        answered = calls["small", "answer"]
        assert calls["small", "sample"] == 2 * answered
        judged = await judged_at_small(bench)
        assert {source for _, _, source, _ in judged} == {"self_consistency"}
        stood = [confidence for stands, confidence, _, _ in judged if stands]
        climbed = [confidence for stands, confidence, _, _ in judged if not stands]
        assert stood, "no answer agreed with its samples"
        assert climbed, "no answer was contradicted"
        assert all(confidence is not None and confidence >= 0.7 for confidence in stood)
        assert all(confidence is not None and confidence < 0.7 for confidence in climbed)
        total = await bench.rows("SELECT sum(cost_usd) AS usd FROM calls")
        assert float(total[0].usd) == pytest.approx(billed_usd(tmp_path / "calls.jsonl", priced), abs=1e-9)

    on_bench(story)


def test_a_verifier_of_another_tier_is_asked_and_its_word_is_calibrated(
    on_bench: OnBench, priced: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        policy = ConfidencePolicy(ConfidenceSource.SELF_VERIFICATION, verifier="gpt-5.2", samples=1)
        halved = CalibrationMap("gpt-5-nano", policy.source, ((0.0, 0.0), (1.0, 0.5)), workload="tickets")
        async with worker_context_of(bench, one_model_fleet(priced.url, policy, halved)) as context:
            context.trained = SMALL_FIRST
            await hand_in(lines("v"), BatchSpec(source="test"), context)
            await work_off(context)
            raw = await judged_at_small(bench)
            assert {(source, before) for _, _, source, before in raw} == {("self_verification", None)}
            assert {stands for stands, _, _, _ in raw} == {True, False}
            verified = await bench.rows("SELECT DISTINCT model, tier, purpose FROM calls WHERE purpose = 'verify'")
            assert [(row.model, row.tier) for row in verified] == [("gpt-5.2", "small")]
            await hand_in(lines("t", workload="tickets"), BatchSpec(source="test"), context)
            await work_off(context)
        mapped = [one for one in await judged_at_small(bench) if one[3] is not None]
        assert mapped
        assert all(confidence == pytest.approx(before / 2) for _, confidence, _, before in mapped if before is not None)
        assert not any(stands for stands, _, _, _ in mapped), "half of it never reaches the threshold"

    on_bench(story)


def test_a_sampled_answer_that_climbed_is_delivered_where_the_top_tier_fails(
    on_bench: OnBench, priced: SimulatorProcess
) -> None:
    priced.control(faults=[{"kind": "404", "model": "gpt-5.2"}])

    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY, samples=1))
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(lines("k"), BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == QUERIES
        accepted = await bench.rows("SELECT accepted FROM answers WHERE tier = 'small'")
        assert Counter(row.accepted for row in accepted)[False] > 0

    on_bench(story)


def test_nothing_is_sampled_where_it_would_decide_nothing(on_bench: OnBench, priced: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY))
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            await hand_in(lines("p", pin="small"), BatchSpec(source="test"), context)
            await hand_in(lines("l", pin="large"), BatchSpec(source="test"), context)
            await work_off(context)
        assert {purpose for _, purpose in await purposes(bench)} == {"answer"}

    on_bench(story)


@pytest.mark.parametrize("policy", list(BudgetPolicy))
def test_samples_stay_within_the_budget(on_bench: OnBench, priced: SimulatorProcess, policy: BudgetPolicy) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY))
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            free = await hand_in(lines("f"), BatchSpec(source="test"), context)
            await work_off(context)
            cap_usd = round((await account(free, context)).cost_usd / 2, 6)
            order = BatchSpec(source="test", cap_usd=cap_usd, budget_policy=policy)
            batch = await hand_in(lines("b"), order, context)
            watch = Watch(bench, batch)
            await work_off(context, watch.look)
            assert (await account(batch, context)).cost_usd <= cap_usd
            assert watch.samples > 0

    on_bench(story)


def test_samples_stay_within_a_querys_own_cap(on_bench: OnBench, priced: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY, samples=5))
        small = fleet.models["gpt-5-nano"]
        cap_usd = 2.5 * worst_usd(Query("q" * 120, max_tokens=200), small)
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            await hand_in(lines("c", max_cost_usd=cap_usd), BatchSpec(source="test"), context)
            await work_off(context)
        spent = await bench.rows("SELECT query_id, sum(cost_usd) AS usd, count(*) AS n FROM calls GROUP BY 1")
        assert spent
        assert all(float(row.usd) <= cap_usd for row in spent)
        assert max(row.n for row in spent) > 1, "what the cap has room for is sampled"

    on_bench(story)


def test_what_our_own_cap_left_nothing_of_is_asked_again_with_room(on_bench: OnBench, priced: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy())
        large = replace(fleet.models["gpt-5.2"], max_output_tokens=1)
        fleet = replace(fleet, models={**fleet.models, large.name: large})
        asked = {
            "messages": [{"role": "user", "content": "Return a JSON object with keys: name, age"}],
            "model": "large",
        }
        line = InputLine(
            1, "cut", orjson.dumps(asked), orjson.dumps({"pin": "large", "expects": {"json_object": True}})
        )
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in([line], BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == 1
        assert await purposes(bench) == {("large", "answer"): 1, ("large", "extend"): 1}
        (answer,) = await bench.rows(
            "SELECT c.purpose, a.response -> 'choices' -> 0 ->> 'finish_reason' AS finish FROM answers AS a"
            " JOIN calls AS c ON c.id = a.call_id"
        )
        assert (answer.purpose, answer.finish) == ("extend", "stop")

    on_bench(story)


def test_what_our_own_cap_cut_off_is_asked_again_with_room_before_a_more_expensive_tier(
    on_bench: OnBench, priced: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy())
        small = replace(fleet.models["gpt-5-nano"], max_output_tokens=1)
        fleet = replace(fleet, models={**fleet.models, small.name: small})
        asked = {"messages": [{"role": "user", "content": "Return a JSON object with keys: name, age"}]}
        line = InputLine(1, "cut", orjson.dumps(asked), orjson.dumps({"expects": {"json_object": True}}))
        async with worker_context_of(bench, fleet) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in([line], BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == 1
        calls = await purposes(bench)
        assert calls["small", "answer"] == calls["small", "extend"] == 1
        first = await bench.rows("SELECT purpose FROM calls WHERE tier = 'large' ORDER BY id")
        assert [row.purpose for row in first] in ([], ["answer"]), "what is whole may still climb for its confidence"

    on_bench(story)


def test_an_answer_that_our_own_cap_cut_off_is_asked_again_with_room_at_the_top_too(
    on_bench: OnBench, priced: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy())
        short = {name: replace(model, max_output_tokens=10) for name, model in fleet.models.items()}
        bare = [
            InputLine(
                line.line_no, line.custom_id, orjson.dumps({"messages": orjson.loads(line.body)["messages"]}), None
            )
            for line in query_corpus.lines("d", QUERIES)
        ]
        async with worker_context_of(bench, replace(fleet, models=short)) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(bare, BatchSpec(source="test"), context)
            await work_off(context)
            figures = await account(batch, context)
        assert (figures.progress.done, figures.cut_off) == (QUERIES, ())
        assert (await purposes(bench))["large", "extend"] > 0

    on_bench(story)


def test_an_answer_that_is_cut_off_all_the_same_is_delivered_marked_and_counted_with_the_fix(
    on_bench: OnBench, priced: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = one_model_fleet(priced.url, ConfidencePolicy())
        large = fleet.models["gpt-5.2"]
        asked = {"messages": [{"role": "user", "content": "Explain in detail how a steam engine works."}]}
        full = read_body(asked).measured.careful(large) + 10
        narrow = replace(large, max_output_tokens=10, context_tokens=full)
        bodies = {"by the context": asked, "by its line": asked | {"max_tokens": 5}, "label": asked | {"max_tokens": 1}}
        given = [
            InputLine(
                number,
                name,
                orjson.dumps(body),
                orjson.dumps({"pin": "large"} | ({"expects": {"regex": ".*"}} if name == "label" else {})),
            )
            for number, (name, body) in enumerate(bodies.items(), 1)
        ]
        async with worker_context_of(bench, replace(fleet, models=fleet.models | {large.name: narrow})) as context:
            batch = await hand_in(given, BatchSpec(source="test"), context)
            await work_off(context)
            figures = await account(batch, context)
            lines = [orjson.loads(line) async for line in result_lines(bench.engine, batch.id)]
            rows = [row async for row in result_rows(bench.engine, batch.id)]
        assert figures.progress.done == 3
        assert await purposes(bench) == {("large", "answer"): 3}
        assert [line["custom_id"] for line in lines if line["pointsman"].get("cut_off")] == list(bodies)[:2]
        assert [row.custom_id for row in rows if row.cut_off] == list(bodies)[:2]
        of_line, of_context = sorted(batch_warnings(figures), key=len)
        assert of_line == (
            "1 answer ends in the middle (e.g. by its line): cut off at max_tokens of the line. fix: raise it there"
        )
        assert "(e.g. by the context): cut off at max_output_tokens of gpt-5.2" in of_context

    on_bench(story)


def test_labels_make_the_calibration_of_a_model_source_and_workload(
    on_bench: OnBench, priced: SimulatorProcess, command: Any, tmp_path: Path
) -> None:
    policy = ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY)

    async def graded(bench: LedgerHarness) -> list[Label]:
        rows = await bench.rows(
            "SELECT query_id, confidence FROM decisions"
            " WHERE kind = 'judge' AND tier = 'small' AND confidence IS NOT NULL ORDER BY query_id"
        )
        return [Label(row.query_id, "small", float(row.confidence > 0.5)) for row in rows]

    async def few(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, one_model_fleet(priced.url, policy)) as context:
            context.trained = SMALL_FIRST
            for tag in ("x", "y"):
                await hand_in(lines(tag, workload="tickets"), BatchSpec(source="test"), context)
            await work_off(context)
        await label(bench.engine, (await graded(bench))[:40], source="file", said_by="test")

    async def all_of_them(bench: LedgerHarness) -> None:
        await label(bench.engine, await graded(bench), source="file", said_by="test")

    on_bench(few)
    told = command("calibrate-confidence")
    assert told.exit_code != 0
    assert "40 labels, but 50 are needed" in told.output
    on_bench(all_of_them)
    told = command("calibrate-confidence")
    assert told.exit_code == 0, told.output
    (written,) = tomllib.loads(told.stdout)["calibrations"].values()
    assert (written["model"], written["source"], written["workload"]) == ("gpt-5-nano", policy.source, "tickets")
    first, last = written["points"][0], written["points"][-1]
    assert first[1] < 0.3 < 0.7 < last[1], "what agreed was right, and what did not was wrong"
    fleet = tmp_path / "fleet.toml"
    fleet.write_text((ROOT / "fleet.toml").read_text() + "\n" + told.stdout)
    assert [one.model for one in load_fleet(fleet, {}).calibrations] == ["gpt-5-nano"]
