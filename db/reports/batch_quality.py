"""The known facts about a batch's quality: floor, pilot, certificate, audits, and labels of the judged pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.rows import from_row
from routing.pilot import policy_name, policy_tier

MOST_LOW: Final = 3
"""Maximum number of workloads below the floor that one line names. The report has all."""

FEWEST_AUDITS: Final = 30
"""Minimum audits to state a quality. With fewer, the certificate's own estimate applies."""

RISK: Final = 0.05
"""The probability that an interval or bound is wrong."""


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """How often the LLM judge and people agree, by people's labels of judged pairs. Bounds are at 95 %."""

    offered: int
    """How many judged pairs, drawn at random, are offered for labeling."""
    labeled: int
    agreed: int
    """How many of the ``labeled`` pairs have the same verdict from people and the judge: worse, as good, or better."""
    interval: tuple[float, float]
    """The interval of the share of labeled pairs with the same verdict (Clopper–Pearson)."""
    missed: float | None
    """Maximum share of the losses seen by people that the judge misses. None if people saw no losses."""


@dataclass(frozen=True, slots=True)
class QualityFigures:
    """A batch's quality floor and its result. Qualities are relative to the top tier's, 0 to 1."""

    floor: float
    confidence: float
    state: str
    """``sampling``, ``deciding`` or ``decided``."""
    certificate: Mapping[str, Any] | None
    pilot_queries: int
    pilot_usd: float
    grade_usd: float
    audit_usd: float
    audits: int
    audited_quality: float | None
    """1 - mean loss of the audited answers; None below `FEWEST_AUDITS`."""
    audited_interval: tuple[float, float] | None
    breached_at: datetime | None
    judge_agreement: JudgeAgreement | None = None
    """The agreement of people and the judge. None until judged pairs are labeled."""
    departures: int = 0
    """Queries outside of the pilot for which a budget overruled the certified policy."""

    @property
    def labeled_bound(self) -> float | None:
        """The quality that is certified if the judge misses as much as people's labels say at most; None without them.

        The certificate's bound on the loss takes the share ``missed`` into account that the judge's own contradictions
        can hide; the larger of the two shares counts. None as well where queries departed from the policy.
        """
        missed = None if self.judge_agreement is None or self.departures else self.judge_agreement.missed
        if missed is None or self.certificate is None or (bound := self.certificate.get("loss_bound")) is None:
            return None
        known = self.certificate["grader"]["missed"]
        return 0.0 if missed >= 1.0 else max(0.0, 1.0 - bound * (1.0 - known) / (1.0 - max(missed, known)))

    @property
    def standing(self) -> str:
        """``broken``, ``departed``, the state while it is not decided, else the certificate's outcome."""
        if self.breached_at is not None:
            return "broken"
        if self.departures:
            return "departed"
        return self.state if self.certificate is None else str(self.certificate.get("outcome", self.state))

    @property
    def is_top_alone(self) -> bool:
        """Whether no policy was certified: the top tier's quality relative to itself is 1, and was not measured."""
        return self.standing == "top_tier"

    @property
    def measured(self) -> float | None:
        """The measured quality: by audits if there are enough, otherwise by the pilot."""
        if self.audited_quality is not None:
            return self.audited_quality
        return None if self.certificate is None else self.certificate.get("quality")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `measured`. None if queries departed from the policy, because it is that of the policy
        alone."""
        if self.standing == "departed":
            return None
        if self.audited_interval is not None:
            return self.audited_interval
        stated = None if self.certificate is None else self.certificate.get("quality_interval")
        return None if stated is None else (stated[0], stated[1])

    @property
    def policy(self) -> str | None:
        """The certified policy in words. None until the pilot is decided."""
        return policy_name(self.certificate) if self.certificate and "policy" in self.certificate else None

    @property
    def workloads(self) -> Sequence[Mapping[str, Any]]:
        """The policy's quality on the sample by workload, as in `certification.WorkloadQuality`, the lowest first."""
        found: Sequence[Mapping[str, Any]] = (self.certificate or {}).get("workloads", ())
        return found

    @property
    def low_workloads(self) -> list[Mapping[str, Any]]:
        """The workloads whose whole interval of quality is below the floor."""
        return [one for one in self.workloads if one["interval"][1] < self.floor]

    def summary(self) -> dict[str, Any]:
        """The floor, the certificate's state, and the quality as measured."""
        return {
            "floor": self.floor,
            "confidence": self.confidence,
            "standing": self.standing,
            "policy": self.policy,
            "measured": self.measured,
            "interval": self.interval,
            "pilot_queries": self.pilot_queries,
            "audits": self.audits,
            "breached_at": self.breached_at,
            "departures": self.departures,
        }


