"""The head of a report: headline, warnings and the main figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from db.reports.batch_quality import QualityFigures, departed
from db.reports.batch_report import BatchReport, labelled_right
from db.reports.batch_stats import NO_BASELINE, BatchFigures, SecondBaseline
from db.reports.batch_warnings import batch_warnings
from report.formatting import percent, percent_of, plain, quality_interval, seconds, usd

TOP_ALONE: Final = "answered by the top tier alone"


MOST_CAUSES: Final = 6
"""Maximum causes shown for escalations, and for failed calls on the console. The most frequent come first."""


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
    if not progress.done or share is None or figures.baseline_is_guess:
        return f"{so_far}{done}"
    return (
        f"{so_far}{done}, {percent(abs(share))} {'less' if share >= 0 else 'more'} than {figures.baseline_model} alone"
    )


def standing(report: BatchReport) -> str:
    """The batch, its time of submission, and its state."""
    progress = report.figures.progress
    left = f"queries left: {progress.total - progress.finished:,}"
    state = "ended" if progress.ended else f"{'paused' if progress.paused_at else 'open'}, {left}"
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
    found += [f"{warning[0].upper()}{plain(warning[1:])}." for warning in batch_warnings(report.figures)]
    if report.audit is not None and report.audit.findings:
        found.append("The audit seal is broken: the routing log was changed after it was written.")
    return found


def cards(report: BatchReport) -> Sequence[Card]:
    """Return the main figures."""
    figures, progress = report.figures, report.figures.progress
    counts = (
        ("failed", progress.failed),
        ("cancelled", progress.cancelled),
        ("open", progress.total - progress.finished),
    )
    others = "".join(f"; {count:,} {name}" for name, count in counts if count)
    unaccepted = sum(bin_.unaccepted for bin_ in report.confidences)
    escalated = f"{percent_of(progress.escalated, progress.total)} of the queries"
    if causes := escalation_causes(figures):
        escalated += f"; by {causes}"
    return (
        Card("Answered", f"{progress.done:,}", f"of {progress.total:,}{others}"),
        Card("Cost", usd(figures.cost_usd), _of_cost(figures)),
        *_baselines(figures),
        *(
            Card(f"Lane {lane.lane}", usd(lane.saving_usd), f"saved below the list price (calls: {lane.calls:,})")
            for lane in figures.lanes
        ),
        *_not_paid(figures),
        _quality(report),
        Card("Unaccepted", f"{unaccepted:,}", "final answers that the judge did not accept"),
        Card("Escalated", f"{progress.escalated:,}", escalated),
        Card("Time", seconds(progress.wall_s), f"{figures.progress.queries_per_s:,.1f} queries/s"),
    )


def escalation_causes(figures: BatchFigures) -> str:
    """The most frequent reasons for which queries escalated, with their counts."""
    return ", ".join(f"{code.replace('_', ' ')} {n:,}" for code, n in islice(figures.escalated_by.items(), MOST_CAUSES))


def _baselines(figures: BatchFigures) -> Iterator[Card]:
    if figures.embed_calls:
        yield Card("Baseline", "none", NO_BASELINE)
        return
    note = f"if {figures.baseline_model} had answered {figures.answered_words}; {figures.baseline_lengths.words}"
    if figures.expected_baseline_range_usd is not None:
        note += f"; {' to '.join(map(usd, figures.expected_baseline_range_usd))}"
    if figures.unanswered_usd:
        note += f"; with {usd(figures.unanswered_baseline_usd)} for the calls of other queries"
    saving, between = figures.saving_usd, figures.saving_range or ()
    if figures.baseline_is_guess:
        yield Card("Baseline", "not known", f"{figures.top_tier} has given too few answers; {note}")
        yield Card("Saving", "not known", " to ".join(map(percent, between)))
    else:
        yield Card("Baseline", usd(figures.expected_baseline_usd), note)
        name = "Saving" if saving >= 0 else "Extra cost"
        shares = between if saving >= 0 else [-share for share in reversed(between)]
        amounts = filter(None, (usd(abs(saving)), " to ".join(map(percent, shares))))
        yield Card(name, percent(_absolute(figures.saving_share)), "; ".join(amounts))
    yield from _second_baseline(figures.second_baseline)


def _of_cost(figures: BatchFigures) -> str:
    text = f"with {usd(figures.router_cost_usd)} for routing"
    if figures.unanswered_usd:
        text += f" and {usd(figures.unanswered_usd)} for queries without an answer"
    return f"{text}; {usd(figures.unconfirmed_usd)} is {figures.unconfirmed_words}" if figures.unconfirmed_usd else text


def _not_paid(figures: BatchFigures) -> Iterator[Card]:
    if figures.not_paid_queries:
        note = f"queries that share another query's answer: {figures.not_paid_queries:,}; no baseline counts them"
        yield Card("Not paid for", usd(figures.not_paid_usd), note)


def _second_baseline(second: SecondBaseline | None) -> Iterator[Card]:
    if second is not None:
        kind = "saving" if second.saving_usd >= 0 else "extra cost"
        saving = f"{kind} of {percent(_absolute(second.saving_share))} ({usd(abs(second.saving_usd))})"
        yield Card(f"With {second.model} alone", usd(second.cost_usd), f"{saving}; {second.lengths.words}")


def _absolute(share: float | None) -> float | None:
    return None if share is None else abs(share)


def _quality(report: BatchReport) -> Card:
    """Return the quality as measured, by a floor's pilot and audits or by labels, and nothing that was not measured."""
    floor = report.figures.quality
    if floor is not None and floor.standing == "departed":
        return Card("Quality", "not promised", f"floor {percent(floor.floor)}: {departed(floor.departures)}")
    if floor is not None and floor.is_top_alone:
        note = f"{TOP_ALONE}; floor {percent(floor.floor)}: not certified"
        return Card("Quality", f"that of {plain(report.figures.top_tier)}", note)
    if floor is not None and floor.measured is not None:
        within = "–" if floor.interval is None else quality_interval(floor.measured, floor.interval)
        by = f"by {floor.audits:,} audit calls" if floor.audited_quality is not None else "by the pilot"
        note = f"{within} {by}; floor {percent(floor.floor)}: {standing_of(floor)}"
        return Card("Quality, measured", percent(floor.measured), note)
    if (labelled := labelled_right(report.labels)) is not None:
        return Card("Right, by labels", percent(labelled[1]), f"of {labelled[0]:,} labeled answers")
    figures = report.figures
    if figures.embed_calls:
        return Card("Quality", "not judged", "the answers are vectors")
    if figures.progress.done and all(tier.tier == figures.top_tier for tier in figures.tiers if tier.answered):
        return Card("Quality", f"that of {plain(figures.top_tier)}", f"which answered {figures.answered_words}")
    return Card("Quality", "not measured", "to measure it, set a quality floor or label answers")


def standing_of(floor: QualityFigures) -> str:
    """Return the result of a quality floor, in words."""
    return {
        "top_tier": "not certified: the top tier answers",
        "too_small": "not certified: too few queries",
        "no_gain": "not certified: a pilot would not pay",
        "departed": departed(floor.departures),
    }.get(floor.standing, floor.standing)
