"""Rows of the log, counted by the database: the cells that a tally adds up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RouteCell:
    """Routed queries of one stage, tier, version and tenth of confidence; see ``db/reports/log_routes.sql``."""

    stage: str
    tier: str
    version: str | None
    tenth: int | None
    answer_tier: str | None
    queries: int
    answered: int
    escalated: int
    stood: int
    doubtful: int
    open: int
    cost_usd: float
    weight: float
    stood_weight: float


@dataclass(frozen=True, slots=True)
class JudgeCell:
    """Verdicts of one source and tenth of confidence; see ``db/reports/log_judged.sql``."""

    source: str
    tenth: int | None
    judged: int
    confidence: float
    rejected: int
    followed: int
    next_stood: int
