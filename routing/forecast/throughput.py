"""The throughput of a tier."""

import math

from routing.fleet import Fleet, Model


def max_throughput(fleet: Fleet, tier: str, *, latency_s: float, tokens: float, slots: int) -> tuple[float, str]:
    """Return the maximum calls per second of a tier, and the bottleneck."""
    by_slots = max(1, slots) / latency_s
    models = fleet.deployments(tier)
    by_limits = sum(_limit_per_s(model, latency_s=latency_s, tokens=tokens) for model in models)
    if by_limits < by_slots:
        return by_limits, f"the limits of {', '.join(model.name for model in models)}"
    return by_slots, f"{max(1, slots)} slots of {tier}"


def _limit_per_s(model: Model, *, latency_s: float, tokens: float) -> float:
    limits = [math.inf]
    if model.requests_per_min:
        limits.append(model.requests_per_min / 60.0)
    if model.tokens_per_min and tokens:
        limits.append(model.tokens_per_min / 60.0 / tokens)
    if model.max_concurrency:
        limits.append(model.max_concurrency / latency_s)
    return min(limits)
