"""Several deadlines side by side: what a batch costs by each, when it ends, and how likely it is late."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cli.console import plain, table
from cli.progress import duration
from routing.fleet import Fleet
from routing.lanes.deadline_forecast import USUAL_DEADLINES_S, forecast_deadline
from routing.lanes.lane import BatchAge
from routing.lanes.offers import tier_lanes


def compare_deadlines(
    fleet: Fleet, forecast: Mapping[str, Any], ages: Mapping[str, Sequence[BatchAge]], *, within_s: float
) -> list[dict[str, Any]]:
    """A row for the deadline that is asked for, to the minute, and for usual ones, by time. ``forecast`` as JSON."""
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


def deadline_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `compare_deadlines`; the deadline that is asked for in bold."""
    grid = table(("within", "first waves"), ("cost", "saving", "ends after", "P(late)"))
    for row in rows:
        lanes = ", ".join(f"{plain(tier)} {lane}" for tier, lane in row["lanes"].items())
        if len(used := set(row["lanes"].values())) == 1:
            lanes = used.pop()
        grid.add_row(
            duration(row["within_s"]),
            lanes,
            f"${row['cost_usd']:.6f}",
            f"{100 * row['saving']:.1f} %",
            duration(row["finish_s"]),
            "< 0.01 %" if row["p_late"] < 1e-4 else f"{100 * row['p_late']:.2g} %",
            style="bold" if row["is_asked_for"] else None,
        )
    return grid
