"""The head of a report: headline, warnings and the main figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from db.reports.batch_report import BatchReport, labelled_right
from db.reports.batch_stats import SecondBaseline
from report.formatting import percent, percent_of, plain, seconds, usd


@dataclass(frozen=True, slots=True)
class Card:
    """One figure with its name and a note."""

    name: str
    figure: str
    note: str


def headline(report: BatchReport) -> str:
    """The batch in one sentence."""
    figures, progress = report.figures, report.figures.progress
    so_far = "" if progress.ended else "So far: "
    done = f"{progress.done:,} of {progress.total:,} queries answered for {usd(figures.cost_usd)}"
    share = figures.saving_share
    if not progress.done or share is None:
        return f"{so_far}{done}"
    return (
        f"{so_far}{done}, {percent(abs(share))} {'less' if share >= 0 else 'more'} than {figures.baseline_model} alone"
    )


def standing(report: BatchReport) -> str:
    """The batch, its time of submission, and its state."""
    progress = report.figures.progress
    state = "ended" if progress.ended else f"open, {progress.total - progress.finished:,} queries left"
    return (
        f"{progress.public_id} · {plain(progress.source)} · submitted {progress.created_at:%Y-%m-%d %H:%M} UTC · "
        f"{'cancelled' if progress.cancelled_at else state} · fleet {plain(report.fleet)}"
    )


def warnings(report: BatchReport) -> list[str]:
    """Limits of the figures."""
    found = []
    if report.figures.progress.simulated:
        found.append(
            "Simulated: the simulator made up answers, confidences, latencies and failures; no money was spent. "
            "Prices are those of the real models."
        )
    if report.audit is not None and report.audit.findings:
        found.append("The audit seal is broken: the routing log was changed after it was written.")
    return found


def cards(report: BatchReport) -> Sequence[Card]:
    """The main figures."""
    figures, progress = report.figures, report.figures.progress
    counts = (
        ("failed", progress.failed),
        ("cancelled", progress.cancelled),
        ("open", progress.total - progress.finished),
    )
    others = "".join(f"; {count:,} {name}" for name, count in counts if count)
    doubtful = sum(bin_.unaccepted for bin_ in report.confidences)
    saving = figures.saving_usd
    escalated = f"{percent_of(progress.escalated, progress.total)} of the queries"
    return (
        Card("Answered", f"{progress.done:,}", f"of {progress.total:,}{others}"),
        Card("Cost", usd(figures.cost_usd), f"with {usd(figures.router_cost_usd)} for routing"),
        Card("Baseline", usd(figures.baseline_cost_usd), f"if {figures.baseline_model} had answered every query"),
        Card("Saving" if saving >= 0 else "Extra cost", percent(_absolute(figures.saving_share)), usd(abs(saving))),
        *_second_baseline(figures.second_baseline),
        _quality(report),
        Card("Doubtful", f"{doubtful:,}", "final answers that the judge did not accept"),
        Card("Escalated", f"{progress.escalated:,}", escalated),
        Card("Time", seconds(progress.wall_s), f"{figures.queries_per_s:,.1f} queries/s"),
    )


def _second_baseline(second: SecondBaseline | None) -> Iterator[Card]:
    if second is not None:
        kind = "saving" if second.saving_usd >= 0 else "extra cost"
        note = f"{kind} of {percent(_absolute(second.saving_share))} ({usd(abs(second.saving_usd))})"
        yield Card(f"If {second.model} alone", usd(second.cost_usd), note)


def _absolute(share: float | None) -> float | None:
    return None if share is None else abs(share)


def _quality(report: BatchReport) -> Card:
    """Quality by labels where there are any, else the judge's confidence, marked as such."""
    confidence = percent(report.mean_confidence)
    labelled = labelled_right(report.labels)
    if labelled is None:
        count = sum(bin_.answers for bin_ in report.confidences if bin_.tenth is not None)
        return Card("Judge's confidence", confidence, f"mean of {count:,} answers that have one; no labels")
    count, grade = labelled
    return Card("Right, by labels", percent(grade), f"of {count:,} labelled answers; judge's confidence {confidence}")
