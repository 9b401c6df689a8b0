"""The quality floor: bounds that hold, policies that survive storage, and a certificate that is not given lightly."""

import json
import random
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from evaluation.data.array_types import Floats
from evaluation.quality_floor import text_features
from evaluation.quality_floor.certification import (
    GradedAnswer,
    GraderStatement,
    PilotQuery,
    PolicyKind,
    QualityTarget,
    certify,
    choose,
    quality_by_workload,
)
from evaluation.quality_floor.ladder_features import ROOT, LadderFeatures, ladder_features, points
from evaluation.quality_floor.ladder_policy import LadderAction, LadderAnswer, LadderPolicy, folds_by_id, policy_at
from evaluation.quality_floor.loss_audit import breaks
from evaluation.quality_floor.loss_bound import upper_bounds
from evaluation.quality_floor.pilot_size import LARGEST_SAMPLE, gains, least_batch, may_gain, plan_pilot
from evaluation.quality_floor.policy_path import FOLDS, fit_path

TARGET = QualityTarget(0.9, 0.95)
COSTS = {2: (0.06, 1.0), 3: (0.06, 0.245, 1.0)}
GOLD = GraderStatement({"gold": 1})


def questions(n: int, *, n_tiers: int = 2, seed: int = 0, confident: bool = False) -> list[PilotQuery]:
    """Short questions that a small model answers well, and hard ones that it answers badly, after much doubt."""
    random_ = random.Random(seed)
    found = []
    for place in range(n):
        hard = random_.random() < 0.4
        text = f"{'prove the lemma about' if hard else 'name the city of'} item {random_.randrange(9_999)}"
        answers = []
        for tier in range(n_tiers):
            right = random_.random() < (0.95 if not hard or tier == n_tiers - 1 else 0.25 + 0.3 * tier)
            words = "perhaps it might be unclear " * 3 if hard and random_.random() < 0.9 else "it is"
            known = {"logprob": 0.9 if right == (random_.random() < 0.9) else 0.4} if confident else {}
            answers.append(GradedAnswer(f"{words} {random_.randrange(99)}", float(right), known, COSTS[n_tiers][tier]))
        found.append(PilotQuery(f"q-{place}", text, answers))
    return found


def arrays(pilot: Sequence[PilotQuery]) -> tuple[LadderFeatures, Floats]:
    n_tiers = len(pilot[0].answers)
    texts = [[query.answers[tier].text for query in pilot] for tier in range(n_tiers - 1)]
    grades = np.array([[answer.grade for answer in query.answers] for query in pilot])
    return ladder_features([query.text for query in pilot], texts), grades[:, -1:] - grades


def run(policy: LadderPolicy, batch: Sequence[PilotQuery]) -> list[int]:
    """The tier whose answer is delivered, for each query, one at a time as production would decide."""
    accepted = []
    top = len(policy.tiers) - 1
    for query in batch:
        ((start, _, _),) = policy.start([query.id], [query.text])
        current = start
        while current < top:
            answers = [[LadderAnswer(each.text, each.confidences)] for each in query.answers[start : current + 1]]
            (decision,) = policy.decide([query.id], [query.text], start, answers)
            if decision.action is LadderAction.ACCEPT:
                assert decision.expected_loss <= decision.accepted_loss + 1e-12
                break
            assert decision.expected_loss > decision.accepted_loss - 1e-12
            current = top if decision.action is LadderAction.TOP else current + 1
        accepted.append(current)
    return accepted


@pytest.mark.parametrize("losses", [0, 3, 20])
def test_the_bound_is_the_exact_binomial_one_where_losses_are_right_or_wrong(losses: int) -> None:
    from scipy.stats import beta

    n = 150
    found = np.zeros((n, 1))
    found[:losses] = 1.0
    exact = beta.ppf(0.95, losses + 1, n - losses)
    assert upper_bounds(found, risk=0.05)[0] == pytest.approx(exact, rel=0.04)


@pytest.mark.parametrize("minus", [0.0, 0.5])
@pytest.mark.parametrize(("n", "rest"), [(80, None), (150, 160)])
def test_the_bound_is_exceeded_as_rarely_as_it_says(n: int, rest: int | None, minus: float) -> None:
    generator = np.random.default_rng(5)
    plus = 0.12
    share = [plus, plus * minus, 1 - plus - plus * minus]
    sample = generator.choice([1.0, -1.0, 0.0], size=(n, 1_500), p=share)
    truth = plus - plus * minus
    real = generator.choice([1.0, -1.0, 0.0], size=(rest, 1_500), p=share).mean(axis=0) if rest else truth
    exceeded = (upper_bounds(sample, risk=0.05, rest=rest) < real).mean()
    assert exceeded <= 0.05 + 3 * (0.05 * 0.95 / 1_500) ** 0.5


