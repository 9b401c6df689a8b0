"""A repair shows the model its answer and the findings, and is made where it pays."""

import pytest

from routing.answer_checks.repair import SIGN, RepairRecord, repair_body, repair_pays
from routing.query import Expectation
from routing.reason import Reason, ReasonCode
from simulator import repair_request

BODY = {
    "model": "auto",
    "temperature": 0,
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
}


def test_the_model_sees_its_answer_and_the_findings_alone() -> None:
    reasons = [
        Reason(ReasonCode.SHAPE, "$.a: missing"),
        Reason(ReasonCode.NO_CONFIDENCE, "the fleet asks for no confidence"),
    ]
    body = repair_body(BODY, "an answer", reasons=reasons, expects=Expectation(json_object=True))
    assert body["messages"][:2] == BODY["messages"]
    shown, asked = body["messages"][2:]
    assert shown == {"role": "assistant", "content": "an answer"}
    assert asked["role"] == "user"
    assert asked["content"].startswith(f"{SIGN}$.a: missing. ")
    assert "confidence" not in asked["content"]
    assert {**body, "messages": BODY["messages"]} == BODY


def test_choices_are_named_unless_they_are_very_long() -> None:
    reasons = [Reason(ReasonCode.CHOICES, "none of the 2 choices")]
    few = repair_body(BODY, "a", reasons=reasons, expects=Expectation(choices=("spam", "ham")))
    assert few["messages"][-1]["content"].endswith('["spam", "ham"]')
    many = repair_body(BODY, "a", reasons=reasons, expects=Expectation(choices=("x" * 3000, "y" * 3000)))
    assert "xxx" not in many["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("record", "repair_usd", "climb_usd", "pays"),
    [
        (RepairRecord(), 0.5, 1.0, True),  # one half is assumed
        (RepairRecord(), 0.51, 1.0, False),
        (RepairRecord(made=98, stood=89), 0.9, 1.0, True),
        (RepairRecord(made=98, stood=0), 0.02, 1.0, False),
        (RepairRecord(made=98, stood=0), 0.0, 0.0, True),
    ],
)
def test_a_repair_pays_where_it_is_expected_to_save_more_than_it_costs(
    record: RepairRecord, repair_usd: float, climb_usd: float, pays: bool
) -> None:
    assert repair_pays(record, repair_usd=repair_usd, climb_usd=climb_usd) is pays


def test_the_simulator_recognizes_a_repair() -> None:
    reasons = [Reason(ReasonCode.CHOICES, "none of the 2 choices")]
    body = repair_body(BODY, "a", reasons=reasons, expects=Expectation(choices=("spam", "ham")))
    texts = "\n".join(message["content"] for message in body["messages"] if message["role"] == "user")
    assert repair_request.question_of(texts) == "q"
    assert repair_request.question_of("q") is None
