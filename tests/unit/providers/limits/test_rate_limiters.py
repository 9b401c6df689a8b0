"""What responses say of limits, and what follows for the calls beside them."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.limits.limit_signs import duration_s, read_notice, read_quota
from providers.limits.quota_pace import QuotaPace
from routing.outcome import Allowance, Quota

NOON = 1_795_953_600.0  # 2026-11-29 12:00 UTC


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("120ms", 0.12),
        ("1h2m3s", 3723.0),
        ("1d", 86400.0),
        ("20", 20.0),
        ("0s", 0.0),
        ("", None),
        ("soon", None),
        ("2m and 3s", None),
        ("-3", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_a_duration_is_read_in_every_form_that_providers_write(said: str, seconds: float | None) -> None:
    assert duration_s(said) == (None if seconds is None else pytest.approx(seconds))


def test_headers_of_openai_and_groq_say_what_is_left() -> None:
    headers = {
        "x-ratelimit-limit-requests": "14400", "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s", "x-ratelimit-limit-tokens": "18000",
        "x-ratelimit-remaining-tokens": "17997", "x-ratelimit-reset-tokens": "7.66s",
    }  # fmt: skip
    quota = read_quota(headers, now=NOON)
    assert quota == Quota(Allowance(14400, 14370, pytest.approx(179.56)), Allowance(18000, 17997, pytest.approx(7.66)))


def test_headers_of_anthropic_say_it_with_a_moment() -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-29T12:00:30Z",
    }  # fmt: skip
    quota = read_quota(headers, now=NOON)
    assert quota == Quota(Allowance(50, 0, pytest.approx(30.0)), None)
    assert quota is not None
    assert quota.is_used_up


@given(st.dictionaries(st.sampled_from([
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset", "x-ratelimit-remaining-tokens",
]), st.text(max_size=12) | st.sampled_from(["nan", "inf", "-1", "1e400", "0"])))  # fmt: skip
def test_no_header_ever_breaks_a_call(headers: dict[str, str]) -> None:
    quota = read_quota(headers, now=NOON)
    pace = QuotaPace(clock=lambda: 100.0)
    pace.note_answer(quota, sent_at=99.0, in_flight=3)
    assert 0 <= pace.wait_s(10, workers=2) <= 60


def test_a_body_of_groq_says_for_how_long_and_that_it_is_a_days_quota() -> None:
    error = {
        "message": "Rate limit reached for model `llama` in organization `org` on tokens per day (TPD): Limit 500000,"
        " Used 499803, Requested 1000. Please try again in 2m18.82s.",
        "type": "tokens",
        "code": "rate_limit_exceeded",
    }
    notice = read_notice({"error": error}, now=NOON)
    assert notice.is_daily
    assert notice.wait_s == pytest.approx(138.82)
    assert not notice.account_wide


def google(quota_id: str, delay: str = "36s") -> dict[str, Any]:
    return {
        "error": {
            "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota.",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
            ],
        }
    }  # fmt: skip


def test_a_days_quota_of_google_lasts_until_its_midnight() -> None:
    notice = read_notice(google("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), now=NOON)
    assert notice.is_daily
    assert notice.wait_s == 20 * 3600.0
    assert not notice.account_wide


def test_a_quota_that_names_no_model_is_the_accounts() -> None:
    assert read_notice(google("GenerateRequestsPerMinutePerProject"), now=NOON).account_wide
    assert not read_notice(google("GenerateRequestsPerMinutePerProjectPerModel"), now=NOON).account_wide


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        {"error": "Model meta-llama/Llama-3-8B is currently loading", "estimated_time": 20.0},
    ],
)
def test_a_model_that_loads_will_be_there(answer: dict[str, Any]) -> None:
    assert read_notice(answer, now=NOON).is_loading


@given(
    st.recursive(
        st.none() | st.text(max_size=30) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "details", "violations", "quotaId", "code"]), inner, max_size=3
            )
        ),
        max_leaves=10,
    )
)
def test_no_body_ever_breaks_the_reading(error: Any) -> None:
    for answer in (error, {"error": error}, [{"error": error}]):
        read_notice(answer, now=NOON)


class Provider:
    """Answers calls on a clock of its own; each takes 0.1 s."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 1000.0
        self.draw = random.Random(seed)
        self.pace = QuotaPace(clock=lambda: self.now)

    def round(self, slots: int, limited: Any, *, rest_s: float = 2.0) -> int:
        """``slots`` calls at once; how many rests they led to."""
        sent = [self.now + place / 1e4 for place in range(slots)]
        self.now += 0.1
        rests = 0
        for sent_at in sent:
            if not limited(sent_at):
                self.pace.note_answer(None, sent_at=sent_at, in_flight=slots)
                continue
            self.pace.note_limit(None, sent_at=sent_at, in_flight=slots)
            if not self.pace.is_sporadic:
                self.pace.note_rest()
                rests = 1
        self.now += rest_s * rests
        return rests


