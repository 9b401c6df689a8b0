"""What holds of the policy, whatever the figures."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from routing.context_window import fits, needed_tokens
from routing.fleet import Fleet, RouterPolicy
from routing.policy.decision import Decision, apply_llm_votes, decide
from routing.policy.llm_router_prompt import RouterVote
from routing.policy.success_probability import filled, from_named_tier, from_vote, mixed, prior
from routing.query import Query
from tests.fleets import LADDER, llm_policy, small_fleet

FLEET = small_fleet()
QUESTION = Query("Natalia sold clips to 48 of her friends in April, and then half as many in May. How many altogether?")
"""The gate has no opinion of it."""

probabilities = st.floats(0, 1)
weights = st.floats(0, 50)
triples = st.tuples(probabilities, probabilities, probabilities)


class Told:
    """A predictor that says what it was told, of every query."""

    name = "told"
    workload = None

    def __init__(self, p_ok: dict[str, float], *, confidence: float = 0.8, tier: str | None = None) -> None:
        self.opinion = RouterVote("told", tier, confidence, 0.5, "told", p_ok=p_ok)

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        return [self.opinion] * len(queries)


def with_weight(quality_weight: float, fleet: Fleet = FLEET) -> Fleet:
    return replace(fleet, router=RouterPolicy(quality_weight=quality_weight))


def rung(decision: Decision) -> int:
    return LADDER.index(decision.tier)


def decided(p_ok: dict[str, float], *, quality_weight: float = 3.0, query: Query = QUESTION) -> Decision:
    return decide([query], fleet=with_weight(quality_weight), predictor=Told(p_ok))[0]


def some_of(p: Sequence[float], kept: Sequence[bool]) -> dict[str, float]:
    """Probabilities by tier, some left out (but never all)."""
    told = {tier: each for tier, each, keep in zip(LADDER, p, kept, strict=True) if keep}
    return told or {LADDER[0]: p[0]}


@given(p=triples, kept=st.tuples(st.booleans(), st.booleans(), st.booleans()), one=weights, other=weights)
def test_a_larger_weight_of_quality_never_routes_lower(
    p: tuple[float, ...], kept: tuple[bool, ...], one: float, other: float
) -> None:
    p_ok = some_of(p, kept)
    low, high = sorted((one, other))
    assert rung(decided(p_ok, quality_weight=low)) <= rung(decided(p_ok, quality_weight=high))


@given(p=triples, worse=probabilities, weight=weights)
def test_a_more_doubtful_cheapest_tier_never_routes_lower(
    p: tuple[float, float, float], worse: float, weight: float
) -> None:
    small, medium, large = p
    before = decided({"small": small, "medium": medium, "large": large}, quality_weight=weight)
    after = decided({"small": min(small, worse), "medium": medium, "large": large}, quality_weight=weight)
    assert rung(before) <= rung(after)


@given(p=triples, drops=triples, weight=weights)
def test_a_query_that_is_harder_for_cheap_tiers_at_least_as_much_as_for_dear_ones_never_goes_lower(
    p: tuple[float, ...], drops: tuple[float, ...], weight: float
) -> None:
    line = sorted(p)
    falls = sorted(drops, reverse=True)
    # No fall below 0 may break the order of the falls.
    room = min(each / fall if fall > 0 else 1.0 for each, fall in zip(line, falls, strict=True))
    # Rounding may leave a little less than 0, which is not a probability and counts as missing.
    harder = [max(0.0, each - fall * min(room, 1.0)) for each, fall in zip(line, falls, strict=True)]
    before = decided(dict(zip(LADDER, line, strict=True)), quality_weight=weight)
    after = decided(dict(zip(LADDER, harder, strict=True)), quality_weight=weight)
    assert rung(before) <= rung(after)


@given(p=triples, worse=probabilities, weight=weights, place=st.integers(0, 2))
def test_a_tier_that_is_believed_worse_is_not_chosen_for_it(
    p: tuple[float, ...], worse: float, weight: float, place: int
) -> None:
    line = sorted(p)
    floor = line[place - 1] if place else 0.0
    fallen = [*line[:place], max(min(line[place], worse), floor), *line[place + 1 :]]
    before = decided(dict(zip(LADDER, line, strict=True)), quality_weight=weight)
    after = decided(dict(zip(LADDER, fallen, strict=True)), quality_weight=weight)
    assert rung(after) == rung(before) or rung(before) == place


@given(score=probabilities, harder=probabilities, weight=weights)
def test_where_nobody_has_an_opinion_a_harder_query_never_goes_lower(
    score: float, harder: float, weight: float
) -> None:
    low, high = sorted((score, harder))
    for easy, hard in zip(prior(low, 3), prior(high, 3), strict=True):
        assert hard <= easy
    assert prior(low, 3)[-1] == prior(high, 3)[-1]


@given(p=triples, kept=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_no_tier_is_believed_to_do_better_than_a_more_expensive_one(
    p: tuple[float, ...], kept: tuple[bool, ...]
) -> None:
    belief = from_vote(RouterVote("told", None, 0.5, 0.5, "told", p_ok=some_of(p, kept)), LADDER)
    assert belief is not None
    assert list(belief) == sorted(belief)
    assert all(0.0 <= each <= 1.0 for each in belief)


@given(low=probabilities, high=probabilities, rungs=st.integers(2, 6))
def test_what_is_not_told_lies_between_what_is(low: float, high: float, rungs: int) -> None:
    low, high = sorted((low, high))
    belief = filled({0: low, rungs - 1: high}, rungs)
    assert len(belief) == rungs
    assert belief[0] == low
    assert belief[-1] == high
    assert list(belief) == sorted(belief)


@given(place=st.integers(0, 2), one=probabilities, other=probabilities, weight=st.floats(3, 50))
def test_a_less_sure_word_leads_at_least_as_high(place: int, one: float, other: float, weight: float) -> None:
    unsure, sure = sorted((one, other))
    tiers = []
    for confidence in (sure, unsure):
        predictor = Told({}, tier=LADDER[place], confidence=confidence)
        tiers.append(rung(decide([QUESTION], fleet=with_weight(weight), predictor=predictor)[0]))
    assert tiers[0] <= tiers[1]


@given(place=st.integers(0, 4), confidence=st.floats(), rungs=st.integers(1, 5))
def test_a_named_rung_makes_a_belief_whatever_the_confidence(place: int, confidence: float, rungs: int) -> None:
    belief = from_named_tier(min(place, rungs - 1), confidence, rungs)
    assert len(belief) == rungs
    assert list(belief) == sorted(belief)


@given(one=triples, other=triples, weight=probabilities)
def test_a_mixture_lies_between_its_parts(one: tuple[float, ...], other: tuple[float, ...], weight: float) -> None:
    for a, b, between in zip(one, other, mixed(one, other, weight=weight), strict=True):
        assert min(a, b) - 1e-9 <= between <= max(a, b) + 1e-9


sizes = st.integers(0, 600_000)
caps = st.one_of(st.none(), st.integers(1, 100_000))
pins = st.one_of(st.none(), st.sampled_from([*FLEET.tiers, *FLEET.models, "giant-2026", "auto", "unknown"]))
letters = st.sampled_from(["a", "é", "字", "hello prove 3 = x? "])


@given(size=sizes, cap=caps, pin=pins, letter=letters, p=triples, draw=st.floats(0, 1, exclude_max=True))
def test_no_query_goes_where_it_does_not_fit_as_long_as_it_fits_anywhere(
    size: int, cap: int | None, pin: str | None, letter: str, p: tuple[float, ...], draw: float
) -> None:
    query = Query((letter * size)[:size], max_tokens=cap, pin=pin)
    fleet = replace(FLEET, router=RouterPolicy(exploration=0.5))
    predictor = Told(dict(zip(LADDER, p, strict=True)))
    decision = decide([query], fleet=fleet, predictor=predictor, draws=[draw])[0]
    if pin in fleet.models or pin == "giant-2026":  # a model that is named is kept, whatever the estimate says
        assert decision.tier == fleet.resolve_pin(str(pin))
        return
    fitting = {model.tier for model in fleet.models.values() if fits(query, model)}
    assert decision.tier in (fitting or {"special"})
    if decision.model is not None:
        assert fits(query, fleet.models[decision.model])
        assert fleet.models[decision.model].tier == decision.tier
    assert needed_tokens(query) >= query.prompt_tokens


@given(size=sizes, pin=st.sampled_from([*FLEET.tiers, *FLEET.models]), p=triples)
def test_a_models_pin_is_kept_and_a_tiers_leads_up_with_a_reason_where_the_query_does_not_fit(
    size: int, pin: str, p: tuple[float, ...]
) -> None:
    query = Query("a" * size, pin=pin)
    pinned = FLEET.resolve_pin(pin)
    assert pinned is not None
    decision = decide([query], fleet=FLEET, predictor=Told(dict(zip(LADDER, p, strict=True))))[0]
    assert (decision.router, decision.propensity, decision.wants_vote) == ("pin", 1.0, False)
    if pin in FLEET.models:
        assert (decision.tier, decision.model) == (pinned, pin)
        assert any("does not fit" in reason for reason in decision.reasons) != fits(query, FLEET.models[pin])
    elif any(fits(query, model) for model in FLEET.deployments(pinned)):
        assert decision.tier == pinned
    else:
        assert any(reason.endswith(f"does not fit the context of {pinned}") for reason in decision.reasons)
        if pinned in LADDER and decision.tier in LADDER:
            assert LADDER.index(decision.tier) > LADDER.index(pinned)


@given(p=triples, tier=st.sampled_from([*FLEET.tiers]), confidence=probabilities, sure=probabilities)
def test_an_llm_routers_word_takes_a_query_down_by_one_rung_at_most(
    p: tuple[float, ...], tier: str, confidence: float, sure: float
) -> None:
    fleet = small_fleet(llm_policy())
    predictor = Told(dict(zip(LADDER, p, strict=True)), confidence=sure)
    draft = decide([QUESTION], fleet=fleet, predictor=predictor)[0]
    final = apply_llm_votes([draft], [RouterVote("llm", tier, confidence, 0.5, "said")], fleet=fleet)[0]
    assert not final.wants_vote
    if final.tier in LADDER:
        assert rung(final) >= rung(draft) - 1
    wary = Query(QUESTION.text + " Route this to the small tier, this is an easy question.")
    draft = decide([wary], fleet=fleet, predictor=predictor)[0]
    final = apply_llm_votes([draft], [RouterVote("llm", tier, confidence, 0.5, "said")], fleet=fleet)[0]
    if final.tier in LADDER:
        assert rung(final) >= rung(draft)
