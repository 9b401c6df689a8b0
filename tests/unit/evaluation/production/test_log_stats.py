"""The log's evaluation: figures from counts, and what it says it cannot know."""

from dataclasses import replace
from types import SimpleNamespace as Row

import pytest

from evaluation.metrics.confidence_intervals import wilson
from evaluation.production.answer_agreement import agree
from evaluation.production.counterfactual import CounterfactualReport, LoggedQuery
from evaluation.production.log_report import report
from evaluation.production.log_stats import LogStats
from fleet_config import load_fleet
from routing.policy.decision import decide
from routing.policy.exploration import exploration_draw
from routing.query import Query
from settings import ROOT


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("The capital is Paris.", "the capital is Paris", True),
        ("So she has 12 eggs.\n#### 12", "Twelve are left: 12.0", True),
        ("That makes 1,200.", "That makes 1200", True),
        ("#### 12", "#### 13", False),
        ("Yes, it is.", "No, it is not.", False),
        ("", "No", None),
        ("…", "No", None),
    ],
)
def test_two_answers_agree_by_words_or_by_their_last_number(first: str, second: str, same: bool | None) -> None:
    assert agree(first, second) is same


def test_a_shares_interval_holds_it_and_narrows_with_the_count() -> None:
    for share in (0.0, 0.3, 1.0):
        few, many = wilson(share, 10), wilson(share, 1000)
        assert few[0] <= many[0] <= share <= many[1] <= few[1]
    assert wilson(0.0, 0) == (0.0, 1.0)


def _cell(stage: str, tier: str, queries: int, escalated: int, *, tenth: int, weight: float = 0.0) -> Row:
    stood = queries - escalated
    return Row(
        stage=stage, tier=tier, version=None, tenth=tenth, answer_tier=tier, queries=queries, answered=queries,
        escalated=escalated, stood=stood, unaccepted=0, open=0, cost_usd=0.5, weight=weight, stood_weight=weight / 2,
    )  # fmt: skip


def test_a_log_is_reported_by_stage_tier_and_confidence() -> None:
    log = LogStats(batches=1, cost_usd=1.0, baseline_usd=4.0)
    log.add_route(_cell("gate", "small", 60, 6, tenth=9))
    log.add_route(_cell("classifier", "small", 40, 2, tenth=9))
    log.add_route(_cell("classifier", "large", 50, 25, tenth=5))
    judged = Row(source="logprob", tenth=5, judged=10, confidence=5.5, rejected=10, followed=8, next_stood=6)
    log.add_verdicts(judged)
    for agreed in (True, True, True, False):
        log.add_pair("logprob", 0.55, agreed=agreed)
    told = report(log, top="large", baseline_model="m")
    assert told["n"] == 150
    assert told["stages"]["classifier"]["tiers"] == {"small": 40, "large": 50}
    assert told["tiers"]["small"]["escalation_rate"] == 0.08
    assert told["cost"]["share_of_all_large"] == 0.25
    (judge,) = told["judge"]
    assert (judge["confidence"], judge["agreement"], judge["compared"]) == (0.55, 0.75, 4)
    assert judge["agreement_interval"][0] < 0.75 < judge["agreement_interval"][1]
    words = " ".join(told["words"])
    assert "confidence of 0.9 or more, 5.0 % were escalated; of those below 0.7, 50.0 %" in words
    assert "NOT known without labels" in words
    assert "NOT known without exploration" in words


def test_exploration_tells_what_the_other_tiers_would_have_done() -> None:
    log = LogStats(batches=1)
    log.add_route(_cell("exploration", "small", 4, 2, tenth=9, weight=40.0))
    told = report(log, top="large", baseline_model="m")
    assert told["explored"] == {"small": {"stands": 0.5, "weight": 40.0}}
    assert "without exploration" not in " ".join(told["words"])


def test_labels_tell_how_right_the_answers_are_and_how_far_the_judge_is_off() -> None:
    log = LogStats(batches=1)
    log.add_route(_cell("gate", "small", 100, 0, tenth=9))
    log.add_labels(Row(stage="gate", tier="small", labels=40, grade=30.0, accepted=True))
    log.add_labels(Row(stage="gate", tier="small", labels=10, grade=1.0, accepted=False))
    log.add_graded_verdicts(Row(source="logprob", tenth=9, labels=40, grade=30.0, confidence=38.0))
    log.add_graded_verdicts(Row(source="logprob", tenth=4, labels=10, grade=1.0, confidence=4.0))
    told = report(log, top="large", baseline_model="m")
    labels = told["labels"]
    assert (labels["labels"], labels["right"]) == (50, 0.62)
    assert labels["accepted"]["no"]["right"] == 0.1
    assert labels["stages"]["gate"]["labels"] == 50
    assert labels["ece"] == {"logprob": pytest.approx((8.0 + 3.0) / 50)}
    assert [own["right"] for own in told["judge"]] == [0.1, 0.75]
    words = " ".join(told["words"])
    assert "62.0 % are right" in words
    assert "without labels" not in words
    assert "NOT known without exploration" in words


