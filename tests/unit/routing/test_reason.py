"""Reasons: a text for people that carries a code for programs."""

import copy
import pickle

import orjson

from db.ledger_encoding import encode_transitions
from db.ledger_types import DecisionRecord, Transition
from routing.lifecycle import FALLBACK, MoveKind, State
from routing.reason import Reason, ReasonCode, code_of

LOW = Reason(ReasonCode.LOW_CONFIDENCE, "confidence 0.40 < 0.70")


def test_a_reason_reads_as_its_text_and_keeps_its_code() -> None:
    assert (LOW, LOW.code, code_of(LOW)) == ("confidence 0.40 < 0.70", "low_confidence", "low_confidence")
    assert orjson.loads(orjson.dumps([LOW])) == ["confidence 0.40 < 0.70"]
    assert [copy.deepcopy(LOW).code, pickle.loads(pickle.dumps(LOW)).code] == [LOW.code, LOW.code]


def test_a_plain_text_has_the_default_code() -> None:
    assert (code_of("there is no higher tier"), code_of("there is no higher tier", "fallback")) == ("", "fallback")


def test_the_ledger_stores_a_code_for_each_text() -> None:
    why = DecisionRecord(kind="judge", router="judge", reasons=[LOW, "there is no higher tier"])
    move = Transition(1, 1, "small", MoveKind.ADVANCE, FALLBACK, State.READY, why)
    (row,) = encode_transitions([move])
    assert (row["codes"], row["reasons"]) == (
        ["low_confidence", "judge"],
        ["confidence 0.40 < 0.70", "there is no higher tier"],
    )