@dataclass(frozen=True, slots=True)
class RecentQuality:
    """Quality floors of the last day, over all tenants."""

    batches: Mapping[str, int]
    """How many batches, by `QualityFigures.standing`."""
    audits: int
    quality: float | None
    """1 - mean loss of the day's audits; None below `FEWEST_AUDITS`."""
    interval: tuple[float, float] | None
    """Of ``quality``, at 95 %."""


async def recent_quality(engine: AsyncEngine) -> RecentQuality:
    """The state of all floors, for the operator."""
    (row,) = await run_report(engine, "dashboard_quality")
    losses = row.audit_losses or ()
    batches = {standing: len(ids) for standing, ids in row.batches.items()}
    if departed_ids := await _departures(engine, row.batches.get("certified", ())):
        batches["certified"] -= len(departed_ids)
        batches["departed"] = len(departed_ids)
    return RecentQuality({standing: n for standing, n in batches.items() if n}, len(losses), *_audited(losses))


async def batch_quality(engine: AsyncEngine, batch_id: int, *, priced: bool = True) -> QualityFigures | None:
    """None where the batch has no quality floor. Without ``priced`` its costs are 0: all calls are read for them."""
    rows = await run_report(engine, "batch_quality", batch_id=batch_id, priced=priced)
    if not rows:
        return None
    row = rows[0]
    is_certified = (row.certificate or {}).get("outcome") == "certified"
    departures = await _departures(engine, [batch_id]) if is_certified else {}
    quality, interval = _audited(row.audit_losses or ())
    offered = len(((row.certificate or {}).get("judge") or {}).get("to_label", ()))
    labels = await run_report(engine, "judged_labels", batch_id=batch_id) if offered else ()
    return from_row(
        QualityFigures,
        row,
        audited_quality=quality,
        audited_interval=interval,
        judge_agreement=judge_agreement([(row.judged, row.labeled) for row in labels], offered=offered),
        departures=departures.get(batch_id, 0),
    )


async def _departures(engine: AsyncEngine, batch_ids: Sequence[int]) -> dict[int, int]:
    """How many queries departed from the certified policy, by batch; those without any are not in it."""
    if not batch_ids:
        return {}
    rows = await run_report(engine, "departures", batch_ids=list(batch_ids))
    return {row.batch_id: row.departures for row in rows}


def judge_agreement(pairs: Sequence[tuple[float, float]], *, offered: int) -> JudgeAgreement | None:
    """Of ``pairs``, each the loss by the judge and by people, -1 to 1. None without any."""
    if not pairs:
        return None
    agreed = sum((judged > 0) - (judged < 0) == (labeled > 0) - (labeled < 0) for judged, labeled in pairs)
    unseen = [1.0 - min(max(judged, 0.0), labeled) / labeled for judged, labeled in pairs if labeled > 0]
    missed = share_bounds(sum(unseen), len(unseen), risk=2 * RISK)[1] if unseen else None
    return JudgeAgreement(offered, len(pairs), agreed, share_bounds(agreed, len(pairs)), missed)