def test_a_bound_without_a_sample_is_the_worst() -> None:
    assert upper_bounds(np.zeros((0, 2)), risk=0.05).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("n_tiers", [2, 3])
def test_a_stored_policy_decides_as_the_path_that_was_tested(n_tiers: int) -> None:
    pilot, batch = questions(160, n_tiers=n_tiers), questions(120, n_tiers=n_tiers, seed=9)
    certificate, policy = certify(pilot, TARGET, tiers=["s", "m", "l"][-n_tiers:], batch_size=2_000, grader=GOLD)
    assert certificate.policy is not PolicyKind.ALL_TOP
    assert policy is not None
    stored = LadderPolicy.from_arrays(policy.parts(), tiers=policy.tiers, sources=policy.sources)
    both = pilot + batch
    features, losses = arrays(both)
    rows = np.arange(len(pilot))
    path = fit_path(features, rows, losses[rows], np.array(COSTS[n_tiers]))
    most_loss = TARGET.most_rest_loss(pilot=160, batch_size=2_000)
    place = choose(path, losses[rows], risk=0.05, most_loss=most_loss, rest=1_840).place
    rest = np.arange(len(pilot), len(both))
    expected = path.choices(features, rest, folds_by_id([query.id for query in batch]))
    assert run(stored, batch) == expected.accepted[:, place].tolist()


def test_the_saving_counts_what_each_query_costs_not_the_mean_of_its_tier() -> None:
    def priced(query: PilotQuery) -> PilotQuery:
        times = 9 if "prove" in query.text else 1
        return replace(query, answers=[replace(each, cost_usd=times * each.cost_usd) for each in query.answers])

    pilot, batch = ([priced(query) for query in questions(200, seed=seed)] for seed in (0, 9))
    certificate, policy = certify(pilot, TARGET, tiers=["s", "l"], batch_size=2_000, grader=GOLD)
    assert certificate.policy is not PolicyKind.ALL_TOP
    assert policy is not None
    accepted = run(policy, batch)
    spent = sum(
        sum(each.cost_usd for each in query.answers[: to + 1]) for query, to in zip(batch, accepted, strict=True)
    )
    # Where each call counted as much as the mean call of its tier, this was 0.47 instead of 0.87.
    assert certificate.cost_per_query_usd == pytest.approx(spent / len(batch), rel=0.1)


@pytest.mark.parametrize("n_tiers", [2, 3])
def test_at_one_price_for_a_tier_the_cost_is_that_of_the_calls_on_the_way(n_tiers: int) -> None:
    pilot = questions(160, n_tiers=n_tiers)
    features, losses = arrays(pilot)
    prices = np.array(COSTS[n_tiers])
    found = fit_path(features, np.arange(160), losses, prices).crossfit
    assert found.paid(np.tile(prices, (160, 1))) == pytest.approx(found.cost)


def test_a_certified_policy_saves_and_keeps_the_floor_on_other_questions() -> None:
    certificate, policy = certify(questions(200), TARGET, tiers=["s", "l"], batch_size=2_000, grader=GOLD)
    assert policy is not None
    assert certificate.policy is PolicyKind.CASCADE
    assert certificate.loss_bound <= 0.1
    assert certificate.loss_bound == pytest.approx(certificate.rest_share * certificate.rest_loss_bound)
    assert certificate.rest_share == pytest.approx(0.9)
    assert 0.1 < certificate.net_saving < 0.94
    assert len(certificate.sample_ids) == 200
    others = questions(400, seed=3)
    accepted = run(policy, others)
    lost = [query.answers[-1].grade - query.answers[tier].grade for query, tier in zip(others, accepted, strict=True)]
    assert np.mean(lost) <= 0.1
    assert json.loads(json.dumps(certificate.to_json()))["policy"] == "cascade"


def test_a_certificate_measures_each_workload_apart() -> None:
    losses = np.array([0.0] * 40 + [1.0] * 10 + [0.0] * 49 + [1.0])
    low, high = quality_by_workload(["arith"] * 50 + ["ticket"] * 50, losses)
    assert (low.workload, low.queries, low.quality) == ("arith", 50, pytest.approx(0.8))
    assert low.interval == pytest.approx((0.663, 0.900), abs=0.01), "Clopper-Pearson"
    assert high.interval == pytest.approx((0.894, 0.9995), abs=0.01)
    assert quality_by_workload(["ticket"] * 100, losses) == ()
    (better, _) = quality_by_workload(["a"] * 50 + ["b"] * 50, losses - 0.5)
    assert better.interval == (pytest.approx(1.145, abs=0.01), better.quality), "none above 1 by chance"
    pilot = [replace(query, workload=query.text.split()[0]) for query in questions(200)]
    certificate, _ = certify(pilot, TARGET, tiers=["s", "l"], batch_size=2_000, grader=GOLD)
    assert {one.workload for one in certificate.workloads} == {"prove", "name"}
    mean = sum(one.queries * one.quality for one in certificate.workloads) / 200
    assert certificate.rest_share * (1 - mean) == pytest.approx(certificate.loss_estimate)


