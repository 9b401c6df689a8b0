"""The report at the end of a batch, on the console."""

import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import typer
from rich.console import Console

from cli import batch_summary
from cli.batch_summary import _deviation
from db.reports.batch_progress import Progress
from db.reports.batch_quality import QualityFigures, quality_as_json
from db.reports.batch_stats import (
    BaselineLengths,
    BatchFigures,
    FailedCalls,
    FailureReason,
    TierFigures,
    UnansweredLane,
)
from db.reports.json_views import batch_as_json
from report.failed_calls import FIXES
from report.headline import _baselines, standing_of
from routing.outcome import FailureKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIGURES = BatchFigures(
    progress=Progress(
        public_id="batch_a",
        source="a\x1b[2J.jsonl",
        total=1000,
        simulated=True,
        created_at=NOW,
        cancelled_at=None,
        ended_at=NOW,
        done=990,
        failed=10,
        cancelled=0,
        held=0,
        running=0,
        waiting=0,
        escalated=90,
        calls=1100,
        cost_usd=0.2,
        reserved_usd=0.0,
        wall_s=4.0,
        by_tier={},
        open_by_stage={},
    ),
    top_tier="giant",
    baseline_model="maxi",
    tiers=(
        TierFigures("small", 1000, 900, 3, 0.9, 1010, 10, 0.05, ("mini",), (50.0, 90.0, 100.0)),
        TierFigures("giant", 90, 90, 0, None, 90, 0, 0.15, ("maxi",), None),
    ),
    failures=(FailureReason("failed", "no tier is left", 10, "q-7"),),
    calls=1100,
    open_calls=0,
    failed_calls=10,
    prompt_tokens=1,
    completion_tokens=2,
    cost_usd=0.2,
    router_cost_usd=0.01,
    baseline_cost_usd=1.0,
    latency_ms=(50.0, 90.0, 100.0),
)


