"""Where the money went, by model."""

from db.reports.batch_report import BatchReport
from report import colors
from report.charts.bars import cost_bars
from report.document import Figure, Section, Table
from report.formatting import ms, percent_of, usd


def models(account: BatchReport) -> Section:
    """A row for each model and purpose, and the cost of each drawn."""
    costs: dict[str, float] = {}
    colours: dict[str, str] = {}
    for each in account.models:
        name = each.deployment if each.purpose != "route" else f"{each.deployment} (routing)"
        costs[name] = costs.get(name, 0.0) + each.cost_usd
        colours.setdefault(name, colors.tier_color(each.tier, account.tiers))
    rows = [
        [
            each.tier,
            each.deployment,
            each.provider,
            each.purpose,
            f"{each.calls:,}",
            f"{each.prompt_tokens:,}",
            f"{each.completion_tokens:,}",
            usd(each.cost_usd),
            percent_of(each.cost_usd, account.figures.cost_usd),
            ms(each.p95_ms),
        ]
        for each in account.models
    ]
    columns = ["tier", "model", "provider", "purpose", "calls", "tokens in", "tokens out", "cost", "share", "p95 ms"]
    words = ["The colour is the tier's. A call without a known outcome counts at its reservation, the worst case."]
    if account.figures.open_calls:
        words.append(f"{account.figures.open_calls:,} calls have no outcome yet.")
    words += [
        f"{each.deployment}: the provider's own figures come to {usd(each.reported_usd)}, the price table's to "
        f"{usd(each.computed_usd)} for the same calls; the provider's count."
        for each in account.models
        if each.reported_usd is not None
        and each.computed_usd is not None
        and abs(each.reported_usd - each.computed_usd) > 0.01 * max(each.reported_usd, each.computed_usd)
    ]
    words += [
        f"Where {each.deployment} was asked, answers name {', '.join(each.answered_by[:3])}."
        for each in account.models
        if each.answered_by
    ]
    return Section(
        "models",
        "Where the money went",
        words,
        [Figure(cost_bars(costs, colours), "Cost by model.")] if costs else [],
        [Table("Models", columns, rows, frozenset({"tier", "model", "provider", "purpose"}))] if rows else [],
    )