def test_grades_that_have_nothing_to_do_with_the_texts_certify_no_more_than_a_random_split() -> None:
    pilot = questions(200)
    grades = [query.answers for query in pilot]
    random.Random(1).shuffle(grades)
    features, _ = arrays(pilot)
    losses = np.array([[own[-1].grade - each.grade for each in own] for own in grades])
    path = fit_path(features, np.arange(200), losses, np.array(COSTS[2]))
    place = choose(path, losses, risk=0.05, most_loss=0.1, rest=1_800).place
    kept = 0.0 if place is None else (path.crossfit.accepted[:, place] == 0).mean()
    assert kept <= 0.1 / losses[:, 0].mean() + 0.1


def test_nothing_is_certified_where_the_small_model_is_nearly_always_wrong() -> None:
    bad = [
        PilotQuery(q.id, q.text, [GradedAnswer("x", 0.0, {}, 0.06), GradedAnswer("y", 1.0, {}, 1.0)])
        for q in questions(120)
    ]
    certificate, policy = certify(bad, TARGET, tiers=["s", "l"], batch_size=2_000, grader=GOLD)
    assert policy is None
    assert certificate.policy is PolicyKind.ALL_TOP
    assert certificate.reason
    assert certificate.net_saving < 0


def test_a_pilot_that_is_too_small_says_how_many_more_it_takes() -> None:
    certificate, policy = certify(questions(12), TARGET, tiers=["s", "l"], batch_size=2_000, grader=GOLD)
    assert policy is None
    assert certificate.more_samples == 28


def test_a_grader_that_misses_losses_certifies_less() -> None:
    pilot = questions(200)
    sure, _ = certify(pilot, TARGET, tiers=["s", "l"], batch_size=2_000, grader=GOLD)
    unsure, _ = certify(
        pilot, TARGET, tiers=["s", "l"], batch_size=2_000, grader=GraderStatement({"judge": 200}, missed=0.4)
    )
    assert unsure.cost_per_query_usd > sure.cost_per_query_usd
    unknown = GraderStatement({"judge": 200}, missed=0.1, missed_known_at=0.9)
    assert certify(pilot, TARGET, tiers=["s", "l"], batch_size=2_000, grader=unknown)[1] is None


def test_a_confidence_that_tells_right_from_wrong_saves_more() -> None:
    def saving(*, confident: bool) -> float:
        pilot = questions(200, confident=confident, seed=4)
        return certify(pilot, QualityTarget(0.93), tiers=["s", "l"], batch_size=2_000, grader=GOLD)[0].net_saving

    assert saving(confident=True) > saving(confident=False)


def test_a_pilot_without_an_answer_of_every_tier_is_an_error() -> None:
    with pytest.raises(ValueError, match="one answer by each"):
        certify(questions(50), TARGET, tiers=["s", "m", "l"], batch_size=2_000, grader=GOLD)
    with pytest.raises(ValueError, match=r"at least 0\.5"):
        QualityTarget(0.2)


def test_a_policy_decides_only_below_the_top() -> None:
    _, policy = certify(questions(160), TARGET, tiers=["s", "l"], batch_size=2_000, grader=GOLD)
    assert policy is not None
    assert policy.start([], []) == []
    assert policy.decide([], [], 0, [[]]) == []
    with pytest.raises(ValueError, match="makes no decision"):
        policy.decide(["a"], ["q"], 0, [])
    with pytest.raises(ValueError, match="makes no decision"):
        policy.decide(["a"], ["q"], 1, [[LadderAnswer("x")]])


def test_what_is_measured_in_the_pilot_is_what_the_rest_is_in_for() -> None:
    everything = questions(500, n_tiers=3, seed=2)
    features, losses = arrays(everything)
    gaps = []
    for seed in range(12):
        order = np.random.default_rng(seed).permutation(500)
        rows, rest = order[:120], order[120:]
        path = fit_path(features, rows, losses[rows], np.array(COSTS[3]), seed=seed)
        there = path.choices(features, rest, np.arange(len(rest)) % FOLDS)
        gaps.append((there.loss(losses[rest]).mean(axis=0) - path.crossfit.loss(losses[rows]).mean(axis=0)).mean())
    assert abs(np.mean(gaps)) <= 3 * np.std(gaps) / len(gaps) ** 0.5


