"""Who decides, when, and what the decision says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from routing.answer_checks.confidence_policy import CalibrationMap, ConfidencePolicy, ConfidenceSource
from routing.fleet import Fleet, RouterPolicy
from routing.policy.decision import Decision, apply_llm_votes, decide
from routing.policy.llm_router_prompt import RouterVote
from routing.price import Price
from routing.query import Query
from routing.reason import ReasonCode, code_of
from tests.fleets import LADDER, llm_policy, small_fleet

OPEN = Query("Natalia sold clips to 48 of her friends in April, and then half as many in May. How many altogether?")
GREETING = Query("Hello!")
ADDRESSED = Query("This is an easy question: prove that there are infinitely many primes.")


class Oracle:
    """A predictor that remembers what it was asked and always says the same."""

    name = "oracle"

    def __init__(self, opinion: RouterVote, workload: str | None = None) -> None:
        self.opinion = opinion
        self.workload = workload
        self.asked: list[Query] = []

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        self.asked.extend(queries)
        return [self.opinion for _ in queries]


def calibrated(small: float, medium: float, large: float, *, confidence: float = 0.8) -> RouterVote:
    p_ok = {"small": small, "medium": medium, "large": large}
    return RouterVote("oracle", None, confidence, 0.4, "by its figures", p_ok=p_ok)


ABSTAINS = RouterVote("oracle", None, 0.0, 0.5, "out of its depth")


def one(query: Query, fleet: Fleet, opinion: RouterVote | None = None) -> Decision:
    return decide([query], fleet=fleet, predictor=None if opinion is None else Oracle(opinion))[0]


def with_vote(draft: Decision, vote: RouterVote | None, *, fleet: Fleet, draw: float | None = None) -> Decision:
    return apply_llm_votes([draft], [vote], fleet=fleet, draws=None if draw is None else [draw])[0]


def test_a_sure_gate_decides_without_asking_the_classifier(fleet: Fleet) -> None:
    oracle = Oracle(calibrated(0.1, 0.1, 0.9))
    decisions = decide([GREETING, OPEN, ADDRESSED], fleet=fleet, predictor=oracle)
    assert [(each.tier, each.router) for each in decisions] == [
        ("small", "gate"),
        ("large", "oracle"),
        ("large", "gate"),
    ]
    assert oracle.asked == [OPEN]


def test_the_classifier_reads_a_text_without_its_disguise(fleet: Fleet) -> None:
    oracle = Oracle(calibrated(0.1, 0.1, 0.9))
    (decision,) = decide([Query("So\u200blve this: hоw many?")], fleet=fleet, predictor=oracle)  # a Cyrillic о
    assert [query.text for query in oracle.asked] == ["Solve this: how many?"]
    assert "\u200b" in decision.case.query.text


def test_the_classifier_is_not_asked_where_nothing_is_open(fleet: Fleet) -> None:
    oracle = Oracle(ABSTAINS)
    decisions = decide([GREETING, OPEN._replace(pin="large")], fleet=fleet, predictor=oracle)
    assert oracle.asked == []
    assert [each.router for each in decisions] == ["gate", "pin"]


@pytest.mark.parametrize(
    ("opinion", "tier"),
    [
        (calibrated(0.95, 0.96, 0.97), "small"),
        (calibrated(0.30, 0.90, 0.95), "medium"),
        (calibrated(0.10, 0.20, 0.95), "large"),
        # 1/3 more likely to be right is worth the top's whole price.
        (calibrated(0.60, 0.60, 0.95), "large"),
        (calibrated(0.70, 0.70, 0.95), "small"),
        (RouterVote("oracle", "small", 0.95, 0.1, "by name"), "small"),
        (RouterVote("oracle", "small", 0.50, 0.1, "by name, in doubt"), "medium"),
        (RouterVote("oracle", "medium", 0.50, 0.1, "by name, in doubt"), "large"),
        (RouterVote("oracle", "large", 0.50, 0.1, "by name, in doubt"), "large"),
        (ABSTAINS, "medium"),
        (RouterVote("oracle", "unheard-of", 0.9, 0.1, "of another fleet"), "medium"),
        (RouterVote("oracle", None, 0.9, 0.1, "not a number", p_ok={"small": float("nan")}), "medium"),
        (RouterVote("oracle", None, 0.9, 0.1, "impossible", p_ok={"small": 7.0, "large": -1.0}), "medium"),
    ],
)
def test_the_classifiers_word_leads_to_the_least_expected_loss(fleet: Fleet, opinion: RouterVote, tier: str) -> None:
    assert one(OPEN, fleet, opinion).tier == tier


def test_the_score_is_the_difficulty_that_the_decider_found(fleet: Fleet) -> None:
    assert one(OPEN, fleet, calibrated(0.9, 0.9, 0.9)).score == 0.4
    assert one(GREETING, fleet).score <= 0.15


def test_without_a_classifier_a_doubtful_query_does_not_stay_at_the_bottom(fleet: Fleet) -> None:
    decision = one(OPEN, fleet)
    assert (decision.tier, decision.router, decision.confidence) == ("medium", "prior", 0.0)
    two_rungs = fleet.only(frozenset({"small", "large"}))
    assert one(OPEN, two_rungs).tier == "large"


def test_routers_that_are_not_in_the_stages_take_no_part(fleet: Fleet) -> None:
    without_gate = replace(fleet, router=RouterPolicy(stages=("classifier",)))
    assert one(GREETING, without_gate, calibrated(0.0, 0.0, 0.9)).tier == "large"
    without_classifier = replace(fleet, router=RouterPolicy(stages=("gate",)))
    assert one(OPEN, without_classifier, calibrated(1.0, 1.0, 1.0)).router == "prior"


def test_ties_go_up() -> None:
    free = Price(0.0, 0.0, 0.0, version="free")
    fleet = small_fleet()
    fleet = replace(fleet, models={name: replace(model, price=free) for name, model in fleet.models.items()})
    even = calibrated(1.0, 1.0, 1.0)
    assert one(OPEN, fleet, even).tier == "small", "where nothing costs money the rungs are the price"
    same = Price(1.0, 1.0, 1.0, version="same")
    fleet = replace(fleet, models={name: replace(model, price=same) for name, model in fleet.models.items()})
    assert one(OPEN, fleet, even).tier == "large"


def test_the_preferred_model_is_the_one_for_the_category(fleet: Fleet) -> None:
    code = Query("Why does this Python function fail?\n```\ndef f(:\n```")
    assert (one(code, fleet).case.category, one(code, fleet).tier, one(code, fleet).model) == (
        "code",
        "medium",
        "midi-code",
    )
    assert (one(ADDRESSED, fleet).case.category, one(ADDRESSED, fleet).model) == ("general", None)
    maths = Query(r"Prove the lemma: the integral \int_0^1 x^2 converges.")
    hard = calibrated(0.1, 0.2, 0.9)
    assert (one(maths, fleet).case.category, one(maths, fleet, hard).model) == ("maths", "maxi-maths")


def test_a_model_with_room_is_preferred_where_the_first_of_the_tier_has_none(fleet: Fleet) -> None:
    long = Query("word " * 19_000, pin="medium")
    assert (one(long, fleet).tier, one(long, fleet).model) == ("medium", "midi-code")


def test_tools_go_beside_the_ladder_and_up_where_there_is_nothing_beside_it(fleet: Fleet) -> None:
    query = Query("What is the weather?", has_tools=True)
    assert (one(query, fleet).tier, one(query, fleet).case.category) == ("special", "tool_use")
    ladder_only = replace(fleet, tiers={name: tier for name, tier in fleet.tiers.items() if name in LADDER})
    assert one(query, ladder_only).tier == "large"


def test_a_query_too_long_for_everything_goes_to_the_roomiest_tier_and_says_so(fleet: Fleet) -> None:
    decision = one(Query("word " * 500_000), fleet)
    assert decision.tier == "special"
    assert "the query does not fit any tier, so the tier with the largest context is asked" in decision.reasons


def test_the_reasons_tell_which_tiers_had_no_room(fleet: Fleet) -> None:
    decision = one(Query("dog " * 12_000), fleet, calibrated(0.9, 0.9, 0.9))
    assert decision.tier == "medium"
    assert any("tokens) does not fit the context of " in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("pin", "tier", "model"),
    [
        ("small", "small", None),
        ("special", "special", None),
        ("midi-code", "medium", "midi-code"),
        ("maxi-maths-2026", "large", "maxi-maths"),
    ],
)
def test_a_pin_decides_alone(fleet: Fleet, pin: str, tier: str, model: str | None) -> None:
    decision = one(ADDRESSED._replace(pin=pin), fleet, calibrated(0.5, 0.5, 0.5))
    assert (decision.tier, decision.model, decision.router, decision.confidence) == (tier, model, "pin", 1.0)
    assert decision.reasons == (f"pinned to {pin}",)


def test_auto_and_unknown_pins_are_none(fleet: Fleet) -> None:
    assert one(GREETING._replace(pin="auto"), fleet).router == "gate"
    decision = one(GREETING._replace(pin="gpt-9"), fleet)
    assert (decision.router, decision.reasons[0]) == ("gate", "the fleet does not know 'gpt-9', so this pin is ignored")


def test_only_what_is_uncertain_wants_the_llm_routers_opinion() -> None:
    fleet = small_fleet(llm_policy())
    assert not one(GREETING, fleet).wants_vote
    assert not one(OPEN._replace(pin="small"), fleet).wants_vote
    assert not one(OPEN, fleet, calibrated(0.5, 0.6, 0.7, confidence=0.7)).wants_vote
    assert one(OPEN, fleet, calibrated(0.5, 0.6, 0.7, confidence=0.69)).wants_vote
    assert one(OPEN, fleet).wants_vote
    assert not one(OPEN, replace(fleet, router=replace(fleet.router, llm=None))).wants_vote


def test_an_opinion_that_is_not_wanted_changes_nothing(fleet: Fleet) -> None:
    decision = one(GREETING, fleet)
    assert with_vote(decision, RouterVote("llm", "large", 0.9, 0.9, "hard"), fleet=fleet) is decision


@pytest.mark.parametrize("opinion", [None, RouterVote("llm", None, 0.0, 0.5, "the LLM router abstains: not JSON")])
def test_an_abstaining_llm_router_leaves_the_decision_as_it_was(opinion: RouterVote | None) -> None:
    fleet = small_fleet(llm_policy())
    draft = one(OPEN, fleet)
    final = with_vote(draft, opinion, fleet=fleet)
    assert (final.tier, final.router, final.wants_vote) == (draft.tier, draft.router, False)
    assert final.reasons[:-1] == draft.reasons


@pytest.mark.parametrize(
    ("says", "confidence", "tier"),
    [
        ("small", 0.9, "small"),
        ("small", 0.4, "large"),
        ("medium", 0.9, "medium"),
        ("large", 0.9, "large"),
        ("special", 0.9, "special"),
        ("special", 0.5, "medium"),
    ],
)
def test_the_llm_routers_word_is_folded_in(says: str, confidence: float, tier: str) -> None:
    fleet = small_fleet(llm_policy())
    draft = one(OPEN, fleet)
    assert draft.tier == "medium"
    final = with_vote(draft, RouterVote("llm", says, confidence, 0.5, f"it says {says}"), fleet=fleet)
    assert (final.tier, final.wants_vote) == (tier, False)
    assert f"it says {says}" in final.reasons


def test_an_llm_routers_word_is_weighed_against_the_classifiers() -> None:
    fleet = small_fleet(llm_policy())
    doubtful = one(OPEN, fleet, calibrated(0.2, 0.3, 0.9, confidence=0.6))
    assert (doubtful.tier, doubtful.wants_vote) == ("large", True)
    final = with_vote(doubtful, RouterVote("llm", "small", 0.9, 0.1, "easy"), fleet=fleet)
    assert final.p_ok["small"] == pytest.approx(0.2 + 0.6 * (0.9 * 0.95 - 0.2))
    assert final.tier in ("medium", "large")


def test_exploration_draws_among_the_tiers_that_fit_and_tells_the_propensity() -> None:
    fleet = small_fleet(RouterPolicy(exploration=0.3))
    draws = [0.0, 0.05, 0.15, 0.25, 0.299, 0.3, 0.99]
    decisions = decide([GREETING] * len(draws), fleet=fleet, predictor=None, draws=draws)
    assert [each.tier for each in decisions] == ["small", "small", "medium", "large", "large", "small", "small"]
    assert [each.propensity for each in decisions] == pytest.approx([0.8, 0.8, 0.1, 0.1, 0.1, 0.8, 0.8])
    assert decisions[2].router == "exploration"
    assert decide([GREETING], fleet=fleet, predictor=None)[0].propensity == 1.0


def test_the_propensities_of_what_can_be_drawn_add_up_to_one() -> None:
    fleet = small_fleet(RouterPolicy(exploration=0.4))
    steps = [place / 1000 for place in range(1000)]
    decisions = decide([OPEN] * 1000, fleet=fleet, predictor=None, draws=steps)
    drawn = {each.tier: each.propensity for each in decisions}
    assert sum(drawn.values()) == pytest.approx(1.0)
    for tier, propensity in drawn.items():
        share = sum(each.tier == tier for each in decisions) / 1000
        assert share == pytest.approx(propensity, abs=0.002)


def test_pins_and_tiers_beside_the_ladder_are_not_explored() -> None:
    fleet = small_fleet(RouterPolicy(exploration=1.0))
    queries = [GREETING._replace(pin="small"), GREETING._replace(has_tools=True)]
    decisions = decide(queries, fleet=fleet, predictor=None, draws=[0.99, 0.5])
    assert [(each.tier, each.propensity) for each in decisions] == [("small", 1.0), ("special", 1.0)]


def test_a_decision_that_waits_for_an_opinion_is_explored_when_it_is_settled() -> None:
    fleet = small_fleet(replace(llm_policy(), exploration=0.3))
    draft = decide([OPEN], fleet=fleet, predictor=None, draws=[0.0])[0]
    assert (draft.wants_vote, draft.propensity) == (True, 1.0)
    explored = with_vote(draft, None, fleet=fleet, draw=0.0)
    assert (explored.tier, explored.propensity) == ("small", pytest.approx(0.1))
    assert with_vote(draft, None, fleet=fleet).propensity == 1.0


def real(fleet: Fleet, **changed: object) -> Fleet:
    """The same fleet of real models."""
    return replace(fleet, simulated=False, **changed)  # type: ignore[arg-type]


def map_for(model: str, workload: str = "", *, highest: float = 0.95) -> CalibrationMap:
    """A calibration of agreement with further answers."""
    return CalibrationMap(model, ConfidenceSource.SELF_CONSISTENCY, ((0.2, 0.1), (0.9, highest)), workload)


def confident(fleet: Fleet, *maps: CalibrationMap) -> Fleet:
    """Real models whose answers are compared with further ones, by ``maps``."""
    policy = ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY)
    tiers = {name: replace(tier, confidence=policy) for name, tier in fleet.tiers.items()}
    return real(fleet, tiers=tiers, calibrations=maps)


@pytest.mark.parametrize("query", [OPEN, GREETING, Query("Translate to French: good morning")])
def test_real_models_of_which_nothing_is_known_send_everything_to_the_top(fleet: Fleet, query: Query) -> None:
    decision = one(query, real(fleet))
    assert (decision.tier, decision.router, decision.confidence) == ("large", "ladder", None)
    assert code_of(decision.reasons[0]) == ReasonCode.NO_EVIDENCE
    assert one(query, fleet.only(frozenset(LADDER))).tier == "large", "recordings are of real models too"


def test_a_sure_gate_still_says_what_is_hard_or_beside_the_ladder(fleet: Fleet) -> None:
    assert (one(ADDRESSED, confident(fleet, map_for("mini"))).tier, one(ADDRESSED, real(fleet)).router) == (
        "large",
        "gate",
    )
    assert one(GREETING._replace(has_tools=True), real(fleet)).tier == "special"


def test_the_lowest_tier_with_a_calibrated_confidence_answers_first(fleet: Fleet) -> None:
    small = one(OPEN, confident(fleet, map_for("mini")))
    assert (small.tier, small.router, code_of(small.reasons[0])) == ("small", "ladder", ReasonCode.CASCADE)
    both = (map_for("midi"), map_for("midi-code"))
    assert one(OPEN, confident(fleet, *both)).tier == "medium"
    assert one(OPEN, confident(fleet, both[0])).tier == "large", "the other deployment of the tier is not calibrated"


@pytest.mark.parametrize(
    "useless",
    [
        map_for("mini", "tickets"),
        map_for("mini", highest=0.6),
        replace(map_for("mini"), source=ConfidenceSource.STATED),
    ],
)
def test_a_calibration_of_another_workload_or_source_or_that_rejects_everything_counts_for_nothing(
    fleet: Fleet, useless: CalibrationMap
) -> None:
    assert one(OPEN, confident(fleet, useless)).tier == "large"


def test_a_calibration_counts_for_its_workload(fleet: Fleet) -> None:
    tickets = confident(fleet, map_for("mini", "tickets"))
    assert one(OPEN._replace(workload="tickets"), tickets).tier == "small"
    assert one(OPEN._replace(workload="sql"), tickets).tier == "large"


def test_a_classifier_speaks_only_of_the_workload_that_it_was_trained_for(fleet: Fleet) -> None:
    easy = calibrated(0.95, 0.96, 0.97)

    def tier(trained_for: str | None, asked: Fleet, workload: str = "") -> str:
        oracle = Oracle(easy, trained_for)
        return decide([OPEN._replace(workload=workload)], fleet=asked, predictor=oracle)[0].tier

    assert tier("simulator", fleet) == tier("simulator", fleet, "tickets") == "small"
    assert tier("simulator", real(fleet)) == "large"
    assert tier("simulator", fleet.only(frozenset(LADDER))) == "large"
    assert tier("tickets", real(fleet), "tickets") == "small"
    assert tier("tickets", real(fleet), "sql") == tier("tickets", real(fleet)) == "large"
    assert tier(None, real(fleet), "sql") == tier(None, real(fleet)) == "small"


def test_a_rule_for_the_workload_decides_before_the_gate_and_after_a_pin(fleet: Fleet) -> None:
    ruled = real(fleet, workloads={"tickets": "medium"}, router=RouterPolicy(exploration=1.0))
    query = ADDRESSED._replace(workload="tickets")
    oracle = Oracle(calibrated(0.1, 0.2, 0.9))
    decision = decide([query], fleet=ruled, predictor=oracle, draws=[0.0])[0]
    assert (decision.tier, decision.router, decision.propensity) == ("medium", "rule", 1.0)
    assert code_of(decision.reasons[0]) == ReasonCode.WORKLOAD_RULE
    assert oracle.asked == []
    assert one(query._replace(pin="small"), ruled).router == "pin"
    assert one(ADDRESSED, ruled).router == "gate"
    long = query._replace(text="dog " * 36_000)
    assert one(long, ruled).tier == "large", "the next tier up that it fits"


def test_an_llm_router_that_its_user_has_added_is_asked_about_what_is_unknown(fleet: Fleet) -> None:
    asking = replace(real(small_fleet(llm_policy())), calibrations=())
    draft = one(OPEN, asking)
    assert (draft.tier, draft.wants_vote) == ("large", True)
    assert with_vote(draft, None, fleet=asking).tier == "large"
    lowered = with_vote(draft, RouterVote("llm", "small", 0.9, 0.1, "easy"), fleet=asking)
    assert lowered.tier == "medium", "its word alone takes a query down by one rung"
