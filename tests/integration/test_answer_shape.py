"""Answers of the wrong shape: what is certain is corrected for free, and the query stays at its tier."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from db.batch_writer import BatchSpec
from routing.answer_checks.confidence_policy import ConfidencePolicy
from routing.fleet import Fleet, ShapePolicy
from simulator.process import SimulatorProcess
from submission.input_line import InputLine
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_confidence_calls import SMALL_FIRST, one_model_fleet, purposes

JSON_OBJECT = {"expects": {"json_object": True}}
SPAM_OR_HAM = {"expects": {"choices": ["spam", "ham"]}}


def line(number: int, text: str, options: Mapping[str, Any]) -> InputLine:
    body = {"messages": [{"role": "user", "content": text}]}
    return InputLine(number, f"q-{number}", orjson.dumps(body), orjson.dumps(options))


def fleet_of(url: str, shape: ShapePolicy) -> Fleet:
    """Its small tier accepts whatever the validators do."""
    fleet = one_model_fleet(url, ConfidencePolicy())
    small = replace(fleet.tiers["small"], confidence_threshold=0.0)
    return replace(fleet, tiers={**fleet.tiers, "small": small}, shape=shape)


LINES = [
    line(1, "Return a JSON object with keys: name, age", JSON_OBJECT),
    line(2, "Is this mail spam? Reply with one of: spam, ham", SPAM_OR_HAM),
]
FAULTS = [
    {"kind": "code_fence", "model": "gpt-5-nano", "first": 1},
]


def test_a_certain_correction_is_delivered_marked_and_free(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    simulator.control(faults=FAULTS, strengths={"gpt-5-nano": 1.0})

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of(simulator.url, ShapePolicy())) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(LINES, BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == 2
        assert await purposes(bench) == {("small", "answer"): 2}
        answers = await bench.rows("SELECT response, accepted FROM answers ORDER BY query_id")
        for answer in answers:
            content = answer.response["choices"][0]["message"]["content"]
            correction = answer.response["pointsman"]["correction"]
            assert answer.accepted
            assert correction["rules"] == ["code fence"]
            assert correction["original"].startswith("```")
            assert content in correction["original"]
        assert isinstance(orjson.loads(answers[0].response["choices"][0]["message"]["content"]), dict)
        assert answers[1].response["choices"][0]["message"]["content"] in ("spam", "ham")
        reasons = await bench.rows("SELECT codes, reasons FROM decisions WHERE kind = 'judge'")
        assert [(row.codes[-1], row.reasons[-1]) for row in reasons] == [("corrected", "corrected: code fence")] * 2

    on_bench(story)


def test_without_the_switch_the_query_climbs(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    simulator.control(faults=FAULTS, strengths={"gpt-5-nano": 1.0})

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of(simulator.url, ShapePolicy(correction=False))) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(LINES, BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == 2
        assert await purposes(bench) == {("small", "answer"): 2, ("large", "answer"): 2}
        assert not await bench.rows("SELECT 1 FROM decisions WHERE 'corrected' = ANY(codes)")

    on_bench(story)