def test_texts_of_any_kind_have_features() -> None:
    for text in ("", " ", "\ud800", "9" * 400 + "=" + "9" * 400, "1/0=0", "[" * 9_000, "a\n" * 30_000):
        assert len(text_features.query_features(text)) == text_features.QUERY_COLUMNS
        assert len(text_features.answer_features(text, text)) == text_features.ANSWER_COLUMNS
        assert len(text_features.pair_features(text, text)) == text_features.PAIR_COLUMNS
        assert np.isfinite(text_features.answer_features(text, text)).all()
        assert text_features.hashed_words([text]).shape == (1, text_features.HASH_SIZE)
    assert text_features.hashed_words([]).shape == (0, text_features.HASH_SIZE)
    assert points(3)[0] == ROOT


def test_a_pilot_grows_with_the_batch_and_is_refused_where_it_cannot_gain() -> None:
    small, large = plan_pilot(TARGET, 2_000), plan_pilot(TARGET, 20_000)
    assert 150 <= small.size <= 350 < large.size
    assert 0 < small.first < small.size
    assert plan_pilot(TARGET, 60).size == 0
    assert "at least" in plan_pilot(TARGET, 60).reason
    assert plan_pilot(TARGET, 20_000, most=100).size == 100
    assert plan_pilot(QualityTarget(0.99), 300).size == 0


def test_a_pilot_stops_early_where_nothing_can_be_gained_and_only_there() -> None:
    features, losses = arrays(questions(120))
    plan = plan_pilot(QualityTarget(0.95), 2_000)
    found = []
    for lost in (losses, np.array([[1.0, 0.0]] * 120)):
        path = fit_path(features, np.arange(120), lost, np.array([0.3, 1.0]))
        chosen = choose(path, lost, risk=0.05, most_loss=0.05, rest=1_880)
        found.append(gains(chosen, size=120, planned=plan.size, batch_size=2_000, query_cost=1.3, most_loss=0.05))
    assert found == [True, False]
    assert may_gain(questions(120), TARGET, planned=300, batch_size=2_000)


def test_a_pilot_counts_for_the_batch_and_never_for_more_than_its_largest_share() -> None:
    assert TARGET.most_rest_loss(pilot=200, batch_size=2_000) == pytest.approx(0.1 / 0.9)
    assert TARGET.most_rest_loss(pilot=2_000, batch_size=2_000) == pytest.approx(0.1 / 0.6)


def test_an_audit_that_is_looked_at_after_every_answer_seldom_raises_a_false_alarm() -> None:
    generator = np.random.default_rng(3)
    alarms = sum(breaks(generator.random(400) < 0.1, most_loss=0.1, risk=0.05) for _ in range(200))
    assert alarms <= 10 + 3 * 3.1


def test_an_audit_notices_a_broken_floor_whatever_follows() -> None:
    generator = np.random.default_rng(4)
    losses = [float(loss) for loss in generator.random(400) < 0.25]
    assert breaks(losses, most_loss=0.1, risk=0.05)
    assert breaks([*losses, *[-1.0] * 1000], most_loss=0.1, risk=0.05)
    assert not breaks([], most_loss=0.1, risk=0.05)


def test_a_policy_of_many_words_takes_little_memory() -> None:
    random_ = random.Random(3)
    texts = [" ".join(f"w{random_.randrange(60_000)}" for _ in range(300)) for _ in range(400)]
    features = ladder_features(texts, [texts])
    path = fit_path(features, np.arange(400), np.array([[n % 2, 0.0] for n in range(400)]), np.array(COSTS[2]))
    tracemalloc.start()
    policy_at(path, 3, features, tiers=("s", "l"), sources=[()])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000, "words by queries as a dense matrix would take 100 MB a block"


@pytest.mark.parametrize("share", [0.95, 0.3, 0.1, 0.01])
def test_from_the_least_batch_on_a_pilot_is_less_than_its_share(share: float) -> None:
    target = QualityTarget(0.9)
    least = least_batch(target, share)
    assert least is not None

    def is_enough(batch: int) -> bool:
        return 0 < plan_pilot(target, batch, most=min(batch, LARGEST_SAMPLE)).size < share * batch

    assert [is_enough(least + more) for more in (-1, 0, 1, 100, 100_000)] == [False, True, True, True, True]
    assert least_batch(target, 0.0) is least_batch(target, -1.0) is None
