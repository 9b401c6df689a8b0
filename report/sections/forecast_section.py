"""The forecast at submission, compared with the actual figures."""

from collections.abc import Callable, Mapping
from typing import Any

from db.reports.batch_report import BatchReport
from report.document import Section, Table
from report.formatting import plain, seconds, usd
from routing.forecast.rounding import round_to_sum


def forecast(report: BatchReport) -> Section:
    """Return expected and actual figures, or a sentence if there is no forecast."""
    cap_usd = report.figures.progress.cap_usd
    budget = f"Budget: {usd(cap_usd)}." if cap_usd is not None else "The batch has no budget of its own."
    title = "Forecast and actual"
    forecast = report.plan
    if forecast is None:
        return Section(
            "forecast", title, ["There is no forecast, because the batch was submitted without one.", budget]
        )
    rest, unmeasured, paragraphs = forecast["rest"], forecast["cost_usd"]["unmeasured"], [budget]
    compared = {
        "cost": (forecast["cost_usd"], usd),
        "time": (forecast["wall_s"], seconds),
        "baseline": (forecast["baseline_cost_usd"], usd),
    }
    if rest is None:
        answers = round_to_sum({tier: count["expected"] for tier, count in forecast["by_tier"].items()})
        compared["escalated"] = (forecast["escalated"], _count)
        for tier, count in forecast["by_tier"].items():
            compared[f"answers of {tier}"] = (count | {"expected": answers[tier]}, _count)
    else:
        paragraphs.append(
            "The pilot decides which tiers answer the rest of the batch. The low end of the cost assumes that "
            f"{plain(rest['least_tier'])} answers the rest; the high end assumes that {plain(rest['most_tier'])} does. "
            "Both include the pilot."
        )
    if unmeasured:
        paragraphs.append(
            "Only a range of the cost was known, because these tiers had given too few answers to estimate their "
            f"length: {plain(', '.join(unmeasured))}."
        )
    elif rest is not None:
        paragraphs.append(
            f"The expected cost was {usd(rest['least_usd'])} if {plain(rest['least_tier'])} answered the rest, and "
            f"{usd(rest['most_usd'])} if {plain(rest['most_tier'])} did."
        )
    if (held_s := forecast["wall_s"]["held_s"]) >= 1:
        paragraphs.append(
            f"In {seconds(held_s)} of the actual time, the batch only waited for a budget or an account. They are not "
            "compared with the range."
        )
    rows = [
        [
            name,
            "not known" if figure.get("unmeasured") else shown(figure["expected"]),
            f"{shown(figure['low'])} to {shown(figure['high'])}" if "low" in figure else "–",
            _actual(figure, shown),
            {True: "yes", False: "no"}.get(figure.get("within"), "–"),
        ]
        for name, (figure, shown) in compared.items()
    ]
    columns = ["figure", "expected", "range", "actual", "within"]
    return Section("forecast", title, paragraphs, tables=[Table(title, columns, rows, frozenset({"figure"}))])


def _actual(figure: Mapping[str, Any], shown: Callable[[float], str]) -> str:
    unconfirmed = figure.get("unconfirmed")
    if not unconfirmed:
        return shown(figure["actual"])
    return f"{shown(figure['usual'])} ({shown(unconfirmed)} of unconfirmed calls at their usual cost)"


def _count(value: float) -> str:
    return f"{value:,.0f}"