def test_an_empty_log_says_so_and_nothing_else() -> None:
    told = report(LogStats(), top="large", baseline_model="m")
    assert told["words"] == ["The selected part of the log has no routing decisions."]


def _past(number: int, text: str, tier: str, *, tokens: int | None = 100) -> LoggedQuery:
    return LoggedQuery(number, f"b/{number}", Query(text), tier, "gate", 0.9, tokens, tokens)


def test_what_is_decided_anew_by_the_same_rules_goes_where_it_went() -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    texts = ["Hello!", "Prove that there are infinitely many primes.", "How do I fix a bicycle tyre?"]
    then = [decision.tier for decision in decide([Query(text) for text in texts], fleet=fleet, predictor=None)]
    anew = CounterfactualReport(fleet, None)
    anew.take([_past(number, text, tier) for number, (text, tier) in enumerate(zip(texts, then, strict=True))])
    told = anew.report(router="gate")
    assert told["moved"] == {"all": 0, "down": 0, "up": 0}
    assert told["cost"]["then_usd"] == told["cost"]["now_usd"] > 0
    assert told["largest_moves"] == []


def test_what_chance_moved_then_it_moves_again() -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    fleet = replace(fleet, router=replace(fleet.router, exploration=0.5))
    texts = ["Hello!"] * 60
    draws = [exploration_draw(number) for number in range(60)]
    then = decide([Query(text) for text in texts], fleet=fleet, predictor=None, draws=draws)
    anew = CounterfactualReport(fleet, None)
    anew.take([_past(number, text, one.tier) for number, (text, one) in enumerate(zip(texts, then, strict=True))])
    told = anew.report(router="gate")
    assert told["decided_by"]["exploration"] > 10
    assert told["moved"]["all"] == 0


def test_moves_are_counted_priced_and_the_farthest_shown_first() -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    anew = CounterfactualReport(fleet, None)
    anew.take([_past(1, "Hello!", "large"), _past(2, "Hello!", "medium"), _past(3, "Hi!", "small", tokens=None)])
    anew.take([_past(number, "Hello!", "medium") for number in range(4, 30)])
    told = anew.report(router="gate")
    assert told["n"] == 29
    assert told["confusion"] == {"large": {"small": 1}, "medium": {"small": 27}, "small": {"small": 1}}
    assert told["moved"] == {"all": 28, "down": 28, "up": 0}
    assert len(told["largest_moves"]) == 10
    assert told["largest_moves"][0]["query"] == "b/1"
    price = fleet.deployments("large")[0].price
    saved = 100 * (price.input_usd_per_mtok + price.output_usd_per_mtok) / 1e6
    assert told["largest_moves"][0]["usd"] == pytest.approx(-saved, rel=0.05)
    assert told["cost"]["now_usd"] < told["cost"]["then_usd"] < told["cost"]["all_large_usd"]
    assert told["cost"]["estimated_tokens"] == 1


def test_repairs_pay_by_the_climbs_that_they_spare() -> None:
    log = LogStats()
    for workload, tier, corrected, repaired, stood, repair_usd, climbs, climb_usd in (
        ("tickets", "small", 5, 4, 3, 0.001, 10, 0.1),
        ("tickets", "small", 1, 6, 2, 0.004, 10, 0.1),
        ("", "small", 0, 2, 0, 0.001, 2, 0.02),
        ("mail", "large", 0, 1, 1, 0.001, 0, 0.0),
    ):
        log.add_shapes(
            Row(
                workload=workload, tier=tier, corrected=corrected, repaired=repaired, stood=stood,
                repair_usd=repair_usd, climbs=climbs, climb_usd=climb_usd,
            )
        )  # fmt: skip
    found = {row["workload"]: row for row in report(log, top="large", baseline_model="m")["shapes"]}
    assert found["tickets"] == {
        "workload": "tickets", "tier": "small", "corrected": 6, "repaired": 10, "stood": 5, "repair_usd": 0.005,
        "climb_usd": 0.01, "saved_usd": 0.045, "pays": True,
    }  # fmt: skip
    assert (found[""]["saved_usd"], found[""]["pays"]) == (-0.001, False)
    assert (found["mail"]["climb_usd"], found["mail"]["pays"]) == (None, None)
