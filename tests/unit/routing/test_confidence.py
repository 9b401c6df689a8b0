"""The confidence of an answer by each source, and what it is worth by calibration."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.client import adapter_for
from providers.provider_errors import UnsupportedParameter
from routing.answer_checks.confidence import Confidence, calibrated
from routing.answer_checks.confidence_policy import CalibrationMap, ConfidencePolicy, ConfidenceSource
from routing.answer_checks.judge import judge, passes_validators
from routing.answer_checks.self_consistency import agreement, consistency, sample_body
from routing.answer_checks.self_verification import read_verdict, verification_body
from routing.answer_checks.threshold_action import PROTOCOLS_WITHOUT_LOGPROBS, extra_calls, threshold_action
from routing.answer_checks.token_logprobs import logprob_confidence
from routing.fleet import Fleet, Protocol, Provider
from routing.outcome import Completion, Usage
from routing.query import Expectation, Query, workload_of
from routing.reason import ReasonCode, code_of
from tests.fleets import small_fleet

ASKED = Query("How many legs do a spider and a cat have together?")
VERIFY, STATED = ConfidenceSource.SELF_VERIFICATION, ConfidenceSource.STATED


def token(text: str, p: float, **others: float) -> dict[str, Any]:
    return {
        "token": text,
        "logprob": math.log(p),
        "top_logprobs": [{"token": name, "logprob": math.log(q)} for name, q in others.items()],
    }


def completion(text: str, *tokens: Mapping[str, Any], mean: float | None = None) -> Completion:
    response = {"choices": [{"message": {"content": text}, "logprobs": {"content": list(tokens)}}]}
    return Completion(text, "stop", Usage(), response, 1.0, "m", mean_logprob=mean)


def test_log_probabilities_give_the_mean_the_least_and_the_decisive() -> None:
    said = completion(
        "It is 12.", token("It", 0.9), token(" is", 0.9), token(" 1", 0.5), token("2", 0.2), token(".", 0.9),
        mean=math.log(0.6),
    )  # fmt: skip
    assert logprob_confidence(said, ConfidenceSource.LOGPROB) == pytest.approx(0.6)
    assert logprob_confidence(said, ConfidenceSource.LOGPROB_MIN) == pytest.approx(0.2)
    assert logprob_confidence(said, ConfidenceSource.LOGPROB_DECISIVE) == pytest.approx(math.sqrt(0.5 * 0.2))


def test_without_a_number_the_least_likely_third_is_decisive() -> None:
    words = completion(
        "a b c d e f", *(token(f" {name}", p) for name, p in zip("abcdef", (0.9, 0.8, 0.1, 0.4, 0.9, 0.9), strict=True))
    )
    assert logprob_confidence(words, ConfidenceSource.LOGPROB_DECISIVE) == pytest.approx(math.sqrt(0.1 * 0.4))


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"content": [{"token": "x"}, 3]}}]},
    ],
)
def test_an_answer_without_log_probabilities_has_no_such_confidence(response: Mapping[str, Any]) -> None:
    bare = Completion("x", "stop", Usage(), response, 1.0, "m")
    for source in (ConfidenceSource.LOGPROB, ConfidenceSource.LOGPROB_MIN, ConfidenceSource.LOGPROB_DECISIVE):
        assert logprob_confidence(bare, source) is None


@pytest.mark.parametrize(
    ("first", "second", "least", "most"),
    [
        ("They have 12 legs.", "A spider and a cat have together 12.", 0.3, 1.0),
        ("12", "12", 1.0, 1.0),
        ("12", "14", 0.0, 0.0),
        ("1,200", "1200", 1.0, 1.0),
        ("A spider and a cat have 12.", "A spider and a cat have 14.", 0.0, 0.0),
        ("a cat", "a spider", 0.0, 0.7),
        ("", "x", 0.0, 0.0),
    ],
)
def test_answers_agree_by_what_they_add_to_the_question(first: str, second: str, least: float, most: float) -> None:
    assert least <= agreement(first, second, ASKED) <= most


def test_choices_and_json_agree_only_as_a_whole() -> None:
    chosen = ASKED._replace(expects=Expectation(choices=("very good", "good")))
    assert agreement("very good", "good", chosen) == 0.0
    assert agreement(" good ", "good", chosen) == 1.0
    shaped = ASKED._replace(expects=Expectation(json_object=True))
    assert agreement('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', shaped) == 1.0
    assert agreement('{"a": 1}', '{"a": true}', shaped) == 0.0
    assert agreement('{"a": 1}', "no JSON", shaped) == 0.0


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_agreement_is_symmetric_and_whole_with_itself(first: str, second: str, asked: str) -> None:
    query = Query(asked)
    assert 0.0 <= agreement(first, second, query) <= 1.0
    assert agreement(first, second, query) == agreement(second, first, query)
    assert agreement(first, first, query) == 1.0


def test_consistency_is_the_mean_and_none_without_samples() -> None:
    assert consistency("12", ["12", "14"], ASKED) == 0.5
    assert consistency("12", [], ASKED) is None


def test_a_sample_is_warm_only_where_the_user_set_a_temperature() -> None:
    messages = [{"role": "user", "content": "x"}]
    assert sample_body({"messages": messages}, number=1) == {"messages": messages}
    cold = {"messages": messages, "temperature": 0, "seed": 5, "logprobs": True, "top_logprobs": 2}
    assert sample_body(cold, number=2) == {"messages": messages, "temperature": 0.7, "seed": 7}
    assert sample_body({"messages": messages, "temperature": 1.2}, number=1)["temperature"] == 1.2


@pytest.fixture
def fleet() -> Fleet:
    return small_fleet()


def test_a_verifier_sees_question_and_answer_and_no_more_than_it_has_room_for(fleet: Fleet) -> None:
    verifier = replace(fleet.models["mini"], context_tokens=1000, logprobs=True)
    body = verification_body(Query("q" * 50_000, system="s" * 50_000), "a" * 50_000, verifier=verifier, source=VERIFY)
    assert len(body["messages"][0]["content"]) < 4 * 1000
    assert (body["logprobs"], body["top_logprobs"] > 0) == (True, True)
    assert "logprobs" not in verification_body(ASKED, "12", verifier=fleet.models["mini"], source=VERIFY)
    assert "percent" in verification_body(ASKED, "12", verifier=verifier, source=STATED)["messages"][0]["content"]


@pytest.mark.parametrize(
    ("reply", "source", "p"),
    [
        (completion("Yes", token("Yes", 0.6, Yes=0.6, No=0.2)), VERIFY, 0.75),
        (completion("**No**", token("**", 0.9), token("No", 0.6, no=0.3, yes=0.1, No=0.6)), VERIFY, 0.1),
        (completion("Yes", token("Yes", 0.8)), VERIFY, 0.8),
        (completion("No", token("No", 0.8)), VERIFY, 0.2),
        (completion("No, it is not correct."), VERIFY, 0.0),
        (completion("Correct."), VERIFY, 1.0),
        (completion("I cannot tell."), VERIFY, None),
        (completion("85%"), STATED, 0.85),
        (completion("The probability is 40."), STATED, 0.4),
        (completion("900"), STATED, None),
        (completion("sure"), STATED, None),
    ],
)
def test_only_a_yes_a_no_or_a_number_is_read(reply: Completion, source: ConfidenceSource, p: float | None) -> None:
    assert read_verdict(reply, source) == (None if p is None else pytest.approx(p))


POINTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8, unique_by=lambda point: point[0])


@given(POINTS, st.floats(0, 1), st.floats(0, 1))
def test_a_map_never_falls_and_stays_within_its_points(
    points: list[tuple[float, float]], low: float, high: float
) -> None:
    xs, ys = sorted(x for x, _ in points), sorted(y for _, y in points)
    curve = CalibrationMap("mini", ConfidenceSource.LOGPROB, tuple(zip(xs, ys, strict=True)))
    low, high = sorted((low, high))
    assert ys[0] - 1e-9 <= curve(low) <= curve(high) + 1e-9 <= ys[-1] + 2e-9


def test_a_confidence_is_calibrated_only_for_its_model_source_and_workload() -> None:
    curve = CalibrationMap("mini", ConfidenceSource.LOGPROB, ((0.0, 0.1), (1.0, 0.5)), workload="tickets")
    of = dict(model="mini", workload="tickets", maps=[curve])
    assert calibrated(0.5, ConfidenceSource.LOGPROB, **of) == Confidence(pytest.approx(0.3), "logprob", raw=0.5)  # type: ignore[arg-type]
    for other in (of | {"model": "midi"}, of | {"workload": ""}):
        assert calibrated(0.5, ConfidenceSource.LOGPROB, **other) == Confidence(0.5, "logprob")  # type: ignore[arg-type]
    assert calibrated(0.5, ConfidenceSource.LOGPROB_MIN, **of).raw is None  # type: ignore[arg-type]
    assert calibrated(None, ConfidenceSource.LOGPROB, **of).value is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metadata", "workload"),
    [({"workload": "tickets"}, "tickets"), ({"workload": 3}, ""), ({}, ""), (None, ""), ("x", "")],
)
def test_the_workload_is_what_the_metadata_name(metadata: object, workload: str) -> None:
    assert workload_of(metadata) == workload


def test_a_source_that_gave_nothing_leaves_the_answer_in_doubt(fleet: Fleet) -> None:
    said, unknown = completion("12"), Confidence(None, ConfidenceSource.SELF_CONSISTENCY)
    below = judge(said, ASKED, tier=fleet.tiers["small"], confidence=unknown)
    assert (below.accepted, below.usable) == (False, True)
    assert code_of(below.reasons[0]) == ReasonCode.LOW_CONFIDENCE
    assert judge(said, ASKED, tier=fleet.tiers["large"], confidence=unknown, is_top=True).accepted


def test_the_threshold_acts_on_what_the_calibration_says(fleet: Fleet) -> None:
    verdict = judge(completion("12"), ASKED, tier=fleet.tiers["small"], confidence=Confidence(0.4, "logprob", raw=0.95))
    assert (verdict.accepted, verdict.confidence, verdict.raw) == (False, 0.4, 0.95)


def test_only_an_answer_that_passes_the_validators_is_worth_a_confidence() -> None:
    assert passes_validators(completion("12"), ASKED, is_top=False)
    assert not passes_validators(completion(""), ASKED, is_top=False)


# What a threshold acts on


def with_policy(fleet: Fleet, policy: ConfidencePolicy, *, logprobs: bool = False, threshold: float = 0.7) -> Fleet:
    model = replace(fleet.models["mini"], logprobs=logprobs, confidence=policy)
    tier = replace(fleet.tiers["small"], confidence_threshold=threshold)
    return replace(fleet, models={**fleet.models, "mini": model}, tiers={**fleet.tiers, "small": tier})


@pytest.mark.parametrize(
    ("source", "logprobs", "acts"),
    [
        (ConfidenceSource.AUTO, False, False),
        (ConfidenceSource.AUTO, True, True),
        (ConfidenceSource.NONE, True, False),
        (ConfidenceSource.LOGPROB_MIN, False, False),
        (ConfidenceSource.SELF_CONSISTENCY, False, True),
        (ConfidenceSource.STATED, False, True),
    ],
)
def test_a_threshold_that_cannot_act_is_found(
    fleet: Fleet, source: ConfidenceSource, logprobs: bool, acts: bool
) -> None:
    fleet = with_policy(fleet, ConfidencePolicy(source), logprobs=logprobs)
    action = threshold_action(fleet.models["mini"], fleet)
    assert (action.wrong is None) is acts
    assert bool(action.fix) is not acts


def test_a_threshold_that_no_calibrated_answer_crosses_is_found(fleet: Fleet) -> None:
    def wrong(*points: tuple[float, float], threshold: float = 0.7) -> str | None:
        policy = ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY)
        curve = CalibrationMap("mini", policy.source, points)
        changed = replace(with_policy(fleet, policy, threshold=threshold), calibrations=(curve,))
        return threshold_action(changed.models["mini"], changed).wrong

    assert wrong((0.0, 0.1), (1.0, 0.9)) is None
    assert "rejects every answer" in str(wrong((0.0, 0.1), (1.0, 0.6)))
    assert "never acts" in str(wrong((0.0, 0.8), (1.0, 0.9)))
    assert "never acts" in str(wrong((0.0, 0.1), (1.0, 0.9), threshold=0.0))


def test_calls_for_a_confidence_are_counted(fleet: Fleet) -> None:
    def calls(policy: ConfidencePolicy, *, logprobs: bool = False) -> int:
        changed = with_policy(fleet, policy, logprobs=logprobs)
        return extra_calls(changed.models["mini"], changed)

    assert calls(ConfidencePolicy()) == 0
    assert calls(ConfidencePolicy(ConfidenceSource.SELF_CONSISTENCY, samples=4)) == 4
    assert calls(ConfidencePolicy(VERIFY, samples=3)) == 3
    assert calls(ConfidencePolicy(VERIFY, samples=3), logprobs=True) == 1


@pytest.mark.parametrize("kind", Protocol)
def test_the_protocols_without_log_probabilities_are_those_whose_adapters_refuse_them(
    kind: Protocol, fleet: Fleet
) -> None:
    adapter = adapter_for(Provider("p", kind, "http://127.0.0.1:1"))
    body = {"messages": [{"role": "user", "content": "Hello"}], "logprobs": True}
    refusal = pytest.raises(UnsupportedParameter) if kind in PROTOCOLS_WITHOUT_LOGPROBS else nullcontext()
    with refusal:
        adapter.prepare(body, fleet.models["mini"])
