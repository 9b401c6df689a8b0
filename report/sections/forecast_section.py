"""The plan that was made when the batch was submitted, against what came of it."""

from db.reports.batch_report import BatchReport
from report.document import Section, Table
from report.formatting import seconds, usd
from routing.forecast.rounding import round_to_sum


def forecast(account: BatchReport) -> Section:
    """Expected figures beside the actual ones; a sentence where there was no plan."""
    cap = f"Its budget is {usd(account.cap_usd)}." if account.cap_usd is not None else "It has no budget of its own."
    forecast = account.plan
    if forecast is None:
        return Section("plan", "Plan against actual", ["There was no plan: the batch was submitted without one.", cap])
    answers = round_to_sum({tier: beside["expected"] for tier, beside in forecast["by_tier"].items()})
    told = {
        "cost": (forecast["cost_usd"], usd),
        "time": (forecast["wall_s"], seconds),
        f"all {account.figures.top_tier}": (forecast["baseline_cost_usd"], usd),
        "escalated": (forecast["escalated"], _count),
        **{
            f"answers of {tier}": (beside | {"expected": answers[tier]}, _count)
            for tier, beside in forecast["by_tier"].items()
        },
    }
    rows = [
        [
            name,
            say(beside["expected"]),
            f"{say(beside['low'])} to {say(beside['high'])}" if "low" in beside else "–",
            say(beside["actual"]),
            {True: "yes", False: "no"}.get(beside.get("within"), "–"),
        ]
        for name, (beside, say) in told.items()
    ]
    columns = ["what", "expected", "interval", "actual", "within"]
    table = Table("The plan and what came of it", columns, rows, frozenset({"what"}))
    return Section("plan", "Plan against actual", [cap], tables=[table])


def _count(value: float) -> str:
    return f"{value:,.0f}"
