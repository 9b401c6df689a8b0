"""One tenant's view of the data, as the JSON object that the dashboard displays."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row

from api.dashboard.collector import COUNTED, DashboardCollector
from api.dashboard.counters import DashboardCounters
from api.dashboard.rolling_window import KEPT, STEP
from evaluation.production.data_drift import stability_index
from providers.health.status_report import DeploymentState
from routing.fleet import Fleet, Model
from routing.lanes.lane import Lane
from routing.lifecycle import FALLBACK, INGEST, ROUTE

DRIFT: Final = timedelta(minutes=10)
"""The tier mix of this span is compared with that of the rest of the hour."""
_MINUTE: Final = timedelta(minutes=1)
_UNANSWERED: Final = ("failed", "dead", "expired")


def snapshot(figures: DashboardCollector, tenant: str) -> dict[str, Any]:
    """Return the whole object. Times are in ISO 8601 or seconds, money in US dollars, shares from 0 to 1 or None."""
    fleet, seen = figures.fleet, figures.seen
    stages = _stages(figures, tenant)
    still_open = sum(stage[state] for stage in stages for state in COUNTED)
    rate = figures.rate(tenant)
    calls, reserved_usd = seen.reserved.get(tenant, (0, 0.0))
    batches = _batches(figures, tenant)
    in_pilot = any(batch["open"] and batch["in_pilot"] for batch in batches)
    return {
        "at": seen.at,
        "tenant": tenant,
        "fleet": {"name": fleet.name, "simulated": fleet.simulated, "tiers": list(fleet.tiers), "top": fleet.top},
        "stages": stages,
        "open": still_open,
        "queries_per_s": rate,
        "eta_s": still_open / rate if still_open and rate and not in_pilot else None,
        "rates": [[round(at, 1), round(value, 2)] for at, value in figures.rates.get(tenant, ())],
        "reserved": {"calls": calls, "usd": reserved_usd},
        "workers": _workers(figures),
        "batches": batches,
        "chats": _chats(figures, tenant),
        "waves": _waves(figures, tenant),
        "recent": _recent(figures, tenant),
        "providers": _providers(figures, tenant),
        "router": {**seen.router, "labels": _labels(figures, tenant)},
    }


def _stages(figures: DashboardCollector, tenant: str) -> list[dict[str, Any]]:
    fleet = figures.fleet
    stages = []
    open_stages = {row.stage for row in figures.seen.open if row.tenant == tenant}
    known = [ROUTE, *fleet.tiers, FALLBACK]
    for stage in [*known, *sorted(open_stages - set(known))]:
        rows = [row for row in figures.seen.open if row.tenant == tenant and row.stage == stage]
        waits = [row.oldest_wait_s for row in rows if row.oldest_wait_s is not None]
        stages.append(
            {
                "stage": stage,
                "kind": "tier" if stage in fleet.tiers else "stage",
                **{state: sum(getattr(row, state) for row in rows) for state in COUNTED},
                "oldest_wait_s": max(waits) if waits else None,
                "workers": _alive(figures, stage),
                "slots": fleet.tiers[stage].concurrency * _alive(figures, stage) if stage in fleet.tiers else None,
            }
        )
    return stages


def _alive(figures: DashboardCollector, role: str) -> int:
    return sum(role in str(row.role).split() for row in figures.seen.workers)


def _workers(figures: DashboardCollector) -> list[dict[str, Any]]:
    roles = [ROUTE, *figures.fleet.tiers, FALLBACK, INGEST, "feeder"]
    return [{"role": role, "alive": _alive(figures, role)} for role in roles]


def _batches(figures: DashboardCollector, tenant: str) -> list[dict[str, Any]]:
    still_open: dict[int, dict[str, int]] = {}
    for row in figures.seen.open:
        counts = still_open.setdefault(row.batch_id, dict.fromkeys(COUNTED, 0))
        for state in COUNTED:
            counts[state] += getattr(row, state)
    batches = []
    for batch in figures.seen.batches:
        if batch.tenant != tenant:
            continue
        now = still_open.get(batch.id, dict.fromkeys(COUNTED, 0)) if batch.ended_at is None else {}
        left = sum(now.values())
        unanswered = figures.seen.unanswered.get(batch.id, {})
        failed = sum(unanswered.get(state, 0) for state in _UNANSWERED)
        cancelled = unanswered.get("cancelled", 0)
        rate = figures.batch_rate(batch.id) if left else None
        quality = figures.seen.qualities.get(batch.id)
        in_pilot = quality is not None and quality.state != "decided"
        batches.append(
            {
                "id": batch.public_id,
                "source": batch.source,
                "simulated": batch.simulated,
                "total": batch.total,
                "open": left,
                "held": now.get("held", 0),
                # A query may fail between two of these reads.
                "done": max(batch.total - left - failed - cancelled, 0),
                "failed": failed,
                "cancelled": cancelled,
                "queries_per_s": rate,
                # The pilot decides which tiers answer the rest, and so how fast.
                "eta_s": left / rate if rate and not in_pilot else None,
                "in_pilot": in_pilot,
                "wall_s": batch.wall_s,
                "created_at": batch.created_at,
                "cancelled_at": batch.cancelled_at,
                "paused_at": batch.paused_at,
                "ended_at": batch.ended_at,
                "quality": None if quality is None else quality.summary(),
            }
        )
    return batches


def _waves(figures: DashboardCollector, tenant: str) -> list[dict[str, Any]]:
    """Return what batches with a deadline bought below the list price: a row per provider batch, and one for direct
    calls."""
    waves: list[dict[str, Any]] = []
    for batch in figures.seen.batches:
        if batch.tenant != tenant or (found := figures.seen.waves.get(batch.id)) is None:
            continue
        about = {"batch": batch.public_id, "source": batch.source}
        bought = {row.provider_batch_id: row for row in found.lanes}
        for wave in found.waves:
            said = {name: value for name, value in wave._mapping.items() if name != "id"}
            waves.append(about | {"lane": Lane.BATCH} | said | _saved(bought.get(wave.id)))
        waves += [
            about | {"lane": row.lane, "queries": row.calls} | _saved(row)
            for row in found.lanes
            if row.provider_batch_id is None
        ]
    return waves


def _saved(calls: Row[Any] | None) -> dict[str, float | None]:
    """Return the cost of calls, and their saving against the list price."""
    if calls is None:
        return {"cost_usd": None, "saved_usd": None}
    return {"cost_usd": float(calls.cost_usd), "saved_usd": float(calls.list_usd - calls.cost_usd)}


def _chats(figures: DashboardCollector, tenant: str) -> dict[str, Any] | None:
    row = figures.seen.chats.get(tenant)
    return None if row is None else {name: getattr(row, name) for name in ("asked", "open", "cancelled", "mean_s")}


def _recent(figures: DashboardCollector, tenant: str) -> dict[str, Any]:
    window = figures.window
    if window.now is None:
        return {}
    now, fleet = window.now, figures.fleet
    hour = window.between(now - KEPT, now + STEP, tenant=tenant)
    lately = window.between(now - DRIFT, now + STEP, tenant=tenant)
    before = window.between(now - KEPT, now - DRIFT, tenant=tenant)
    judged = sum(hour.judged.values())
    rejected = sum(hour.rejected.values())
    return {
        "now": now,
        "since": window.since,
        "whole": window.is_whole,
        "mix": {
            "10s": _series(figures, tenant, step=STEP, steps=60),
            "60s": _series(figures, tenant, step=_MINUTE, steps=60),
        },
        "ended": dict(hour.ended),
        "answered": _in_order(hour.answered, fleet),
        "routed": {"by_tier": _in_order(hour.routed_by_tier(), fleet), "by_router": _by_router(hour)},
        "judged": judged,
        "rejected": rejected,
        "escalated": sum(hour.escalated.values()),
        "escalation_rate": sum(hour.escalated.values()) / judged if judged else None,
        "escalated_to": _in_order(hour.escalated, fleet),
        "reasons": _reasons(hour, fleet),
        "doubted": _doubted(hour, fleet),
        "confidence": _confidence(hour, fleet),
        "drift": {
            "psi": stability_index(lately.routed_by_tier(), before.routed_by_tier()),
            "minutes": DRIFT // _MINUTE,
            "recent": _in_order(lately.routed_by_tier(), fleet),
            "before": _in_order(before.routed_by_tier(), fleet),
        },
        "cost": _cost(hour, fleet),
    }


def _series(figures: DashboardCollector, tenant: str, *, step: timedelta, steps: int) -> dict[str, Any]:
    start, found = figures.window.series(lambda counters: counters.answered, tenant=tenant, step=step, steps=steps)
    return {
        "from": start,
        "step_s": int(step.total_seconds()),
        "steps": steps,
        "tiers": _in_order(found, figures.fleet),
    }


def _in_order(by_tier: Mapping[str, Any], fleet: Fleet) -> dict[str, Any]:
    """Return the tiers from the cheapest up. Tiers that the fleet no longer has come last."""
    order = list(fleet.tiers)
    return dict(
        sorted(by_tier.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0]))
    )


def _by_router(counters: DashboardCounters) -> dict[str, int]:
    by_router: Counter[str] = Counter()
    for (_, router), n in counters.routed.items():
        by_router[router] += n
    return dict(by_router.most_common())


def _reasons(counters: DashboardCounters, fleet: Fleet) -> list[dict[str, Any]]:
    by_reason: dict[str, dict[str, int]] = {}
    for (tier, reason), n in counters.rejected.items():
        by_tier = by_reason.setdefault(reason, {})
        by_tier[tier] = by_tier.get(tier, 0) + n
    most_first = sorted(by_reason.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return [{"reason": reason, "n": sum(by.values()), "tiers": _in_order(by, fleet)} for reason, by in most_first[:8]]


def _doubted(counters: DashboardCounters, fleet: Fleet) -> dict[str, Any]:
    rows: dict[str, dict[str, int]] = {}
    for (tier, accepted, _), n in counters.judged.items():
        row = rows.setdefault(tier, {"judged": 0, "rejected": 0})
        row["judged"] += n
        row["rejected"] += 0 if accepted else n
    return _in_order(rows, fleet)


def _confidence(counters: DashboardCounters, fleet: Fleet) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    for (tier, accepted, tenth), n in counters.judged.items():
        row = rows.setdefault(tier, {"accepted": [0] * 10, "rejected": [0] * 10, "unknown": 0, "threshold": None})
        if tenth is None:
            row["unknown"] += n
        else:
            row["accepted" if accepted else "rejected"][tenth] += n
    for tier, row in rows.items():
        row["threshold"] = fleet.tiers[tier].confidence_threshold if tier in fleet.tiers else None
    return _in_order(rows, fleet)


def _cost(counters: DashboardCounters, fleet: Fleet) -> dict[str, Any]:
    spent: float = sum(counters.cost_usd.values())
    by_tier: dict[str, float] = {}
    for key, cost in counters.cost_usd.items():
        by_tier[key.tier] = by_tier.get(key.tier, 0.0) + cost
    embedding = sum(cost for key, cost in counters.cost_usd.items() if key.purpose == "embed")
    saving = counters.baseline_usd - (spent - embedding)
    return {
        "usd": round(spent, 9),
        "router_usd": round(sum(cost for key, cost in counters.cost_usd.items() if key.purpose == "route"), 9),
        "by_tier": _in_order(by_tier, fleet),
        "baseline_usd": round(counters.baseline_usd, 9),
        "baseline_model": fleet.deployments(fleet.top)[0].model,
        "saving_usd": round(saving, 9),
        "saving_share": saving / counters.baseline_usd if counters.baseline_usd else None,
    }


def _labels(figures: DashboardCollector, tenant: str) -> dict[str, Any] | None:
    """Return labels and mean grades, from 0 (wrong) to 1 (right). None without labels."""
    rows = {row.tier: row for row in figures.seen.labels.get(tenant, ())}
    if not rows:
        return None
    total = sum(row.total for row in rows.values())
    return {
        "total": total,
        "grade": sum(row.total * row.grade for row in rows.values()) / total,
        "tiers": {
            tier: {"total": row.total, "grade": row.grade} for tier, row in _in_order(rows, figures.fleet).items()
        },
    }


def _providers(figures: DashboardCollector, tenant: str) -> list[dict[str, Any]]:
    window, fleet = figures.window, figures.fleet
    if window.now is None:
        return []
    minute = window.between(window.now - _MINUTE, window.now + STEP, tenant=tenant)
    hour = window.between(window.now - KEPT, window.now + STEP, tenant=tenant)
    states = figures.seen.deployments or {}
    return [_deployment(model, states.get(name), minute=minute, hour=hour) for name, model in fleet.models.items()]


def _deployment(
    model: Model, state: DeploymentState | None, *, minute: DashboardCounters, hour: DashboardCounters
) -> dict[str, Any]:
    calls = {key: n for key, n in hour.calls.items() if key.deployment == model.name}
    lately = {key: n for key, n in minute.calls.items() if key.deployment == model.name}
    tokens = sum(minute.prompt_tokens[key] + minute.completion_tokens[key] for key in lately)
    failures: Counter[str] = Counter()
    for key, n in calls.items():
        if key.outcome != "ok":
            failures[key.outcome] += n
    return {
        "deployment": model.name,
        "provider": model.provider,
        "model": model.model,
        "tier": model.tier,
        "circuit": state.circuit if state else None,
        "probe_in_s": state.probe_in_s if state else None,
        "rest_s": state.rest_s if state else None,
        "calls": sum(calls.values()),
        "failures": dict(failures.most_common()),
        "p50_ms": hour.percentile_ms(model.name, 0.5),
        "p95_ms": hour.percentile_ms(model.name, 0.95),
        "last_minute": {"calls": sum(lately.values()), "tokens": tokens},
        "limits": {"requests_per_min": model.requests_per_min, "tokens_per_min": model.tokens_per_min},
    }
