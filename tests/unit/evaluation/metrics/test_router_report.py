"""What evaluations tell, on small data whose figures can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.data.call_costs import CallCosts, call_costs_for
from evaluation.data.dataset import Dataset, Example, Kind, read_dataset
from evaluation.metrics.label_evaluation import weigh_choices
from evaluation.metrics.outcome_evaluation import Way, weigh_cascade, weigh_router
from evaluation.metrics.plots import draw
from evaluation.metrics.recorded_pipeline import replay, tiers_known
from evaluation.metrics.router_report import label_report, outcome_report
from evaluation.models.predictors import predictor_of, scorer_of
from evaluation.training.train import TrainedRouter
from fleet_config import load_fleet
from routing.fleet import Fleet
from settings import ROOT
from tests.unit.evaluation.synthetic_data import label_lines, written

TARIFF = CallCosts({"small": 0.001, "large": 0.1}, "made up")


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet(ROOT / "fleet.toml", {})


def _dataset(small: list[float], large: list[float], texts: list[str] | None = None) -> Dataset:
    texts = texts or [f"query {'x' * (7 * place % 11)}" for place in range(len(small))]
    examples = tuple(
        Example(f"e{i}", i + 1, text, {"small": s, "large": g}, {"small": "an answer", "large": "another"})
        for i, (text, s, g) in enumerate(zip(texts, small, large, strict=True))
    )
    return Dataset("by hand", Kind.OUTCOMES, ("small", "large"), examples)


def _mixed(n: int) -> tuple[Dataset, np.ndarray]:
    """Data, and probabilities that know a good deal of them."""
    random = np.random.default_rng(0)
    p = np.column_stack([random.uniform(0.1, 0.9, n), np.full(n, 0.9)])
    small, large = (random.random((2, n)) < p.T).astype(float)
    return _dataset(small.tolist(), large.tolist()), p


@pytest.fixture(scope="module")
def mixed() -> tuple[Dataset, np.ndarray, Way]:
    data, p = _mixed(400)
    return data, p, weigh_router(data, p, TARIFF, draws=200)


def test_the_report_on_outcomes_stands_beside_every_control(mixed: tuple[Dataset, np.ndarray, Way]) -> None:
    data, p, way = mixed
    told = outcome_report(
        data, way, weigh_cascade(data, p[:, 0], TARIFF, draws=200), router={"name": "x"}, tariff=TARIFF
    )
    controls = {"always_small", "always_large", "best_fixed_split", "random", "query_length", "oracle"}
    assert set(told["controls"]) == set(told["cascade"]["controls"]) == controls
    assert {"apgr", "cpt50", "cpt80", "ece", "brier", "aiq", "arena", "n", "words", "intervals"} <= set(told)
    assert {"apgr", "cpt50", "cpt80", "ece", "by_calls"} <= set(told["cascade"])
    assert told["controls"]["best_fixed_split"]["apgr"] == pytest.approx(0.5)
    assert told["controls"]["oracle"]["apgr"] > told["apgr"] > 0.6
    assert told["ece"] < 0.1


def test_a_cascade_counts_both_calls_of_what_it_escalates(mixed: tuple[Dataset, np.ndarray, Way]) -> None:
    data, p, _ = mixed
    way = weigh_cascade(data, p[:, 0], TARIFF, threshold=0.5, draws=100)
    assert way.point.to_large == pytest.approx(np.mean(p[:, 0] < 0.5))
    assert way.point.cost == pytest.approx(0.01 + way.point.to_large)
    told = outcome_report(data, way, way, router={"name": "x"}, tariff=TARIFF)["cascade"]
    assert told["cpt80"] == pytest.approx(told["by_calls"]["cpt80"] + 1.0)
    assert told["apgr"] < told["by_calls"]["apgr"]


def test_a_query_router_pays_one_call_for_each_query(mixed: tuple[Dataset, np.ndarray, Way]) -> None:
    _, p, way = mixed
    assert way.point.to_large == pytest.approx(np.mean(3 * (p[:, 1] - p[:, 0]) >= 0.99))
    assert way.point.cost == pytest.approx(0.01 * (1 - way.point.to_large) + way.point.to_large)


def _words(data: Dataset, p: np.ndarray, **router: str) -> str:
    way = weigh_router(data, p, TARIFF, draws=200)
    return "\n".join(outcome_report(data, way, None, router={"name": "x", **router}, tariff=TARIFF)["words"])


def test_a_good_router_is_said_to_beat_its_controls(mixed: tuple[Dataset, np.ndarray, Way]) -> None:
    words = _words(mixed[0], mixed[1])
    assert "The router beats a fixed split" in words
    assert "The router beats query length alone" in words
    assert "NOT" not in words


def test_a_router_that_knows_nothing_is_said_not_to_beat_a_fixed_split(
    mixed: tuple[Dataset, np.ndarray, Way],
) -> None:
    noise = np.random.default_rng(5).uniform(0.2, 0.8, mixed[1].shape)
    assert "It is NOT certain that the router beats a fixed split (a share of the queries at random)" in _words(
        mixed[0], noise
    )


def test_a_router_that_has_it_backwards_is_said_to_do_worse(mixed: tuple[Dataset, np.ndarray, Way]) -> None:
    assert "does better" in _words(mixed[0], 1 - mixed[1])


def test_a_router_that_length_outdoes_is_reported_so() -> None:
    random = np.random.default_rng(1)
    length = random.integers(1, 200, 400)
    small = (random.random(400) > length / 200).astype(float)
    data = _dataset(small.tolist(), [1.0] * 400, ["x" * int(own) for own in length])
    noise = random.uniform(0.2, 0.8, (400, 2))
    assert "The router does NOT beat query length alone, which does better" in _words(data, noise)


def test_where_the_large_model_is_no_better_that_is_said() -> None:
    data = _dataset([1.0, 1.0, 0.0] * 20, [0.0, 1.0, 0.0] * 20)
    told = outcome_report(
        data, weigh_router(data, np.full((60, 2), 0.5), TARIFF, draws=100), None, router={"name": "x"}, tariff=TARIFF
    )
    assert told["apgr"] is None
    assert "gains nothing. Always use the small one" in told["words"][0]


def test_lines_that_were_trained_on_are_reported(mixed: tuple[Dataset, np.ndarray, Way]) -> None:
    data = Dataset("x", Kind.OUTCOMES, mixed[0].tiers, mixed[0].examples, sha256="abc")
    assert "the figures are too good" in _words(data, mixed[1], data_sha256="abc")
    assert "too good" not in _words(data, mixed[1], data_sha256="other")


def test_a_probability_that_is_far_off_is_reported(mixed: tuple[Dataset, np.ndarray, Way]) -> None:
    assert "do NOT rely on it" in _words(mixed[0], np.clip(mixed[1] + 0.3, 0, 1))


def test_pictures_are_drawn_with_and_without_a_cascade(mixed: tuple[Dataset, np.ndarray, Way], tmp_path: Path) -> None:
    data, p, way = mixed
    draw([way], title="one", path=tmp_path / "one.png")
    draw([way, weigh_cascade(data, p[:, 0], TARIFF, draws=100)], title="two", path=tmp_path / "two.svg")
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "two.svg").read_text().rstrip().endswith("</svg>")


def test_tokens_are_priced_by_tier_and_answers_that_are_not_recorded_are_assumed(fleet: Fleet) -> None:
    data = _dataset([1.0], [1.0], ["x" * 400])
    own = call_costs_for(data)
    assert own.usd["small"] == pytest.approx((100 + 9 / 4) * 0.24 / 1e6)
    assert own.usd["large"] == pytest.approx((100 + 7 / 4) * 24.7 / 1e6)
    price = fleet.deployments("large")[0].price
    expected = (100 * price.input_usd_per_mtok + 7 / 4 * price.output_usd_per_mtok) * price.multiplier / 1e6
    assert call_costs_for(data, fleet).usd["large"] == pytest.approx(expected)


# Labels.


def _labelled(expected: list[str]) -> Dataset:
    examples = tuple(
        Example(f"e{i}", i + 1, f"q {'x' * i}", {}, domain="even" if i % 2 == 0 else "odd", expected=tier)
        for i, tier in enumerate(expected)
    )
    return Dataset("labels", Kind.LABELLED, ("small", "medium", "large"), examples)


TIERS = ("small", "medium", "large", "special")


def test_too_high_is_cost_inflation_and_too_low_is_quality_loss() -> None:
    data = _labelled(["small", "medium", "large", "large"])
    report = weigh_choices(data, {"router": ["medium", "medium", "small", "special"]}, tiers=TIERS, weight=3, draws=100)
    own = report.router
    assert (own.correct, own.cost_inflation, own.quality_loss) == (1, 2, 1)
    assert own.weighted_loss == pytest.approx((2 * 1 + 1 * 3) / 4)
    assert own.accuracy == 0.25
    assert report.confusion["large"] == {"small": 1, "medium": 0, "large": 0, "special": 1}
    assert {name: tally.correct for name, tally in report.categories.items()} == {"even": 0, "odd": 1}


def test_the_controls_of_labels_are_what_they_are_called() -> None:
    data = _labelled(["small"] * 6 + ["medium"] * 2 + ["large"] * 2)
    report = weigh_choices(data, {"router": ["medium"] * 10}, tiers=TIERS, weight=3, draws=100)
    controls = {control.name: control for control in report.controls}
    assert controls["oracle"].weighted_loss == 0
    assert controls["always_small"].quality_loss == 4
    assert controls["always_large"].cost_inflation == 8
    # Small loses 3 · 4, medium 6 + 3 · 2, large 8: the last is the best fixed tier.
    assert controls["best_fixed_tier"].weighted_loss == pytest.approx(0.8)
    # Longer queries come later here, and the later ones are expected higher: length tells it all.
    assert controls["query_length"].weighted_loss == 0


def test_the_report_on_labels_says_when_the_router_does_not_beat_length() -> None:
    data = _labelled((["small"] * 6 + ["medium"] * 2 + ["large"] * 2) * 1)
    report = weigh_choices(data, {"router": ["medium"] * 10, "gate alone": ["small"] * 10}, tiers=TIERS, weight=3)
    told = label_report(data, report, router={"name": "x"}, weight=3)
    assert any("The router does NOT beat query length alone" in sentence for sentence in told["words"])
    assert told["cost_inflation"] == {"count": 6, "rate": 0.6}
    assert told["quality_loss"] == {"count": 2, "rate": 0.2}
    assert set(told["stages"]) == {"gate alone"}


def test_labels_of_a_file_are_weighed_by_category(tmp_path: Path) -> None:
    data = read_dataset(written(tmp_path / "x.jsonl", label_lines(40)))
    perfect = [example.expected or "" for example in data.examples]
    report = weigh_choices(data, {"router": perfect}, tiers=TIERS, weight=3, draws=100)
    assert report.router.accuracy == 1
    assert set(report.categories) == {"maths", "chat"}


# Replay.


def test_a_replay_pays_every_call_and_stands_between_the_two_extremes(
    trained: TrainedRouter, made_up: Dataset, fleet: Fleet
) -> None:
    figures = replay(
        made_up,
        fleet=fleet,
        predictor=predictor_of(trained.artifact),
        scorer=scorer_of(trained.artifact),
        tariff=TARIFF,
    )
    assert sum(figures.routed.values()) == sum(figures.answered.values()) == figures.n == 240
    calls_to_large = figures.routed["large"] + figures.escalated
    paid = 0.001 * figures.routed["small"] + 0.1 * calls_to_large
    assert figures.cost_usd == pytest.approx(paid)
    assert figures.right > figures.right_small
    assert figures.cost_share < 1


def test_without_a_scorer_no_answer_is_doubted(made_up: Dataset, fleet: Fleet) -> None:
    figures = replay(made_up, fleet=fleet, predictor=None, scorer=None, tariff=TARIFF)
    assert figures.escalated == 0
    assert figures.answered == figures.routed


def test_tiers_that_the_fleet_lacks_cannot_be_replayed(fleet: Fleet) -> None:
    other = Dataset("x", Kind.OUTCOMES, ("bronze", "gold"), ())
    assert not tiers_known(other, fleet)
    assert tiers_known(_dataset([1.0], [1.0]), fleet)
