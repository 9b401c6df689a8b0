"""How long provider batches take: the prior, the log, and what was not seen to its end."""

import numpy as np
import pytest

from routing.lanes.completion_times import CompletionTimes
from routing.lanes.lane import BatchAge

HOUR_S = 3600.0


def test_without_a_log_the_times_are_the_priors() -> None:
    survival = CompletionTimes().survival(np.array([0.0, 420.0, HOUR_S, 24 * HOUR_S]))
    assert survival == pytest.approx([1.0, 0.5, 0.1, 0.0007], abs=0.005)


def test_many_observations_outweigh_the_prior_whatever_their_form() -> None:
    # Two modes: no lognormal distribution is like that.
    ages = [BatchAge(300.0)] * 300 + [BatchAge(5 * HOUR_S)] * 300
    survival = CompletionTimes(ages).survival(np.array([200.0, 400.0, 4 * HOUR_S, 6 * HOUR_S]))
    assert survival == pytest.approx([1.0, 0.5, 0.5, 0.0], abs=0.02)


def test_batches_that_were_given_up_count_as_slow_and_not_as_ended() -> None:
    fast = [BatchAge(300.0)] * 50
    given_up = [BatchAge(HOUR_S, ended=False)] * 50
    assert CompletionTimes(fast + given_up).survival(HOUR_S) == pytest.approx(0.5, abs=0.03)
    dropped = CompletionTimes(fast).survival(HOUR_S)
    assert dropped < 0.02


def test_censored_times_agree_with_the_product_limit_of_kaplan_and_meier() -> None:
    rng = np.random.default_rng(7)
    times = rng.lognormal(np.log(1800), 1.0, 4000)
    censored_at = rng.uniform(600, 4 * HOUR_S, 4000)
    ages = [
        BatchAge(min(time, limit), ended=bool(time <= limit)) for time, limit in zip(times, censored_at, strict=True)
    ]
    at = np.array([600.0, 1800.0, 2 * HOUR_S])
    assert CompletionTimes(ages).survival(at) == pytest.approx([(times > age).mean() for age in at], abs=0.02)


def test_no_probability_is_negative_or_rises_with_the_age() -> None:
    ages = [BatchAge(float(age), ended=age % 3 > 0) for age in range(1, 20_000, 7)]
    survival = CompletionTimes(ages).survival(np.linspace(0, 100 * HOUR_S, 5000))
    assert np.all(np.diff(survival) <= 0)
    assert survival[-1] >= 0
