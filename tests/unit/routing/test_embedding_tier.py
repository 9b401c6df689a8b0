"""Embeddings in the pure rules: their tier is off the ladder, theirs alone, and no part of any saving."""

from dataclasses import replace
from typing import Any

import pytest

from routing.budget.degradation import DegradingBudget, QueryBudget, next_rung_down
from routing.budget.query_budget import worst_usd
from routing.fleet import Fleet, LlmRouter, Model, RouterPolicy, Tier
from routing.forecast.forecast import forecast
from routing.forecast.forecast_types import ForecastHistory, QueueLoad
from routing.heuristics.heuristic_router import LadderRoles
from routing.policy.decision import decide
from routing.policy.escalation import TierAttempt, TiersExhausted, next_step
from routing.policy.llm_router_prompt import system_text
from routing.price import Price
from routing.prompt_size import size_of_body, size_of_text
from routing.query import Query, read_line
from tests.fleets import small_fleet

PRICE = Price(0.02, 0.0, 0.02, "test")


def with_embeddings(router: RouterPolicy | None = None) -> Fleet:
    """The small fleet, with an embedding tier of two deployments before all other tiers."""
    fleet = small_fleet(router)
    own = [
        Model(name, "acme", "embed-wire", "vectors", PRICE, 8_000, max_output_tokens=0, embeds=True)
        for name in ("embed", "embed-eu")
    ]
    vectors = Tier("vectors", "vectors", 4, tuple(model.name for model in own), None, endpoint="embeddings")
    return replace(
        fleet,
        models={**{model.name: model for model in own}, **fleet.models},
        tiers={"vectors": vectors, **fleet.tiers},
    )


FLEET = with_embeddings()


def ask(given: Any = "a text", **options: Any) -> Query:
    line = {"endpoint": "/v1/embeddings", "pin": "embed-wire"} | options
    return read_line({"input": given, "model": "auto"}, line)


def test_the_endpoint_decides_and_nothing_is_weighed() -> None:
    (decision,) = decide([ask()], fleet=FLEET, predictor=None, draws=[0.0])
    assert (decision.tier, decision.router, decision.model) == ("vectors", "endpoint", "embed")
    assert (decision.p_ok, decision.propensity, decision.wants_vote) == ({}, 1.0, False)
    assert decision.reasons == ("embeddings are answered by embed-wire of tier vectors",)


@pytest.mark.parametrize("text", ["Hello", "Prove that there are infinitely many primes.", "x " * 300_000])
def test_no_chat_goes_to_the_embedding_tier(text: str) -> None:
    router = RouterPolicy(stages=("gate", "llm"), llm=LlmRouter("mini"), exploration=1.0)
    fleet = with_embeddings(router)
    for draw in (0.0, 0.3, 0.6, 0.99):
        (decision,) = decide([Query(text)], fleet=fleet, predictor=None, draws=[draw])
        assert decision.tier in fleet.chat_tiers
    assert (fleet.ladder, LadderRoles.of(fleet).special) == (("small", "medium", "large"), "special")
    assert "vectors" not in system_text(fleet)


def test_a_failure_climbs_nowhere() -> None:
    failed = TierAttempt("vectors", None, None, ("down",), usable=False)
    assert isinstance(next_step([failed], query=ask(), fleet=FLEET), TiersExhausted)
    assert next_rung_down(ask(), "vectors", fleet=FLEET) is None


def test_budgets_leave_it_where_it_is() -> None:
    rich, poor = QueryBudget(left_usd=1.0), QueryBudget(left_usd=1e-12)
    degrading = QueryBudget(batch=DegradingBudget(1, unspent_usd=1e-9, open_queries=1))
    paid, unpaid, lowered = decide([ask()] * 3, fleet=FLEET, predictor=None, budgets=[rich, poor, degrading])
    assert (paid.tier, paid.over_budget) == ("vectors", False)
    assert unpaid.over_budget
    assert lowered.tier == "vectors"


def test_what_is_reserved_is_the_input_alone() -> None:
    query, model = ask(["one text", "another"]), FLEET.models["embed"]
    bound = query.measured.bound(model)
    assert bound == size_of_text("one text", "another").text_bound
    assert worst_usd(query, model) == pytest.approx(bound * 0.02e-6, abs=1e-9)


def test_tokens_count_as_they_are() -> None:
    plain = size_of_body({"input": [1, 2, 3]})
    several = size_of_body({"input": [[1, 2, 3], [4]]})
    assert (plain.expected_text, several.expected_text) == (4, 5)  # 1 at least is expected of any text
    assert several.text_bound > plain.text_bound > 3


def test_a_forecast_prices_the_input_and_compares_it_with_nothing() -> None:
    queries = [ask("some text " * 100) for _ in range(50)]
    decisions = decide(queries, fleet=FLEET, predictor=None)
    found = forecast(decisions, total=1000, fleet=FLEET, past=ForecastHistory(), load=QueueLoad({"vectors": 4}))
    (tier,) = found.tiers
    expected = queries[0].measured.expected(FLEET.models["embed"])
    assert (tier.tier, tier.completion_tokens, tier.doubted_share) == ("vectors", 0, 0)
    assert found.baseline_usd.expected == 0
    assert found.escalated == 0
    assert {"doubts", "lengths"}.isdisjoint(found.basis)
    assert found.cost_usd.expected == pytest.approx(1000 * expected * 0.02e-6, rel=0.01)
