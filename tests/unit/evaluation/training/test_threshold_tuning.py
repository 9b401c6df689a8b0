"""Thresholds that meet a target, and how they get into a fleet file."""

import numpy as np
import pytest

from evaluation.data.call_costs import CallCosts
from evaluation.data.dataset import Dataset, Example, Kind
from evaluation.data.dataset_errors import TargetError
from evaluation.training.threshold_tuning import Knob, ThresholdTarget, as_dict, propose
from evaluation.training.toml_edit import FleetTextError, with_setting
from fleet_config import check_fleet
from settings import ROOT

TARIFF = CallCosts({"small": 0.001, "large": 0.1}, "made up")


@pytest.fixture(scope="module")
def scene() -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Data, P(ok) by query alone (knows a little), P(right) of the answer (knows a lot)."""
    random = np.random.default_rng(0)
    n = 600
    hard = random.random(n)
    small = (random.random(n) > hard).astype(float)
    large = (random.random(n) < 0.92).astype(float)
    p_ok = np.column_stack([1 - (hard + random.random(n)) / 2, np.full(n, 0.92)])
    examples = tuple(
        Example(f"e{i}", i + 1, "q", {"small": float(small[i]), "large": float(large[i])}) for i in range(n)
    )
    return Dataset("x", Kind.OUTCOMES, ("small", "large"), examples), p_ok, 1 - hard


@pytest.mark.parametrize("cost", [0.1, 0.4, 0.9])
def test_a_cost_is_kept_to(scene: tuple[Dataset, np.ndarray, np.ndarray], cost: float) -> None:
    data, p_ok, p_right = scene
    for proposal in propose(data, p_ok=p_ok, p_right=p_right, tariff=TARIFF, target=ThresholdTarget(cost=cost)):
        assert proposal.cost <= cost + 1e-9
        assert proposal.cost_interval is not None
        assert proposal.cost_interval.low <= proposal.cost <= proposal.cost_interval.high


@pytest.mark.parametrize("quality", [0.7, 0.9, 0.95])
def test_a_quality_is_reached_at_the_least_cost(scene: tuple[Dataset, np.ndarray, np.ndarray], quality: float) -> None:
    data, p_ok, p_right = scene
    first, *others = propose(data, p_ok=p_ok, p_right=p_right, tariff=TARIFF, target=ThresholdTarget(quality=quality))
    assert first.quality >= quality - 1e-9
    assert all(first.cost <= other.cost for other in others)
    assert first.knob == Knob.CONFIDENCE


def test_more_quality_costs_more(scene: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    data, p_ok, p_right = scene
    costs = [
        propose(data, p_ok=p_ok, p_right=p_right, tariff=TARIFF, target=ThresholdTarget(quality=quality))[0].cost
        for quality in (0.7, 0.8, 0.9)
    ]
    assert costs == sorted(costs)


def test_without_answers_only_the_routers_weight_is_proposed(scene: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    data, p_ok, _ = scene
    (only,) = propose(data, p_ok=p_ok, p_right=None, tariff=TARIFF, target=ThresholdTarget(cost=0.5))
    assert (only.knob, only.tier) == (Knob.WEIGHT, None)
    assert as_dict(only)["knob"] == "quality_weight"


def test_the_expected_figures_are_those_of_the_setting(scene: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    data, p_ok, p_right = scene
    first = propose(data, p_ok=p_ok, p_right=p_right, tariff=TARIFF, target=ThresholdTarget(cost=0.4))[0]
    escalated = p_right < first.value
    came = np.where(escalated, data.ok("large"), data.ok("small"))
    assert first.to_large == pytest.approx(escalated.mean())
    assert first.cost == pytest.approx(0.01 + escalated.mean())
    assert first.quality == pytest.approx(came.sum() / data.ok("large").sum())


def test_a_target_that_nothing_meets_is_reported_with_what_is_possible(
    scene: tuple[Dataset, np.ndarray, np.ndarray],
) -> None:
    data, p_ok, p_right = scene
    with pytest.raises(TargetError, match="The maximum is"):
        propose(data, p_ok=p_ok, p_right=p_right, tariff=TARIFF, target=ThresholdTarget(quality=1.19))
    with pytest.raises(TargetError, match=r"The minimum is 0\.010"):
        propose(data, p_ok=p_ok, p_right=p_right, tariff=TARIFF, target=ThresholdTarget(cost=0.001))


FLEET = (
    '# mine\n[tiers.small]\nconcurrency = 4\nconfidence_threshold = 0.7   # why\n\n[ tiers."large" ]\nconcurrency = 2\n'
)


def test_a_value_is_changed_in_place_and_nothing_else() -> None:
    text = with_setting(FLEET, table="tiers.small", key="confidence_threshold", value=0.6125)
    assert text == FLEET.replace("= 0.7 ", "= 0.6125 ")


def test_a_missing_value_is_added_to_its_own_table() -> None:
    text = with_setting(FLEET, table="tiers.large", key="confidence_threshold", value=0.5)
    assert text == f"{FLEET}confidence_threshold = 0.5\n"


def test_a_value_is_added_before_the_next_table() -> None:
    text = with_setting(FLEET, table="tiers.small", key="hedge_after_p95", value=1)
    assert text == FLEET.replace("why\n", "why\nhedge_after_p95 = 1.0\n")


def test_a_missing_table_is_an_error() -> None:
    with pytest.raises(FleetTextError, match=r"has no \[router\]"):
        with_setting(FLEET, table="router", key="quality_weight", value=2)


@pytest.mark.parametrize(("table", "key"), [("tiers.small", "confidence_threshold"), ("router", "quality_weight")])
def test_our_own_fleet_stays_sound(tmp_path: object, table: str, key: str) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "fleet.toml"
    path.write_text(with_setting((ROOT / "fleet.toml").read_text(), table=table, key=key, value=0.85))
    fleet = check_fleet(path, {}).fleet
    assert (fleet.tiers["small"].confidence_threshold if table != "router" else fleet.router.quality_weight) == 0.85
