"""The simulated days of the lanes: they keep what they promise, and a rule that does not would show."""

from collections.abc import Sequence

import pytest

from benchmarks.lane_pipeline import AllBatch, AllStandard, LanePipeline, Planned, WaveLane
from benchmarks.lane_world import FAMILIES, NEVER, LaneDay
from benchmarks.lanes import simulate, summary
from routing.lanes.lane import Lane

LINES = 300


def day(number: int, family: str = "slow") -> LaneDay:
    return LaneDay.draw((11, number), lines=LINES, family=family, at=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_is_never_late_where_standard_is_not_and_every_call_is_on_the_bill(family: str) -> None:
    found = summary(simulate(family, days=20, lines=LINES, seed=7))
    assert [found[name] for name in ("days", "late", "lost", "twice", "calls_miscounted")] == [4, 0, 0, 0, 0]
    assert found["ledger_minus_bill"] == 0.0
    assert float(str(found["saving_over_standard"])) > 0.3


def test_provider_batches_alone_are_late_and_the_figures_show_it() -> None:
    found = summary(simulate("slow", days=30, lines=LINES, seed=7))
    assert int(str(found["late_all_batch"])) > 0
    assert found["late"] == 0


class TooPatient(Planned):
    """The plan without the time that it keeps for the standard lane."""

    def choose(self, tier: int, *, left_s: float, open_queries: Sequence[int]) -> WaveLane:
        return WaveLane(Lane.BATCH, wait_s=0.999 * left_s) if left_s > 60 else WaveLane(Lane.STANDARD)

    def waits(self, tier: int, *, age_s: float, left_s: float, open_queries: Sequence[int]) -> float | None:
        return None


def test_a_planner_that_keeps_no_time_for_standard_is_late_here() -> None:
    late = 0
    for number in range(8):
        here = day(number)
        in_time = LanePipeline(here, AllStandard()).run().done_s <= here.within_s
        late += int((in_time & (LanePipeline(here, TooPatient(here, [])).run().done_s > here.within_s)).sum())
    assert late > 0


def test_a_call_that_the_ledger_settles_at_another_price_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import lane_pipeline

    wrong = {name: price.at_service_tier("standard") for name, price in lane_pipeline.PRICES.items()}
    wrong = {name: price.__class__(9.0, 9.0, 9.0, "wrong") for name, price in wrong.items()}
    monkeypatch.setattr(lane_pipeline, "PRICES", wrong)
    result = LanePipeline(day(0), AllStandard()).run()
    assert result.miscounted > 0
    assert abs(result.ledger_usd - result.bill_usd) > 0


def test_every_query_ends_once_whatever_the_policy() -> None:
    for number in range(6):
        here = day(number, "stuck 5 %")
        for policy in (AllStandard(), AllBatch(), Planned(here, [])):
            result = LanePipeline(here, policy).run()
            assert (result.answers == 1).all()
            assert (result.done_s < NEVER).all()


def test_a_day_is_the_same_each_time() -> None:
    first, second = (simulate("bimodal", days=10, lines=LINES, seed=3) for _ in range(2))
    assert first == second