def shown(figures: BatchFigures, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, soft_wrap=True)
    batch_summary.show(figures, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_report_has_cost_baseline_saving_and_the_routers_share_of_it() -> None:
    text = shown(FIGURES)
    assert "Cost       $0.200000, with $0.010000 for routing (1.25 % of the saving)" in text
    assert "Baseline   $1.000000 if maxi had answered the 990 answered queries" in text
    assert "Saving     $0.800000 (80.0 %)" in text
    assert "Queries    1,000: 990 answered, 90 escalated, 10 failed" in text
    assert "Time       0:04 (4.0 s), 247.5 queries/s" in text
    assert "10 failed: no tier is left (e.g. q-7)" in text
    assert "details: `pointsman explain batch_a/q-7`" in text
    assert "to retry after a fix: `pointsman resume batch_a`" in text


def test_a_baseline_of_estimated_lengths_has_a_range_and_a_guess_has_nothing_else() -> None:
    ranged = replace(FIGURES, baseline_range_usd=(0.8, 1.25))
    text = shown(ranged)
    assert "Baseline   $1.000000 (range $0.800000–1.250000) if maxi had answered" in text
    assert "Saving     $0.800000 (80.0 %), range 75.0 to 84.0 %" in text
    more = "none: $0.200000 (20.0 %) more than the baseline"
    assert f"Saving     {more}, range of the saving -50.0 to 4.0 %" in shown(replace(ranged, cost_usd=1.2))
    text = shown(replace(ranged, baseline_is_guess=True))
    assert "Baseline   not known until giant has given 8 answers (range $0.800000–1.250000) if maxi" in text
    assert "Saving     not known, range 75.0 to 84.0 %" in text


def test_extra_cost_has_a_range_of_extra_cost() -> None:
    _, card = _baselines(replace(FIGURES, baseline_range_usd=(0.8, 1.25), cost_usd=1.2))
    assert (card.name, card.figure) == ("Extra cost", "20.0\u00a0%")
    assert card.note == "$0.2000; -4.0\u00a0% to 50.0\u00a0%"


def test_what_queries_without_an_answer_cost_is_in_cost_and_baseline() -> None:
    text = shown(replace(FIGURES, unanswered_usd=0.15, unanswered_baseline_usd=0.1))
    assert "Cost       $0.200000, with $0.010000 for routing (1.25 % of the saving) and $0.150000 for queries" in text
    assert "(answer lengths: none), with $0.100000 for calls of the other queries" in text


def test_what_no_provider_confirmed_is_named_and_makes_the_saving_a_range_where_it_matters() -> None:
    lost = replace(
        FIGURES,
        unconfirmed_usd=0.12,
        unconfirmed_usual_usd=0.004,
        unconfirmed_baseline_usd=0.1,
        unconfirmed_usual_baseline_usd=0.002,
    )
    text = shown(lost)
    assert (
        "Cost       $0.200000, $0.120000 of it the maximum cost of calls without a confirmed cost (usually $0.004000; "
        "fix: lower max_output_tokens of the models), with" in text
    )
    assert "Baseline   $0.902000 (range $0.900000–1.000000) if" in text
    assert "Saving     $0.818000 (90.7 %), range 80.0 to 91.1 %" in text
    assert "(usually $0.040000), with" in shown(replace(lost, unconfirmed_usual_usd=0.04))
    assert "range" not in shown(replace(FIGURES, unconfirmed_usd=0.005)), "less than a hundredth of the baseline"
    ranged = replace(lost, baseline_range_usd=(0.8, 1.25))
    assert "Baseline   $0.902000 (range $0.700000–1.250000) if" in shown(ranged)
    assert "Saving     $0.818000 (90.7 %), range 75.0 to 93.0 %" in shown(ranged)
    assert batch_as_json(ranged)["unconfirmed"] == {
        "cost_usd": 0.12,
        "baseline_usd": 0.1,
        "usual_cost_usd": 0.004,
        "usual_baseline_usd": 0.002,
    }


def test_a_batch_that_is_dear_only_by_the_maximum_of_lost_calls_shows_its_saving_and_its_forecast_held() -> None:
    interval = {"expected": 0.5, "low": 0.4, "high": 0.6, "unmeasured": []}
    plan = {"cost_usd": interval, "wall_s": interval, "baseline_cost_usd": interval, "escalated": 90.0, "by_tier": {}}
    lost = replace(FIGURES, plan=plan, cost_usd=1.6, unconfirmed_usd=1.1, unconfirmed_usual_usd=0.02)
    text = shown(lost)
    assert "Saving     $0.480000 (48.0 %), range -60.0 to 50.0 %" in text
    assert "actual cost 4.0 % higher, with $1.100000 of unconfirmed calls at their usual cost; time" in text
    cost = batch_as_json(lost)["plan_against_actual"]["cost_usd"]
    assert (cost["actual"], cost["usual"], cost["unconfirmed"], cost["within"]) == (1.6, 0.52, 1.1, True)


def test_the_report_is_plain_about_simulation() -> None:
    text = shown(FIGURES)
    assert "Simulated:" in text
    assert "no money was spent. Prices are those of maxi, mini." in text
    assert "Simulated" not in shown(replace(FIGURES, progress=replace(FIGURES.progress, simulated=False)))


def test_a_batch_that_cost_more_than_the_top_tier_alone_says_so() -> None:
    text = shown(replace(FIGURES, cost_usd=1.2))
    assert "none: $0.200000 (20.0 %) more than the baseline" in text
    assert "of the saving" not in text


@pytest.mark.parametrize(
    ("done", "failed", "over_budget", "code"), [(1000, 0, 0, 0), (1, 999, 0, 0), (0, 1000, 0, 1), (1, 999, 998, 3)]
)
def test_a_command_that_waited_ends_with_the_code_of_its_batch(
    done: int, failed: int, over_budget: int, code: int
) -> None:
    progress = replace(FIGURES.progress, done=done, failed=failed)
    figures = replace(FIGURES, progress=progress, over_budget=over_budget)
    if code == 0:
        batch_summary.exit_by_answers(figures)
    else:
        with pytest.raises(typer.Exit) as ended:
            batch_summary.exit_by_answers(figures)
        assert ended.value.exit_code == code


def test_a_budget_that_was_used_up_and_a_lane_that_gave_nothing_are_warnings_with_the_fix() -> None:
    progress = replace(FIGURES.progress, cap_usd=2.5)
    vain = UnansweredLane("mini", "status 404", provider_batches=1, queries=40)
    text = shown(replace(FIGURES, progress=progress, over_budget=10, unanswered_lanes=(vain,)))
    assert (
        "Warning    10 of 1,000 queries ended without an answer, because the budget of $2.5 does not cover their "
        "calls. Each call reserves its maximum cost; $0.200000 was spent. fix: "
        "`pointsman budget batch_a --raise-to USD`, then run `pointsman resume batch_a`;" in text
    )
    assert "queries that the batch lane of mini did not answer: 40. They used another lane. Cause: status 404" in text
    assert "Warning" not in shown(FIGURES)


def test_escalations_name_what_rejected_the_answers() -> None:
    text = shown(replace(FIGURES, escalated_by={"quality_policy": 80, "low_confidence": 10}))
    assert "990 answered, 90 escalated (by quality policy 80, low confidence 10), 10 failed" in text
    assert "unaccepted" in text


def test_workloads_without_names_are_proposed_from_the_metadata() -> None:
    text = shown(replace(FIGURES, kinds=("kind", 3)))
    assert (
        "Workloads  the queries have no workload name, but the metadata key kind has 3 values. fix: use --workload kind"
        in text
    )


def test_calls_that_were_never_sent_are_counted_apart() -> None:
    assert "Calls      1,100, 10 failed; latency" in shown(FIGURES)
    refused = replace(FIGURES, calls=603, failed_calls=303, unsent_calls=303)
    assert "Calls      300, 0 failed; 303 more were never sent; latency" in shown(refused)


def test_failed_calls_are_counted_by_cause_with_the_fix() -> None:
    def failed(deployment: str, outcome: str, status: int, cause: str | None, calls: int) -> FailedCalls:
        return FailedCalls(deployment, outcome, status, cause, None, calls, tried_again=0, failed_over=0, went_to=())

    some = (
        failed("mini", "rate_limited", 429, "rate_limit_exceeded", 3),
        failed("maxi", "rate_limited", 429, "rate_limit_exceeded", 5),
        failed("maxi", "overloaded", 503, None, 2),
    )
    lines = shown(replace(FIGURES, failing=some)).splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("Calls"))
    assert lines[at + 1].startswith(
        "           8 rate limited (HTTP 429, rate_limit_exceeded) at maxi 5, mini 3: not billed. fix: set "
    )
    assert lines[at + 2].startswith("           2 overloaded (HTTP 503) at maxi: not billed. fix: none if it is rare")
    assert FIXES.keys() == set(FailureKind)


