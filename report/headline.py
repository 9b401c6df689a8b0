"""What a report says first."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.reports.batch_report import BatchReport, labelled_right
from report.formatting import percent, percent_of, plain, seconds, usd


@dataclass(frozen=True, slots=True)
class Card:
    """One figure, what it is, and what is to be known of it."""

    name: str
    figure: str
    note: str


def headline(account: BatchReport) -> str:
    """The batch in one sentence."""
    figures, progress = account.figures, account.figures.progress
    done = f"{progress.done:,} of {progress.total:,} queries answered"
    sofar = "" if progress.ended else "So far: "
    if not progress.done:
        ends = "None of" if progress.ended else "So far none of"
        return f"{ends} {progress.total:,} queries answered, {usd(figures.cost_usd)} spent"
    share = figures.saving_share
    if share is None:
        return f"{sofar}{done} for {usd(figures.cost_usd)}"
    less = f"{percent(abs(share))} {'less' if share >= 0 else 'more'} than {figures.baseline_model} alone"
    return f"{sofar}{done} for {usd(figures.cost_usd)}, {less}"


def standing(account: BatchReport) -> str:
    """Which batch, from when, and how far it is."""
    progress = account.figures.progress
    state = (
        "cancelled"
        if progress.cancelled_at
        else "ended"
        if progress.ended
        else f"open, {progress.total - progress.finished:,} queries left"
    )
    return (
        f"{progress.public_id} · {plain(progress.source)} · submitted {progress.created_at:%Y-%m-%d %H:%M} UTC · "
        f"{state} · fleet {plain(account.fleet)}"
    )


def warnings(account: BatchReport) -> list[str]:
    """What must be known before a figure is believed."""
    figures, told = account.figures, []
    if figures.progress.simulated:
        told.append(
            "Simulated: answers, confidences, latencies and failures are the simulator's and no money was spent. "
            "Prices are those of the real models."
        )
    if figures.fleet_changed:
        told.append("The fleet file has changed since this batch was submitted: controls have today's prices.")
    if account.audit is not None and account.audit.findings:
        told.append("The audit seal is broken: the routing log is not as it was written.")
    return told


def cards(account: BatchReport) -> Sequence[Card]:
    """The figures that everybody asks for."""
    figures, progress = account.figures, account.figures.progress
    ends = [
        f"{count:,} {name}"
        for name, count in (
            ("failed", progress.failed),
            ("cancelled", progress.cancelled),
            ("open", progress.total - progress.finished),
        )
        if count
    ]
    told = sum(each.answers for each in account.confidences if each.tenth is not None)
    sure = "–" if account.mean_confidence is None else percent(account.mean_confidence)
    doubtful = sum(each.unaccepted for each in account.confidences)
    saving = figures.saving_usd
    return (
        Card("Answered", f"{progress.done:,}", f"of {progress.total:,}{'; ' if ends else ''}{', '.join(ends)}"),
        Card("Cost", usd(figures.cost_usd), f"{usd(figures.router_cost_usd)} of it for routing"),
        Card(
            "All " + figures.top_tier, usd(figures.baseline_cost_usd), f"the same answers from {figures.baseline_model}"
        ),
        Card(
            "Saving" if saving >= 0 else "Extra cost",
            percent(abs(figures.saving_share)) if figures.saving_share is not None else "–",
            usd(abs(saving)),
        ),
        _quality(account, told, sure),
        Card("Doubtful", f"{doubtful:,}", "answers that stood as the best there was"),
        Card(
            "Escalated", f"{progress.escalated:,}", f"{percent_of(progress.escalated, progress.total)} of the queries"
        ),
        Card("Time", seconds(progress.wall_s), f"{figures.queries_per_s:,.1f} queries/s"),
    )


def _quality(account: BatchReport, told: int, sure: str) -> Card:
    """Labels where there are some, else what the judge believes, and it says so."""
    labelled = labelled_right(account.labels)
    if labelled is None:
        return Card("Judge's confidence", sure, f"mean of {told:,} answers that have one; not labels")
    count, grade = labelled
    return Card("Right, by labels", percent(grade), f"of {count:,} labelled answers; the judge's confidence is {sure}")
