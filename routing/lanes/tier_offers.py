"""The offers of each tier of a batch: prices from the fleet, pace and climbs from the batch's forecast."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from routing.fleet import Fleet, Model, Protocol
from routing.forecast.throughput import max_throughput
from routing.lanes.lane import BatchAge, Lane, LaneOffer, TierLanes
from routing.outcome import Usage

USUAL_CALL: Final = Usage(600, 200)
USUAL_LATENCY_S: Final = 3.0
USUAL_CLIMB_SHARE: Final = 0.1
"""The climbing share of a tier that is not in the forecast."""

FLEX_LACKS_CAPACITY: Final = 0.1
"""The probability that flex refuses everything for hours. Because of it a provider batch is preferred if there is time
for one, and flex otherwise."""

LOST_SHARE: Final = 0.5
"""The lost share of a cancelled provider batch at Google, which returns nothing but bills what was answered by then."""

FLEX_PACE: Final = 0.2
"""The pace of flex relative to standard: calls take longer, and some are refused because capacity is short."""


def lane_deployment(fleet: Fleet, tier: str) -> Model:
    """Return the deployment that ``tier`` is planned with: the first, in failover order, with a lane other than
    standard."""
    deployments = fleet.deployments(tier)
    return next((model for model in deployments if len(model.lanes) > 1), deployments[0])


def tier_lanes(
    fleet: Fleet,
    forecast_tiers: Mapping[str, Mapping[str, Any]],
    *,
    open_queries: Mapping[str, float],
    ages: Mapping[str, Sequence[BatchAge]],
) -> dict[str, TierLanes]:
    """Return the lanes of every tier of ``fleet``, for a `LanePlan`.

    ``forecast_tiers`` are the ``tiers`` of a batch's stored forecast as JSON, or empty without a forecast.
    ``open_queries``: by tier, the queries without an answer. ``ages``: by provider, the ages of its newest provider
    batches.
    """
    return {
        name: _tier(fleet, name, forecast_tiers.get(name, {}), open_queries.get(name, 0), ages) for name in fleet.tiers
    }


def _tier(
    fleet: Fleet, name: str, figures: Mapping[str, Any], open_: float, ages: Mapping[str, Sequence[BatchAge]]
) -> TierLanes:
    model = lane_deployment(fleet, name)
    call_usd = figures["cost_usd"] / figures["calls"] if figures.get("calls") else model.price.cost_usd(USUAL_CALL)
    per_s, latency_s = _pace(fleet, name, figures)
    share = figures.get("doubted_share", USUAL_CLIMB_SHARE)
    offers: dict[Lane, LaneOffer] = {}
    for lane in model.lanes:
        usd = call_usd * _over_list_price(model, lane)
        match lane:
            case Lane.STANDARD:
                offers[lane] = LaneOffer(lane, usd, per_s, latency_s)
            case Lane.FLEX:
                offers[lane] = LaneOffer(
                    lane,
                    usd,
                    per_s * FLEX_PACE,
                    latency_s / FLEX_PACE,
                    lacks_capacity=FLEX_LACKS_CAPACITY,
                )
            case Lane.BATCH:
                observed = tuple(ages.get(model.provider, ()))
                lost_usd = LOST_SHARE * usd if model.protocol is Protocol.GOOGLE else 0.0
                window_s = model.batch_limits.window_s
                offers[lane] = LaneOffer(lane, usd, window_s=window_s, cancel_usd=lost_usd, ages=observed)
    return TierLanes(
        name,
        offers,
        escalates_to=fleet.tiers[name].escalates_to,
        climb_share=share,
        climb_bound=min(1.0, 2.0 * share + 0.05),
        open=open_,
    )


def _pace(fleet: Fleet, tier: str, figures: Mapping[str, Any]) -> tuple[float, float]:
    """Return the standard lane's calls per second, and the seconds until the batch's first answer, after other
    batches."""
    latency_s = figures.get("latency_s", USUAL_LATENCY_S)
    backlog = figures.get("backlog", 0.0)
    if figures.get("calls") and figures["takes_s"] > latency_s:
        per_s = (figures["calls"] + backlog) / (figures["takes_s"] - latency_s)
    else:
        tokens, slots = USUAL_CALL.total_tokens, fleet.tiers[tier].concurrency
        per_s, _ = max_throughput(fleet, tier, latency_s=latency_s, tokens=tokens, slots=slots)
    return per_s, latency_s + backlog / per_s


def _over_list_price(model: Model, lane: Lane) -> float:
    standard_usd = model.price.cost_usd(USUAL_CALL)
    return model.price.at_service_tier(lane).cost_usd(USUAL_CALL) / standard_usd if standard_usd else 1.0
