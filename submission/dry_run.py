"""The report of a dry run: forecast, budget, and a comparison of deadlines. It writes and calls nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from db.batch_writer import BatchSpec
from routing.fleet import Fleet
from routing.lanes.lane import BatchAge
from routing.lanes.tier_offers import tier_lanes
from submission.input_line import InputLine, RejectedLine
from submission.request_key import RequestKeys
from submission.reservoir_sample import ReservoirSample
from submission.submit import refuse_unpaid_pilot

MAX_REJECTIONS: Final = 100
"""Maximum number of rejected lines that are kept."""


@dataclass(slots=True)
class LinesRead:
    """The lines of a file that would not be asked."""

    rejected: int = 0
    rejections: list[RejectedLine] = field(default_factory=list)
    """The first rejections."""
    followers: int = 0
    """The lines that get the answer of an identical query."""


def read_sample(lines: Iterable[InputLine | RejectedLine], keys: RequestKeys, sample: ReservoirSample) -> LinesRead:
    """Pass the lines that would be asked to ``sample``, and return the others.

    Reusable answers of earlier batches are not looked up.
    """
    read = LinesRead()
    seen: set[bytes] = set()
    for line in lines:
        if isinstance(line, RejectedLine):
            read.rejected += 1
            if read.rejected <= MAX_REJECTIONS:
                read.rejections.append(replace(line, raw=b""))
            continue
        (key,) = keys.of([line]) or (None,)
        if key is None or key.key not in seen:
            sample.see(line)
        else:
            read.followers += 1
        if key is not None:
            seen.add(key.key)
    return read


def dry_run_report(
    forecast: Mapping[str, Any],
    *,
    source: str,
    spec: BatchSpec,
    fleet: Fleet,
    read: LinesRead,
    ages: Mapping[str, Sequence[BatchAge]],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The report as JSON. ``forecast`` as JSON; ``ages``: how long earlier provider batches took; ``warnings`` of
    `Forecaster.warnings`.

    No cost of its ``plan`` is above the budget; ``uncapped_usd`` is what all its calls are expected to cost, with
    the rest of a pilot by the top tier. ``saving_usd`` and ``saving_share`` compare the expected cost of all queries
    with the expected baseline; they are None where there is none, or where a tier's lengths are not known.

    Raises InvalidInput where the budget does not pay for the pilot: the batch would be refused.
    """
    cap_usd = spec.cap_at(fleet)
    refuse_unpaid_pilot(forecast, cap_usd)
    rest = (forecast["pilot"] or {}).get("rest")
    baseline, cost = forecast["baseline_cost_usd"], forecast["cost_usd"]
    baseline_usd, expected_usd = baseline["expected"], cost["expected"]
    has_saving = baseline_usd and not baseline["unmeasured"] and not cost["unmeasured"]
    report = {
        "dry_run": True,
        "source": source,
        "total": forecast["total"],
        "rejected": read.rejected,
        "followers": read.followers,
        "simulated": fleet.simulated,
        "cap_usd": cap_usd,
        "uncapped_usd": rest["most_usd"] if rest else expected_usd,
        "top_tier": fleet.top,
        "saving_usd": round(baseline_usd - expected_usd, 9) if has_saving else None,
        "saving_share": round(1 - expected_usd / baseline_usd, 6) if has_saving else None,
        "warnings": list(warnings),
        "plan": {**forecast, "cost_usd": _capped(cost, cap_usd)},
    }
    if spec.deadline is not None and forecast["tiers"]:
        within_s = (spec.deadline - datetime.now(UTC)).total_seconds()
        report["deadlines"] = compare_deadlines(fleet, forecast, ages, within_s=within_s)
    return report


def _capped(cost_usd: Mapping[str, Any], cap_usd: float | None) -> dict[str, Any]:
    figures = ("expected", "low", "high") if cap_usd is not None else ()
    return {**cost_usd, **{name: min(cost_usd[name], cap_usd) for name in figures}}


def is_covered(report: Mapping[str, Any]) -> bool:
    """Whether the budget, if there is one, covers the expected cost of all queries."""
    return bool(report["cap_usd"] is None or report["cap_usd"] >= report["uncapped_usd"])


def compare_deadlines(
    fleet: Fleet, forecast: Mapping[str, Any], ages: Mapping[str, Sequence[BatchAge]], *, within_s: float
) -> list[dict[str, Any]]:
    """Return a row for the requested deadline, to the minute, and for usual ones, by time. ``forecast`` as JSON."""
    # numpy, which commands do without that compare no deadlines
    from routing.lanes.deadline_forecast import USUAL_DEADLINES_S, forecast_deadline

    routed = {name: float(tier["routed"]) for name, tier in forecast["tiers"].items()}
    lanes = tier_lanes(fleet, forecast["tiers"], open_queries=routed, ages=ages)
    rows = []
    asked_s = 60.0 * max(1, round(within_s / 60))
    for deadline_s in sorted({asked_s, *USUAL_DEADLINES_S}):
        found = forecast_deadline(lanes, within_s=deadline_s)
        rows.append(
            {
                "within_s": deadline_s,
                "is_asked_for": deadline_s == asked_s,
                "cost_usd": round(found.usd, 9),
                "standard_usd": round(found.standard_usd, 9),
                "saving": round(found.saving, 4),
                "finish_s": round(found.finish_s),
                "p_late": round(found.p_late, 6),
                "lanes": {name: lane.value for name, lane in found.lanes.items()},
            }
        )
    return rows
