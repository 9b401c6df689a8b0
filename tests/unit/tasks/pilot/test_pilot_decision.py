"""What a sample leads to: more of it, a certificate, or everything to the top tier."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from db.pilots import TakenPilot
from evaluation.graders.text_graders import GraderKind
from evaluation.quality_floor.pilot_size import LARGEST_SAMPLE
from routing.pilot import TierAnswer
from routing.query import NO_EXPECTATION
from tasks.pilot import decide_pilot as deciding
from tasks.pilot.graded_sample import GradedSample
from tasks.pilot.pilot_certification import Certified, NextLook, SampleMore, certify_sample, next_step
from tasks.pilot.sample import SampledQuery, read_sample

LADDER = ("small", "large")


def pilot(**columns: object) -> Any:
    asked = {
        "batch_id": 1,
        "public_id": "batch_a",
        "floor": 0.9,
        "confidence": 0.95,
        "seed": 1,
        "max_queries": None,
        "stops": False,
    }
    return SimpleNamespace(
        **asked | {"state": "deciding", "total": 2_000, "sampled": 0, "waiting": 2_000, "skipped": None} | columns
    )


def row(tier: str, *, usable: bool = True, query_id: int = 1) -> Any:
    return SimpleNamespace(
        query_id=query_id,
        custom_id="q",
        tier=tier,
        confidence=None,
        source=None,
        mean_logprob=None,
        detail={"usable": usable},
        response=orjson.dumps({"choices": [{"message": {"content": tier}}]}),
        cost_usd=0.5,
        body=b'{"messages":[{"role":"user","content":"What?"}]}',
        options=None,
    )


def test_a_trial_samples_no_more_than_it_was_asked_to() -> None:
    asked = pilot(stops=True, max_queries=30, total=100_000, waiting=100_000)
    step = next_step([], pilot=asked, ladder=LADDER)
    assert isinstance(step, SampleMore)
    assert step.queries == 30


def test_a_sample_is_never_too_large_to_be_fitted() -> None:
    for asked in (pilot(total=5_000_000), pilot(total=50_000, floor=0.999, stops=True)):
        step = next_step([], pilot=asked, ladder=LADDER)
        assert isinstance(step, SampleMore)
        assert step.queries <= LARGEST_SAMPLE


def test_a_ladder_of_one_tier_is_not_sampled() -> None:
    step = next_step([], pilot=pilot(), ladder=("large",))
    assert isinstance(step, Certified)
    assert (step.policy, step.reason) == ({"kind": "top"}, "the ladder has only one tier")


def test_where_the_top_tier_costs_nothing_there_is_nothing_to_certify() -> None:
    answers = (TierAnswer("small", "4", {}), TierAnswer("large", "4", {}))
    sample = [SampledQuery(n, f"q-{n}", "2+2?", NO_EXPECTATION, answers, (0.0, 0.0)) for n in range(50)]
    step = next_step(sample, pilot=pilot(sampled=206), ladder=LADDER)
    assert isinstance(step, Certified)
    assert step.policy == {"kind": "top"}
    assert "nothing can be saved" in step.reason


@pytest.mark.parametrize(("inconsistency", "reason"), [(0.0, "would not pay"), (1.0, "the judge contradicts itself")])
def test_a_pilot_that_certifies_nothing_still_names_its_grader(inconsistency: float, reason: str) -> None:
    answers = (TierAnswer("small", "5", {}), TierAnswer("large", "4", {}))
    sample = [SampledQuery(n, f"q-{n}", f"{n}+2?", NO_EXPECTATION, answers, (0.1, 1.0)) for n in range(120)]
    graded = GradedSample(GraderKind.JUDGE, [[0.0, 1.0]] * 120, inconsistencies=[inconsistency] * 120)
    step = certify_sample(
        sample,
        graded,
        NextLook(80),
        pilot=pilot(sampled=120),
        ladder=LADDER,
        unanswered=0,
        capped=0,
        grading_usd=1.0,
    )
    assert isinstance(step, Certified)
    assert reason in step.reason
    assert step.certificate["grader"]["mix"] == {"judge": 120}
    assert (step.certificate["grader"]["missed"] > 0.5) == bool(inconsistency)


async def _decided(fails: Exception, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    stored: dict[str, Any] = {}

    class Stored:
        def __init__(self, engine: object) -> None:
            pass

        async def claim(self, taken: TakenPilot, *, lease_s: float) -> TakenPilot:
            return taken

        async def find(self, batch_id: int) -> Any:
            return pilot(sampled=206)

        async def answers(self, batch_id: int) -> AsyncIterator[list[Any]]:
            yield [row("small"), row("large")]

        async def renew(self, taken: TakenPilot, *, lease_s: float) -> bool:
            return True

        async def decide(self, taken: TakenPilot, **columns: object) -> None:
            stored.update(columns)

    def broken(*_: object, **__: object) -> None:
        raise fails

    monkeypatch.setattr(deciding, "Pilots", Stored)
    monkeypatch.setattr(deciding, "next_step", broken)
    context: Any = SimpleNamespace(engine=None, fleet=SimpleNamespace(ladder=LADDER))
    await deciding.decide_pilot(TakenPilot(1, 1), context)
    return stored


def test_a_pilot_that_cannot_be_certified_ends_at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = asyncio.run(_decided(ValueError("singular"), monkeypatch))
    assert stored["policy"] == {"kind": "top"}
    assert "ValueError" in stored["reason"]


def test_a_query_without_a_usable_answer_of_the_top_tier_is_no_part_of_the_sample() -> None:
    rows = [row("small"), row("large", usable=False), row("special", query_id=2), row("large", query_id=2)]
    sample = read_sample([*rows, row("small", query_id=3), row("large", query_id=3)], LADDER)
    assert [query.query_id for query in sample] == [3]
