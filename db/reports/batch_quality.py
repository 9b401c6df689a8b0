"""What is known of a batch's quality: floor, pilot, certificate, audits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report

FEWEST_AUDITS: Final = 30
"""From fewer audits no quality is stated: the certificate's own estimate stands."""


@dataclass(frozen=True, slots=True)
class QualityFigures:
    """A batch's quality floor and what became of it. Qualities are relative to the top tier's, 0 to 1."""

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
    decided_at: datetime | None
    breached_at: datetime | None

    @property
    def standing(self) -> str:
        """``broken``, the state while it is not decided, else the certificate's outcome."""
        if self.breached_at is not None:
            return "broken"
        return self.state if self.certificate is None else str(self.certificate.get("outcome", self.state))

    @property
    def measured(self) -> float | None:
        """Quality as measured: by audits where there are enough, else by the pilot."""
        if self.audited_quality is not None:
            return self.audited_quality
        return None if self.certificate is None else self.certificate.get("quality")

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of `measured`, at 95 %."""
        if self.audited_interval is not None:
            return self.audited_interval
        stated = None if self.certificate is None else self.certificate.get("quality_interval")
        return None if stated is None else (stated[0], stated[1])


@dataclass(frozen=True, slots=True)
class RecentQuality:
    """Quality floors of the last day, over all tenants."""

    batches: Mapping[str, int]
    """By `QualityFigures.standing`."""
    audits: int
    quality: float | None
    """1 - mean loss of the day's audits; None below `FEWEST_AUDITS`."""
    interval: tuple[float, float] | None
    """Of ``quality``, at 95 %."""


async def recent_quality(engine: AsyncEngine) -> RecentQuality:
    """The state of all floors, for the operator."""
    (row,) = await run_report(engine, "dashboard_quality")
    losses = row.audit_losses or ()
    return RecentQuality(row.batches, len(losses), *_audited(losses))


async def batch_quality(engine: AsyncEngine, batch_id: int) -> QualityFigures | None:
    """None where the batch has no quality floor."""
    rows = await run_report(engine, "batch_quality", batch_id=batch_id)
    if not rows:
        return None
    row = rows[0]
    quality, interval = _audited(row.audit_losses or ())
    return QualityFigures(
        floor=row.floor,
        confidence=row.confidence,
        state=row.state,
        certificate=row.certificate,
        pilot_queries=row.pilot_queries,
        pilot_usd=float(row.pilot_usd),
        grade_usd=float(row.grade_usd),
        audit_usd=float(row.audit_usd),
        audits=row.audits,
        audited_quality=quality,
        audited_interval=interval,
        decided_at=row.decided_at,
        breached_at=row.breached_at,
    )


def quality_as_json(quality: QualityFigures | None) -> dict[str, Any]:
    """The keys of ``--json``; all None where there is no floor."""
    if quality is None:
        names = ("quality_floor", "quality_measured", "quality_interval", "certificate", "policy")
        return dict.fromkeys(names) | {"pilot_queries": 0}
    certificate = quality.certificate
    return {
        "quality_floor": quality.floor,
        "quality_measured": quality.measured,
        "quality_interval": None if quality.interval is None else list(quality.interval),
        "certificate": certificate,
        "policy": None if certificate is None else certificate.get("policy"),
        "pilot_queries": quality.pilot_queries,
        "pilot_cost_usd": quality.pilot_usd,
        "grade_cost_usd": quality.grade_usd,
        "audits": quality.audits,
        "audit_cost_usd": quality.audit_usd,
        "quality_breached_at": None if quality.breached_at is None else quality.breached_at.isoformat(),
    }


def outside_certificate(certificate: Mapping[str, Any]) -> str:
    """What the certificate says nothing of: the kind of sampled query that has no top tier's answer; "" without any."""
    unanswered, capped = certificate.get("unanswered", 0), certificate.get("capped", 0)
    if not unanswered:
        return ""
    sampled = unanswered + len(certificate.get("sample_ids", ()))
    why = f", {capped:,} of them with a max_cost_usd" if capped else ""
    top = certificate["tiers"][-1]
    return f"{unanswered:,} of {sampled:,} sampled queries have no answer of {top}{why}: such queries are outside of it"


def _audited(losses: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    """Quality, 1 - mean loss, with its 95 % interval, on the wide side.

    Clopper–Pearson, for losses from 0 to 1; where some are below 0 (an answer better than the reference) as for means
    from -1 to 1.
    """
    n = len(losses)
    if n < FEWEST_AUDITS:
        return None, None
    from scipy.stats import beta  # half a second that most commands do without

    least = -1.0 if min(losses) < 0 else 0.0
    lost = sum((loss - least) / (1.0 - least) for loss in losses)
    low = float(beta.ppf(0.025, lost, n - lost + 1)) if lost > 0 else 0.0
    high = float(beta.ppf(0.975, lost + 1, n - lost)) if lost < n else 1.0
    quality = 1.0 - sum(losses) / n
    return quality, (1.0 - least - high * (1.0 - least), 1.0 - least - low * (1.0 - least))
