"""Policies as they are served: read once, heeded when breached, and never in the way of a paid answer."""

import asyncio
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from db.pilots import BatchPolicy
from evaluation.quality_floor.certification import certify
from evaluation.quality_floor.policy_path import Entry, entries
from routing.answer_checks.judge import Verdict
from routing.outcome import Completion, Usage
from routing.pilot import PolicyStart
from routing.query import read_body
from routing.reason import Reason, ReasonCode
from tasks.pilot.pilot_certification import LadderQualityPolicy
from tasks.pilot.pilot_judge import judge_with_pilot
from tasks.pilot.policy_cache import PolicyCache
from tests.unit.evaluation.quality_floor.test_quality_floor import GOLD, TARGET, questions

LADDER = ("small", "large")
SURE = Reason(ReasonCode.CONFIDENT, "confidence 0.90 ≥ 0.70")
NOTE = Reason(ReasonCode.NOTE, "a note")
DOUBTFUL = Verdict(True, 0.9, (SURE, NOTE), "logprob")


class Stored:
    """Stored policies, and how they were asked for."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self.stored = BatchPolicy(policy, b"", 0.01, is_breached=False)
        self.asked: list[tuple[list[int], list[int]]] = []

    async def policies(self, batch_ids: list[int], *, known: list[int]) -> dict[int, BatchPolicy]:
        self.asked.append((batch_ids, known))
        await asyncio.sleep(0)
        return dict.fromkeys(batch_ids, self.stored)


def test_a_policy_is_read_once_by_all_who_need_it_and_a_breach_is_heeded(monkeypatch: Any) -> None:
    async def story() -> None:
        cache, stored = PolicyCache(), Stored({"kind": "default"})
        pilots: Any = stored
        await asyncio.gather(*(cache.get([1], pilots, ladder=LADDER) for _ in range(5)))
        assert stored.asked == [([1], [])]
        monkeypatch.setattr("tasks.pilot.policy_cache.REFRESH_S", -1.0)
        stored.stored = replace(stored.stored, is_breached=True)
        served = (await cache.get([1], pilots, ladder=LADDER))[1]
        assert stored.asked[-1] == ([1], [1]), "without the weights that it has"
        assert served.policy is not None
        assert served.policy.starts([1], ["What?"]) == [PolicyStart("large")]

    asyncio.run(story())


def test_a_policy_that_was_certified_for_other_tiers_is_not_followed() -> None:
    async def story() -> None:
        pilots: Any = Stored({"kind": "ladder", "tiers": ["tiny", "huge"], "sources": [[]], "grader": "exact"})
        served = (await PolicyCache().get([1], pilots, ladder=LADDER))[1]
        assert served.policy is not None
        assert served.policy.starts([1], ["What?"]) == [PolicyStart("large")]

    asyncio.run(story())


async def _judged(tier: str, pin: str | None) -> tuple[Verdict, str | None]:
    class Broken:
        async def get(self, *_: object, **__: object) -> None:
            raise ValueError("weights")

    completion = Completion("4", "stop", Usage(1, 1), {}, 1.0, "m")
    context: Any = SimpleNamespace(engine=None, policies=Broken(), fleet=SimpleNamespace(ladder=LADDER, top="large"))
    queued: Any = SimpleNamespace(id=1, batch_id=1, is_pilot=False, has_policy=True, escalations=0)
    query = read_body({"messages": [{"role": "user", "content": "2+2?"}]}, pin=pin)
    return await judge_with_pilot(DOUBTFUL, completion, query=query, queued=queued, tier=tier, context=context)


def test_where_a_policy_fails_the_top_tier_is_asked_and_the_answer_is_kept() -> None:
    verdict, next_tier = asyncio.run(_judged("small", None))
    assert (verdict.accepted, verdict.usable, next_tier) == (False, True, "large")
    assert verdict.reasons[1:] == (NOTE,), "a rejected answer has no reason to accept it"


def test_no_policy_has_a_say_over_a_pin_or_off_the_ladder() -> None:
    assert asyncio.run(_judged("small", "small")) == (DOUBTFUL, None)
    assert asyncio.run(_judged("special", None)) == (DOUBTFUL, None)


def test_a_query_is_sent_to_the_top_with_the_reason_why_no_policy_applies() -> None:
    async def why(policy: dict[str, Any], *, is_breached: bool = False) -> str:
        stored = Stored(policy)
        stored.stored = replace(stored.stored, is_breached=is_breached)
        pilots: Any = stored
        return (await PolicyCache().get([1], pilots, ladder=LADDER))[1].why

    assert asyncio.run(why({"kind": "top"})) == "the pilot certified no policy, so the top tier answers"
    assert "broke the floor" in asyncio.run(why({"kind": "top"}, is_breached=True))
    assert "for other tiers" in asyncio.run(why({"kind": "ladder", "tiers": ["tiny", "huge"]}))


def test_a_query_that_does_not_start_at_the_lowest_tier_says_why() -> None:
    pilot = questions(160, n_tiers=3)
    _, policy = certify(pilot, TARGET, tiers=["small", "medium", "large"], batch_size=2_000, grader=GOLD)
    assert policy is not None
    texts = [query.text for query in pilot]
    found = {}
    for entry in (Entry.CHEAPEST, Entry.HIGHEST_BELOW, Entry.ROUTED):
        place = entries(policy.costs).index(entry)
        by_entry = replace(policy, entry=np.full_like(policy.entry, place))
        found[entry] = set(LadderQualityPolicy(by_entry).starts(range(len(texts)), texts))
    assert found[Entry.CHEAPEST] == {PolicyStart("small")}
    assert found[Entry.HIGHEST_BELOW] == {PolicyStart("medium", "the policy has every query start at medium")}
    whys = [why for tier, why in found[Entry.ROUTED] if tier == "medium"]
    assert whys
    for why in whys:
        costs = re.match(r"expected cost ([\d.]+) from medium, against ([\d.]+) from small \(in calls to large", why)
        assert costs is not None, why
        assert float(costs[1]) <= float(costs[2])