@pytest.mark.parametrize(
    ("cause", "fix"),
    [
        ("deadline", "fix: raise deadline_s"),
        (None, "the worker process ended before the result arrived"),
        ("connection_reset", "none if it is rare"),
    ],
)
def test_a_call_of_unknown_outcome_has_the_fix_of_its_cause(cause: str | None, fix: str) -> None:
    lost = FailedCalls("maxi", "unknown", None, cause, None, 19, tried_again=0, failed_over=0, went_to=())
    (line,) = [line for line in shown(replace(FIGURES, failing=(lost,))).splitlines() if " 19 unknown" in line]
    assert fix in line


def test_the_baseline_says_by_whose_lengths_it_is_counted() -> None:
    lengths = BaselineLengths(own=90, assumed=900)
    text = shown(replace(FIGURES, baseline_lengths=lengths))
    assert "if maxi had answered the 990 answered queries (answer lengths: 90 known, 900 assumed equal)" in text


def test_a_batch_without_answers_has_no_saving() -> None:
    nothing = replace(FIGURES, tiers=(), baseline_cost_usd=0.0, progress=replace(FIGURES.progress, done=0))
    assert "none: no query was answered" in shown(nothing)


def test_the_table_fits_an_ordinary_terminal_and_nothing_steers_it() -> None:
    text = shown(FIGURES)
    (row,) = [line for line in text.splitlines() if line.startswith("small")]
    assert row.split() == ["small", "900", "90.9", "%", "1,000", "3", "1,010", "$0.050000", "50/90/100"]
    assert "\x1b" not in text


def test_the_tiers_of_the_forecast_add_up_after_rounding() -> None:
    by_tier = {"small": 889.5, "giant": 110.5}
    interval = {"expected": 0.2, "low": 0.1, "high": 0.4, "unmeasured": []}
    plan = {
        "cost_usd": interval,
        "wall_s": interval,
        "baseline_cost_usd": interval,
        "escalated": 90.0,
        "by_tier": by_tier,
    }
    text = shown(replace(FIGURES, plan=plan))
    assert "small 890, giant 110; 90 escalated" in text


