"""Each provider over time, what failed, and where failovers went."""

from db.reports.batch_report import BatchReport
from report.charts.bars import health_strip
from report.document import Figure, Section, Table
from report.formatting import seconds


def providers(account: BatchReport) -> Section:
    """A strip over time for each provider, and the failed calls with what was done after them."""
    providers = sorted({slot.provider for slot in account.health})
    most = max((slot.calls for slot in account.health), default=1)
    drawn = [
        Figure(
            health_strip(provider, [slot for slot in account.health if slot.provider == provider], most),
            f"{provider}: {sum(s.calls for s in account.health if s.provider == provider):,} calls, "
            f"{sum(s.failed for s in account.health if s.provider == provider):,} failed",
        )
        for provider in providers
    ]
    words = ["No call was made."]
    if account.health_began is not None:
        words = [
            f"The {seconds(account.health_took_s)} from the first call, {account.health_began:%Y-%m-%d %H:%M:%S} UTC, "
            "to the last, in equal parts. Failed calls stand below the line."
        ]
    tables = []
    if account.failing:
        over = sum(each.failed_over for each in account.failing)
        words.append(
            f"{account.figures.failed_calls:,} calls failed; after {over:,} of them another model of the tier "
            "was asked."
        )
        tables.append(
            Table(
                "Failed calls, and what was done after",
                ["model", "failure", "cause", "calls", "asked again", "failed over", "went to"],
                [
                    [
                        each.deployment,
                        each.outcome.replace("_", " "),
                        " ".join(filter(None, (each.cause, each.param and f"({each.param})"))) or "–",
                        f"{each.calls:,}",
                        f"{each.tried_again:,}",
                        f"{each.failed_over:,}",
                        ", ".join(each.went_to) or "–",
                    ]
                    for each in account.failing
                ],
                frozenset({"model", "failure", "cause", "went to"}),
            )
        )
    elif account.health:
        words.append("No call failed.")
    return Section("providers", "Providers and failovers", words, drawn, tables)
