"""Estimates from a log, against the truth that a made-up world knows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.data.cross_validation import numbered
from evaluation.production.off_policy import Log, NoSupport, evidence, gains, outcome_model, value

TIERS = ("small", "medium", "large")


class World:
    """Queries of a hidden hardness, tiers of a known strength, a logging policy that explores."""

    def __init__(self, *, n: int, seed: int, exploration: float = 0.3) -> None:
        random = np.random.default_rng(seed)
        hardness = random.random(n)
        self.p_right = np.clip(np.array([0.9, 1.1, 1.3]) - hardness[:, None], 0.02, 0.98)
        self.right = (random.random((n, 3)) < self.p_right).astype(float)
        favourite = np.clip((hardness + random.normal(0, 0.2, n)) * 3, 0, 2.99).astype(np.int64)
        explores = random.random(n) < exploration
        chosen = np.where(explores, random.integers(0, 3, n), favourite)
        propensity = np.where(chosen == favourite, 1 - exploration + exploration / 3, exploration / 3)
        self.log = Log(TIERS, chosen, propensity, hardness[:, None] + random.normal(0, 0.05, (n, 1)), np.arange(n))
        self.seen = self.right[np.arange(n), chosen]
        self.candidate = np.eye(3)[np.where(hardness > 0.5, 2, 0)]

    def truth(self, policy: np.ndarray) -> float:
        return float((policy * self.right).sum(axis=1).mean())


@pytest.mark.parametrize("method", ["ips", "snips", "dr"])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(method: str) -> None:
    held = 0
    for seed in range(60):
        world = World(n=800, seed=seed)
        told = value(world.log, world.candidate, world.seen, seed=seed, draws=200).intervals[method]
        assert told is not None
        held += told.low <= world.truth(world.candidate) <= told.high
    # 95 % of 60 are 57; fewer than 51 would come by chance once in 200 times.
    assert held >= 51


def test_estimates_do_not_lean_to_one_side() -> None:
    errors = []
    for seed in range(80):
        world = World(n=400, seed=seed)
        own = value(world.log, world.candidate, world.seen, draws=20)
        errors.append([own.ips - world.truth(world.candidate), own.dr - world.truth(world.candidate)])
    lean, spread = np.mean(errors, axis=0), np.std(errors, axis=0) / np.sqrt(len(errors))
    assert np.all(np.abs(lean) < 3.5 * spread)


def test_a_model_of_the_outcome_takes_noise_away() -> None:
    world = World(n=4000, seed=1)
    own = value(world.log, world.candidate, world.seen).intervals
    assert own["dr"] is not None
    assert own["ips"] is not None
    assert own["dr"].high - own["dr"].low < 0.8 * (own["ips"].high - own["ips"].low)


def test_a_wrong_model_does_not_mislead() -> None:
    world = World(n=6000, seed=2)
    nonsense = np.random.default_rng(0).random((6000, 3))
    told = value(world.log, world.candidate, world.seen, model=nonsense).intervals["dr"]
    assert told is not None
    assert told.low <= world.truth(world.candidate) <= told.high


def test_the_policy_that_ran_is_worth_what_was_seen() -> None:
    log = Log(TIERS, np.zeros(200, np.int64), np.ones(200), np.zeros((200, 1)), np.arange(200))
    seen = np.r_[np.ones(150), np.zeros(50)]
    own = value(log, log.always(2), seen)
    assert (own.ips, own.snips, own.dr) == pytest.approx((0.75, 0.75, 0.75))


def test_what_is_asked_again_is_no_new_evidence() -> None:
    """Each text ten times over: the interval is that of the texts, √10 times as wide as that of the rows."""
    world = World(n=600, seed=6)
    again = np.tile(np.arange(600), 10)
    log = Log(TIERS, world.log.chosen[again], world.log.propensity[again], world.log.features[again], again)
    once = value(world.log, world.candidate, world.seen)
    often = value(log, world.candidate[again], world.seen[again])
    assert often.ips == pytest.approx(once.ips)
    for method in ("ips", "snips"):
        assert once.intervals[method] == often.intervals[method]


def test_too_little_evidence_gives_no_figure() -> None:
    world = World(n=60, seed=4, exploration=0.1)
    with pytest.raises(NoSupport, match="label more"):
        value(world.log, np.eye(3)[(world.log.chosen + 1) % 3], world.seen)


def test_the_gain_of_the_better_policy_is_that_of_the_truth() -> None:
    world = World(n=6000, seed=5)
    loss = 1 - world.seen
    told = gains(world.log, world.candidate, world.log.always(0), loss)
    truth = world.truth(world.candidate) - world.truth(world.log.always(0))
    assert abs(told.mean() - truth) < 4 * told.std() / np.sqrt(len(told))
    assert gains(world.log, world.candidate, world.candidate, loss) == pytest.approx(np.zeros(6000))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.05, 1.0), st.floats(0, 1)), min_size=60, max_size=120))
def test_the_model_never_tells_more_than_was_seen(rows: list[tuple[int, float, float]]) -> None:
    chosen, propensity, seen = (np.array(column) for column in zip(*rows, strict=True))
    told = outcome_model(Log(TIERS, chosen.astype(np.int64), propensity, seen[:, None], np.arange(len(seen))), seen)
    assert np.all(told >= seen.min() - 1e-12)
    assert np.all(told <= seen.max() + 1e-12)


def test_a_log_of_one_query_has_a_model_without_a_warning() -> None:
    one = Log(TIERS, np.array([0]), np.array([0.5]), np.array([[1.0]]), np.array([0]))
    assert np.all(np.isfinite(outcome_model(one, np.array([1.0]))))


def test_evidence_is_of_the_queries_on_which_two_policies_differ() -> None:
    chosen, ever = np.array([0, 1] * 50), np.eye(2)[np.zeros(100, np.int64)]
    log = Log(TIERS[:2], chosen, np.full(100, 0.5), np.zeros((100, 1)), np.arange(100))
    other = ever.copy()
    other[:20] = [0.0, 1.0]
    assert evidence(log, other, ever) == pytest.approx(10)
    assert evidence(log, ever, ever) == 0


def test_the_same_texts_have_the_same_number() -> None:
    assert numbered(["a", "b", "a", "c"]).tolist() == [0, 1, 0, 2]
