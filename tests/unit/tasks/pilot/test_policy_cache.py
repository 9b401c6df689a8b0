"""Policies as they are served: read once, heeded when breached, and never in the way of a paid answer."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from db.pilots import BatchPolicy
from routing.answer_checks.judge import Verdict
from routing.outcome import Completion, Usage
from routing.query import read_body
from tasks.pilot.pilot_judge import judge_with_pilot
from tasks.pilot.policy_cache import PolicyCache

LADDER = ("small", "large")
DOUBTFUL = Verdict(True, 0.9, (), "logprob")


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
        assert served.policy.first_tiers([1], ["What?"]) == ["large"]

    asyncio.run(story())


def test_a_policy_that_was_certified_for_other_tiers_is_not_followed() -> None:
    async def story() -> None:
        pilots: Any = Stored({"kind": "ladder", "tiers": ["tiny", "huge"], "sources": [[]], "grader": "exact"})
        served = (await PolicyCache().get([1], pilots, ladder=LADDER))[1]
        assert served.policy is not None
        assert served.policy.first_tiers([1], ["What?"]) == ["large"]

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


def test_no_policy_has_a_say_over_a_pin_or_off_the_ladder() -> None:
    assert asyncio.run(_judged("small", "small")) == (DOUBTFUL, None)
    assert asyncio.run(_judged("special", None)) == (DOUBTFUL, None)