@pytest.mark.parametrize(("cost_usd", "said"), [(0.2, "within"), (0.02, "below"), (2.0, "above")])
def test_the_forecast_of_a_floor_is_a_range_and_the_actual_cost_is_compared_with_it(cost_usd: float, said: str) -> None:
    rest = {"least_tier": "small", "least_usd": 0.1, "most_tier": "giant", "most_usd": 0.9}
    cost = {"expected": 0.5, "low": 0.05, "high": 1.4, "unmeasured": []}
    plan = {
        "cost_usd": cost,
        "wall_s": {"expected": 9.0, "low": 4.0, "high": 20.0},
        "baseline_cost_usd": {"expected": 0.9, "low": 0.5, "high": 1.4},
        "escalated": 0.0,
        "by_tier": {"small": 0.0, "giant": 1000.0},
        "pilot": {"rest": rest},
    }
    text = shown(replace(FIGURES, plan=plan, cost_usd=cost_usd))
    bounds = (
        "$0.500000, between $0.100000 (the pilot, and small alone for the rest) and $0.900000 (giant alone for the "
        "rest)"
    )
    wall = "time 0:09 (range 0:04–0:20); actual time within its range"
    assert f"Forecast   {bounds} (range $0.050000–1.400000); actual cost {said} its range; {wall}\n" in text
    slow = replace(FIGURES, plan=plan, cost_usd=cost_usd, progress=replace(FIGURES.progress, wall_s=36.0))
    assert f"actual cost {said} its range; time 0:09 (range 0:04–0:20); actual time above its range\n" in shown(slow)
    held = "actual time without the 0:25 in which it was held within its range\n"
    assert held in shown(replace(slow, held_s=25.0)), "no forecast knows when a budget is raised"
    assert "; actual" not in shown(replace(FIGURES, plan=plan, cost_usd=cost_usd, over_budget=3)), "a part is not asked"
    guess = plan | {"cost_usd": cost | {"unmeasured": ["small", "giant"]}}
    text = shown(replace(FIGURES, plan=guess, cost_usd=cost_usd))
    known = "not known until small and giant have each given 8 answers"
    assert f"Forecast   {known} (range $0.050000–1.400000); actual" in text


def test_the_forecast_stands_beside_the_actual_cost() -> None:
    interval = {"expected": 0.25, "low": 0.1, "high": 0.4, "unmeasured": []}
    plan = {"cost_usd": interval, "wall_s": interval, "baseline_cost_usd": interval, "escalated": 90.0, "by_tier": {}}
    text = shown(replace(FIGURES, plan=plan))
    assert "Forecast   $0.250000 (range $0.100000–0.400000); actual cost 20.0 % lower; time 0:00" in text
    stopped = replace(FIGURES.progress, cap_usd=0.2, done=500, held=490, ended_at=None)
    text = shown(replace(FIGURES, plan=plan, progress=stopped))
    assert "Forecast   $0.250000 (range $0.100000–0.400000); the budget stops at $0.200000; time 0:00 (range" in text
    assert "the budget stops" not in shown(replace(FIGURES, plan=plan, progress=replace(stopped, cap_usd=0.5)))


@pytest.mark.parametrize(("actual", "text"), [(0.171, "82.9 % lower"), (1.5, "50.0 % higher"), (1.0002, "as forecast")])
def test_an_actual_cost_is_lower_or_higher_than_its_forecast(actual: float, text: str) -> None:
    assert _deviation(actual, 1.0) == text


def test_a_pilot_that_was_much_of_the_cost_says_so_and_what_to_do() -> None:
    much = replace(FIGURES, quality=replace(CERTIFIED, pilot_usd=0.1, grade_usd=0.05))
    assert (much.pilot_share, batch_as_json(much)["pilot_share"]) == (pytest.approx(0.75), 0.75)
    assert "the pilot with its grading was 75 % of the cost; each batch pays for its own pilot. fix: submit" in shown(
        much
    )
    assert "of the cost;" not in shown(replace(much, quality=replace(CERTIFIED, pilot_usd=0.03)))
    assert "of the cost;" not in shown(replace(much, quality=replace(much.quality, pilot_queries=990))), "a trial"


CERTIFIED = QualityFigures(
    floor=0.9,
    confidence=0.95,
    state="decided",
    certificate={
        "outcome": "certified",
        "policy": "router_and_cascade",
        "quality": 0.94,
        "quality_interval": [0.92, 1.0],
        "grader": {"mix": {"exact": 317}},
        "net_saving": 0.7215,
    },
    pilot_queries=317,
    pilot_usd=0.05,
    grade_usd=0.0,
    audit_usd=0.0,
    audits=0,
    audited_quality=None,
    audited_interval=None,
    breached_at=None,
)


