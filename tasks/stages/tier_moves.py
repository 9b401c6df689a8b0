"""The moves by which a query leaves its tier, each with its reason."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from db.call_result import SentCall
from db.ledger_types import AnswerRecord, DecisionRecord
from routing.answer_checks.judge import Verdict
from routing.fleet import Provider
from routing.lifecycle import FALLBACK, MoveKind, State
from routing.policy.failover import Attempt, Suspend, failed_at
from routing.reason import Reason, ReasonCode

_LONG_S: Final = 600.0


class TierMove(NamedTuple):
    """The next stage of a query, and the reason. ``to_stage`` None: it stays at the tier."""

    move: MoveKind
    to_state: State
    why: DecisionRecord
    to_stage: str | None = None
    answer: AnswerRecord | None = None
    wait_s: float = 0.0


def finished(sent: SentCall, response: Mapping[str, Any], *, tier: str, why: DecisionRecord) -> TierMove:
    """The query is done, with the accepted answer of ``sent``."""
    answer = AnswerRecord(call_id=sent.call_id, tier=tier, model=sent.model.model, accepted=True, response=response)
    return TierMove(MoveKind.FINISH, State.DONE, why, answer=answer)


def rejected(sent: SentCall, verdict: Verdict, *, next_tier: str | None) -> TierMove:
    """The query goes to the fallback stage, with a rejected answer."""
    why = explain(verdict, next_tier=next_tier)._replace(call_id=sent.call_id)
    return TierMove(MoveKind.ADVANCE, State.READY, why, FALLBACK)


def rescheduled(wait_s: float, reason: str) -> TierMove:
    """The query goes back to `ready`, due later, so that no worker waits for a rate limit or an outage."""
    why = DecisionRecord(
        kind="release",
        router="failover",
        reasons=[f"{reason}; {_due(wait_s)}"],
        detail={"waits_for": reason} if wait_s > 0 else None,
    )
    return TierMove(MoveKind.RELEASE, State.READY, why, wait_s=wait_s)


def suspended(
    step: Suspend, provider: Provider, history: Sequence[Attempt], *, beyond_credit_usd: float | None
) -> TierMove:
    """Held until the account is well again: the fault is not the query's, and 200,000 others would meet it too.

    ``beyond_credit_usd``: what its call reserved, where the credit that is left does not pay for that. It is then held
    alone, until a call that reserves as much has succeeded.
    """
    why = DecisionRecord(
        kind="account",
        router="failover",
        reasons=[step.reason, _account_fix(provider) if beyond_credit_usd is None else _credit_fix(provider)],
        detail={
            "held_for": step.deployment,
            "provider": step.provider,
            "called": any(attempt.outcome.is_of_account for attempt in history),
            "needs_usd": beyond_credit_usd,
        },
    )
    return TierMove(MoveKind.HOLD, State.HELD, why)


def exhausted(reason: str, history: Sequence[Attempt]) -> TierMove:
    """This tier has no answer for the query, so the fallback stage decides what follows."""
    met = {failed_at(each): each.outcome.kind.value for each in history}
    ends = [] if reason in met else [Reason(ReasonCode.NO_DEPLOYMENT, reason)]
    why = DecisionRecord(
        kind="judge",
        router="failover",
        reasons=[*(Reason(code, text) for text, code in met.items()), *ends],
        detail={"usable": False, "source": "none"},
    )
    return TierMove(MoveKind.ADVANCE, State.READY, why, FALLBACK)


def explain(verdict: Verdict, *, next_tier: str | None = None) -> DecisionRecord:
    """Return the judge's decision."""
    return DecisionRecord(
        kind="judge",
        router="judge",
        reasons=verdict.reasons,
        confidence=verdict.confidence,
        detail={"usable": verdict.usable, "source": str(verdict.source)}
        | ({} if verdict.raw is None else {"raw": round(verdict.raw, 6)})
        | ({} if next_tier is None else {"next_tier": next_tier}),
    )


def _due(wait_s: float) -> str:
    """Return the due time in words. A wait of many minutes, as for a day's quota, is given as a clock time."""
    if wait_s < _LONG_S:
        return f"due in {wait_s:.1f} s"
    return f"a limit holds it until {datetime.now(UTC) + timedelta(seconds=wait_s):%Y-%m-%d %H:%M} UTC"


def _credit_fix(provider: Provider) -> str:
    return (
        f"held: the credit left at {provider.name} does not cover this query's maximum cost; fix: add "
        "credit, or submit the query again with a smaller max_tokens"
    )


def _account_fix(provider: Provider) -> str:
    key = provider.api_key_env or "the key"
    return (
        f"held, because {provider.name} refuses the account. fix: check {key} and the account's credit, and restart "
        "the workers after a change of the key. Held queries then continue automatically"
    )