def quality_as_json(quality: QualityFigures | None) -> dict[str, Any]:
    """The keys of ``--json``; all None where there is no floor."""
    if quality is None:
        names = ("quality_floor", "quality_measured", "quality_interval", "certificate", "policy", "policy_tier")
        return dict.fromkeys(names) | {"pilot_queries": 0}
    certificate = quality.certificate
    return {
        "quality_floor": quality.floor,
        "quality_measured": quality.measured,
        "quality_interval": None if quality.interval is None else list(quality.interval),
        "certificate": certificate,
        "policy": None if certificate is None else certificate.get("policy"),
        "policy_tier": None if certificate is None else policy_tier(certificate),
        "pilot_queries": quality.pilot_queries,
        "pilot_cost_usd": quality.pilot_usd,
        "grade_cost_usd": quality.grade_usd,
        "audits": quality.audits,
        "audit_cost_usd": quality.audit_usd,
        "quality_breached_at": None if quality.breached_at is None else quality.breached_at.isoformat(),
        "judge_agreement": None if quality.judge_agreement is None else asdict(quality.judge_agreement),
        "quality_bound_by_labels": quality.labeled_bound,
        "quality_departures": quality.departures,
    }


def outside_certificate(certificate: Mapping[str, Any]) -> str:
    """Describe the sampled queries that the certificate does not cover, because the top tier did not answer them. "" if
    there are none."""
    unanswered, capped = certificate.get("unanswered", 0), certificate.get("capped", 0)
    if not unanswered:
        return ""
    sampled = unanswered + len(certificate.get("sample_ids", ()))
    why = f", {capped:,} of them with a max_cost_usd" if capped else ""
    top = certificate["tiers"][-1]
    return (
        f"without an answer from {top}: {unanswered:,} of {sampled:,} sampled queries{why}; the certificate does not "
        "cover such queries"
    )


def lowest_workloads(quality: QualityFigures) -> str:
    """Return the workload with the lowest measured quality, or all that are below the floor, with the fix. "" if the
    quality is not measured by workload."""
    below = quality.low_workloads
    shown = [_workload(one) for one in (below or quality.workloads[:1])[:MOST_LOW]]
    if not shown:
        return ""
    text = f"lowest by workload (workloads are not certified separately): {', '.join(shown)}"
    if not below:
        return text
    if len(below) > MOST_LOW:
        text += f" and {len(below) - MOST_LOW:,} more"
    which = "this workload" if len(below) == 1 else "each of these workloads"
    return f"{text}, below the floor. fix: run {which} as a batch of its own, with its own floor"


def _workload(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    upper = "% or more" if is_cut_off(one["quality"], (low, high)) else f"to {100 * high:.1f} %"
    return (
        f"{one['workload'] or 'without a name'} {100 * one['quality']:.1f} % on {one['queries']:,} sampled queries "
        f"(95 %: {100 * low:.1f} {upper})"
    )


def is_cut_off(quality: float | None, interval: tuple[float, float]) -> bool:
    """Whether the upper end of a quality's interval is no bound: a certificate's is cut off at 1, or at a higher
    ``quality``."""
    return quality is not None and 1.0 < interval[1] <= quality


def departed(departures: int) -> str:
    """Says that a budget kept ``departures`` queries from the certified policy."""
    queries = "1 query" if departures == 1 else f"{departures:,} queries"
    return f"certified, but {queries} departed from the policy to stay within the budget, so the floor is not promised"


def _audited(losses: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    """Quality, 1 - mean loss, with its 95 % interval, on the wide side.

    Clopper–Pearson, for losses from 0 to 1; where some are below 0 (an answer better than the reference) as for means
    from -1 to 1.
    """
    n = len(losses)
    if n < FEWEST_AUDITS:
        return None, None
    least = -1.0 if min(losses) < 0 else 0.0
    low, high = share_bounds(sum((loss - least) / (1.0 - least) for loss in losses), n)
    quality = 1.0 - sum(losses) / n
    return quality, (1.0 - least - high * (1.0 - least), 1.0 - least - low * (1.0 - least))


def share_bounds(hits: float, n: int, *, risk: float = RISK) -> tuple[float, float]:
    """Return the Clopper–Pearson interval of a share, with half of ``risk`` on each side. It is wide for grades between
    0 and 1."""
    from scipy.stats import beta  # half a second that most commands do without

    low = float(beta.ppf(risk / 2, hits, n - hits + 1)) if hits > 0 else 0.0
    return low, float(beta.ppf(1 - risk / 2, hits + 1, n - hits)) if hits < n else 1.0