def test_the_first_call_of_all_that_meets_a_limit_is_believed() -> None:
    provider = Provider()
    assert provider.round(1, lambda _: True) == 1


def test_chance_refusals_rest_nothing() -> None:
    provider = Provider()
    provider.round(16, lambda _: False)
    assert sum(provider.round(16, lambda _: provider.draw.random() < 0.05) for _ in range(200)) <= 2


@pytest.mark.parametrize("slots", [1, 2, 16])
def test_where_half_is_refused_by_chance_it_is_soon_known_that_a_rest_does_not_help(slots: int) -> None:
    provider = Provider()
    assert sum(provider.round(slots, lambda _: provider.draw.random() < 0.5) for _ in range(400)) <= 40


@pytest.mark.parametrize("slots", [2, 4, 16])
def test_a_limit_that_is_met_is_a_limit_whatever_was_before(slots: int) -> None:
    """A token bucket of 30 calls, one more every 2 s: after it is empty, each round ends in a rest."""
    provider = Provider()
    level, at = 30.0, provider.now

    def limited(sent_at: float) -> bool:
        nonlocal level, at
        level, at = min(30.0, level + (sent_at - at) / 2), sent_at
        if level < 1:
            return True
        level -= 1
        return False

    rests = [provider.round(slots, limited) for _ in range(60)]
    assert sum(rests[-20:]) >= 18


def test_headers_set_the_pace_before_a_limit_is_met() -> None:
    clock = [1000.0]
    pace = QuotaPace(clock=lambda: clock[0])
    # 2 of 30 left, whole again after 56 s: one every 2 s.
    pace.note_answer(Quota(requests=Allowance(30, 2, 56)), sent_at=999.0, in_flight=0)
    assert [pace.wait_s(100, workers=1) for _ in range(2)] == [0.0, 0.0]
    assert pace.wait_s(100, workers=1) == pytest.approx(2.0)
    assert pace.wait_s(100, workers=1) == pytest.approx(4.0)  # one after the other
    clock[0] += 2.0
    assert pace.wait_s(100, workers=1) == 0.0


def test_what_is_left_is_left_for_all_workers() -> None:
    pace = QuotaPace(clock=lambda: 1000.0)
    pace.note_answer(Quota(requests=Allowance(30, 4, 56)), sent_at=999.0, in_flight=0)
    assert [pace.wait_s(1, workers=2) > 0 for _ in range(3)] == [False, False, True]


def test_a_token_limit_lets_a_call_through_that_is_larger_than_all_of_it() -> None:
    clock = [1000.0]
    pace = QuotaPace(clock=lambda: clock[0])
    pace.note_answer(Quota(tokens=Allowance(8_000, 4_000, 30)), sent_at=999.0, in_flight=0)
    wait_s = pace.wait_s(20_000, workers=1)
    assert wait_s == pytest.approx(30.0)
    clock[0] += wait_s
    assert pace.wait_s(20_000, workers=1) == 0.0
