"""The timeline of a query, as people read it."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from cli import timeline_view
from db.reports.json_views import cost_usd
from report.formatting import PURPOSES
from routing.reason import Reason, ReasonCode, code_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def told_of(event: Any) -> tuple[str, list[str]]:
    """The words for a decision, and the reasons below it."""
    query: Any = SimpleNamespace(
        custom_id="q",
        public_id="batch_a",
        line=1,
        id=1,
        simulated=True,
        submitted_at=NOW,
        pin=None,
        asked_model=None,
        follows=None,
        state="queued",
        stage="medium",
        finished_at=None,
    )
    branch = timeline_view.draw(query, [event]).children[1]
    return str(branch.label), [str(reason.label) for reason in branch.children]


def routed(router: str, *reasons: str) -> tuple[str, list[str]]:
    """The words for a route by ``router``, and the reasons below it."""
    event = SimpleNamespace(
        event="decision",
        kind="route",
        at=NOW,
        router=router,
        tier="medium",
        to_stage="medium",
        score=0.4,
        confidence=0.8,
        codes=[code_of(reason, "route") for reason in reasons],
        reasons=reasons,
        cost_usd=None,
        reserved_usd=None,
    )
    return told_of(event)


@pytest.mark.parametrize(
    ("move", "told"), [("cancel", "now cancelled by user"), ("hold", "hold, now cancelled by user")]
)
def test_what_a_decision_is_called_is_not_said_twice(move: str, told: str) -> None:
    event = SimpleNamespace(
        event="decision",
        kind="cancel",
        at=NOW,
        move=move,
        router="user",
        from_stage="small",
        to_stage="small",
        to_state="cancelled",
        confidence=None,
        codes=[],
        reasons=[],
        cost_usd=None,
        reserved_usd=None,
    )
    assert told_of(event)[0].endswith(f"cancel    {told}")


@pytest.mark.parametrize(
    ("router", "told"),
    [
        ("default", "by the classifier (default)"),
        ("mine", "by the classifier (mine)"),
        ("gate", "by gate"),
        ("llm", "by llm"),
        ("budget", "by budget"),
    ],
)
def test_a_trained_router_is_reported_as_the_classifier(router: str, told: str) -> None:
    heading, _ = routed(router)
    assert f"routed    to medium {told}, difficulty 0.40, confidence 0.80" in heading


@pytest.mark.parametrize("router", ["pin", "rule", "pilot", "quality_policy"])
def test_a_difficulty_that_decided_nothing_is_not_shown(router: str) -> None:
    heading, _ = routed(router)
    assert "difficulty" not in heading


def test_an_expected_loss_says_which_way_is_good() -> None:
    loss = Reason(ReasonCode.EXPECTED_LOSS, "expected loss: small 3.012, medium 1.100")
    _, reasons = routed("default", loss, "not a clear case")
    assert reasons == ["expected loss: small 3.012, medium 1.100 (lower is better)", "not a clear case"]


@pytest.mark.parametrize(
    ("codes", "heading"),
    [
        (["pilot", "confident"], "answered  for the pilot, so the next tier is asked too, confidence 0.90"),
        (["pilot", "low_confidence"], "judged    rejected, confidence 0.90"),
        (["pilot", "confident", "language"], "judged    rejected, confidence 0.90"),
        (["language"], "judged    rejected, confidence 0.90"),
    ],
)
def test_an_answer_of_the_pilot_is_not_called_rejected_unless_it_was_doubted(codes: list[str], heading: str) -> None:
    event = SimpleNamespace(
        event="decision",
        kind="judge",
        at=NOW,
        to_stage="fallback",
        confidence=0.9,
        codes=codes,
        reasons=codes,
        cost_usd=None,
        reserved_usd=None,
    )
    assert heading in told_of(event)[0]


@pytest.mark.parametrize(
    ("codes", "heading"),
    [
        (["pilot", "confident", "fallback"], "pilot     asks large too"),
        (["pilot", "low_confidence", "fallback"], "pilot     asks large too"),
        (["low_confidence", "fallback"], "escalated to large"),
    ],
)
def test_a_sampled_query_is_not_called_escalated(codes: list[str], heading: str) -> None:
    event = SimpleNamespace(
        event="decision",
        kind="fallback",
        move="advance",
        at=NOW,
        to_stage="large",
        to_state="ready",
        confidence=None,
        codes=codes,
        reasons=codes,
        cost_usd=None,
        reserved_usd=None,
    )
    assert heading in told_of(event)[0]


def test_the_cost_of_an_audit_is_stated_apart() -> None:
    calls = [
        SimpleNamespace(event="call", kind=kind, cost_usd=usd, reserved_usd=1.0)
        for kind, usd in (("answer", 0.001), ("audit", 0.02))
    ]
    assert (cost_usd(calls), cost_usd(calls, audits=True)) == (0.001, 0.02)  # type: ignore[arg-type]


@pytest.mark.parametrize(("purpose", "name"), [("answer", "call"), ("verify", "verify"), ("repair", "repair")])
def test_a_call_says_what_it_is_for(purpose: str, name: str) -> None:
    event = SimpleNamespace(
        event="call",
        kind=purpose,
        at=NOW,
        lane=None,
        provider="sim",
        model="mini",
        tier="small",
        outcome=None,
        cost_usd=None,
        reserved_usd=0.01,
        reasons=None,
    )
    heading, reasons = told_of(event)
    assert f"{name:<9} sim/mini (small): no outcome yet" in heading
    assert reasons == ([] if purpose == "answer" else [PURPOSES[purpose]])