def test_the_quality_names_the_grader_and_after_try_what_the_whole_batch_would_save() -> None:
    text = shown(replace(FIGURES, quality=CERTIFIED))
    assert "certified (router and cascade); measured 94.0 %, at least 92.0 %; pilot of 317, $0.050000" in text
    assert "graded by exact" in text
    assert "expected for the whole batch" not in text
    tried = replace(FIGURES, quality=CERTIFIED, progress=replace(FIGURES.progress, cancelled=683))
    assert "; expected for the whole batch, its pilot included: 72.2 % less than giant alone" in shown(tried)
    departed = replace(CERTIFIED, departures=142)
    text = shown(replace(FIGURES, quality=departed))
    assert "certified, but 142 queries departed from the policy to stay within the budget, so the floor is not" in text
    assert "at least" not in text
    judged = replace(CERTIFIED, certificate=dict(CERTIFIED.certificate or {}, grader={"mix": {"judge": 317}}))
    text = shown(replace(tried, quality=replace(judged, grade_usd=0.02)))
    assert "pilot of 317, $0.050000 + grading $0.020000, graded by judge" in text
    nothing = {"outcome": "top_tier", "policy": "all_top", "reason": "no policy would save a tenth", "quality": 1.0}
    text = shown(replace(FIGURES, quality=replace(CERTIFIED, certificate=nothing)))
    assert "nothing certified (no policy would save a tenth), so answered by the top tier alone; pilot of 317" in text
    small = replace(
        CERTIFIED, certificate=dict(nothing, outcome="too_small", reason="too few queries"), pilot_queries=0
    )
    assert "nothing certified (too few queries)\n" in shown(replace(FIGURES, quality=small)), "no pilot was paid"


def test_a_policy_names_its_tier_and_the_workload_with_the_lowest_quality_is_named() -> None:
    workloads = [
        {"workload": "arith", "queries": 50, "quality": 0.72, "interval": [0.575, 0.838]},
        {"workload": "ticket", "queries": 60, "quality": 0.86, "interval": [0.75, 0.93]},
    ]
    stated = dict(CERTIFIED.certificate or {}, tiers=["small", "medium", "giant"], workloads=workloads)
    fixed = replace(CERTIFIED, certificate=dict(stated, policy="fixed_tier", start_shares=[0.0, 1.0, 0.0]))
    text = shown(replace(FIGURES, quality=fixed))
    assert "certified (fixed tier: medium); measured" in text
    told = quality_as_json(fixed)
    assert (told["policy"], told["policy_tier"]) == ("fixed_tier", "medium")
    assert (
        "lowest by workload (workloads are not certified separately): arith 72.0 % on 50 sampled queries (95 %: 57.5 "
        "to 83.8 %), below the floor. fix: run this workload as a batch of its own, with its own floor"
    ) in text
    assert "ticket" not in text
    kept = replace(fixed, certificate=dict(stated, workloads=workloads[1:]))
    text = shown(replace(FIGURES, quality=kept))
    assert "not certified separately): ticket 86.0 % on 60 sampled queries (95 %: 75.0 to 93.0 %)\n" in text
    better = dict(workloads[1], quality=1.02, interval=[0.96, 1.02])
    text = shown(replace(FIGURES, quality=replace(fixed, certificate=dict(stated, workloads=[better]))))
    assert "ticket 102.0 % on 60 sampled queries (95 %: 96.0 % or more)\n" in text
    both = [workloads[0], dict(workloads[0], workload="sums")]
    text = shown(replace(FIGURES, quality=replace(fixed, certificate=dict(stated, workloads=both))))
    assert "(95 %: 57.5 to 83.8 %), below the floor. fix: run each of these workloads as a batch of its own" in text
    assert replace(fixed, certificate=dict(stated, policy="cascade", start_shares=[1.0, 0, 0])).policy == (
        "cascade from small"
    )


def test_audits_are_named_apart_from_what_the_certificate_does_not_cover() -> None:
    stated = dict(CERTIFIED.certificate or {}, tiers=["small", "giant"], unanswered=1, sample_ids=[1, 2])
    text = shown(replace(FIGURES, quality=replace(CERTIFIED, certificate=stated, audits=6)))
    assert "the certificate does not cover such queries; 6 audits\n" in text


def test_queries_that_a_budget_keeps_from_the_policy_leave_no_promise() -> None:
    departed = replace(CERTIFIED, departures=1)
    assert (CERTIFIED.standing, CERTIFIED.interval) == ("certified", (0.92, 1.0))
    assert (departed.standing, departed.interval) == ("departed", None)
    assert standing_of(departed).startswith("certified, but 1 query departed from the policy")
    assert quality_as_json(departed)["quality_departures"] == 1
    assert replace(departed, breached_at=NOW).standing == "broken"
