"""The summary at the end of a batch, on the console."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.command_errors import ExitCode
from cli.console import plain, plural, queries, table
from cli.progress import QueriesHeld, duration
from db.reports.batch_quality import QualityFigures, departed, lowest_workloads, outside_certificate
from db.reports.batch_stats import NO_BASELINE, BatchFigures, LaneFigures
from db.reports.batch_warnings import batch_warnings
from db.reports.forecast_vs_actual import forecast_vs_actual
from report.failed_calls import failures_by_cause
from report.headline import MOST_CAUSES, TOP_ALONE, escalation_causes
from routing.answer_lengths import LEAST_ANSWERS
from routing.forecast.rounding import round_to_sum

MOST_WORKLOADS = 12
"""Only this many are shown, the most expensive first. ``--json`` and the report have all."""


LARGE_SHARE = 0.2
"""The minimum share of the cost for a pilot to get a line."""

PAID_AGAIN = (
    "each batch pays for its own pilot. fix: submit more queries at once, because a pilot grows more slowly than its "
    "batch"
)

_TINY_USD = 0.0000005
"""Smaller amounts are shown as $0.000000."""


def show(figures: BatchFigures, console: Console) -> None:
    progress = figures.progress
    console.print(Text.assemble(("Batch ", "bold"), (progress.public_id, "bold cyan"), f" · {plain(progress.source)}"))
    if progress.simulated:
        models = ", ".join(sorted({model for tier in figures.tiers for model in tier.models}))
        console.print(
            Text(
                "Simulated: the simulator made up answers, confidences, latencies and failures; no money was spent. "
                f"Prices are those of {models or 'the real models'}.",
                style="yellow",
            )
        )
    console.print(_tiers(figures))
    if len(figures.workloads) > 1:
        console.print(_workloads(figures))
    if figures.kinds is not None:
        key, values = plain(figures.kinds[0]), figures.kinds[1]
        hint = (
            f"the queries have no workload name, but the metadata key {key} has {values} values. fix: use --workload "
            f"{shlex.quote(key)}"
        )
        console.print(Text.assemble(("Workloads  ", "bold"), hint))
    for label, text in _lines(figures):
        console.print(Text.assemble((f"{label:<10} ", "bold"), text))
    for warning in batch_warnings(figures):
        console.print(Text.assemble(("Warning    ", "bold"), (plain(warning), "yellow")))
    for failure in figures.failures:
        reason = f"{failure.queries:,} {failure.state}: {plain(failure.reason)} (e.g. {plain(failure.example)})"
        console.print(Text(f"{'':<11}{reason}", style="red"))
    if figures.failures:
        example = shlex.quote(f"{progress.public_id}/{plain(figures.failures[0].example)}")
        console.print(f"{'':<11}details: `pointsman explain {example}`", style="dim")
        console.print(f"{'':<11}to retry after a fix: `pointsman resume {progress.public_id}`", style="dim")


def exit_by_answers(figures: BatchFigures, held: QueriesHeld | None = None) -> None:
    """End a command that waited for a batch as failed if no query is answered. A few failed lines do not count as a
    failure.

    A used-up budget has its own exit code, because the batch has ended without the requested answers. Raises ``held``
    if queries are held.
    """
    if held is not None:
        raise held
    if not figures.progress.done:
        raise typer.Exit(ExitCode.FAILURE)
    if figures.over_budget:
        raise typer.Exit(ExitCode.OVER_BUDGET)


def _tiers(figures: BatchFigures) -> Table:
    grid = table(("tier",), ("answers", "share", "queries", "unaccepted", "calls", "cost", "p50/p95/p99 ms"))
    for tier in figures.tiers:
        share = tier.answered / figures.progress.done if figures.progress.done else 0.0
        grid.add_row(
            plain(tier.tier),
            f"{tier.answered:,}",
            f"{100 * share:.1f} %",
            f"{tier.queries:,}",
            f"{tier.unaccepted:,}",
            f"{tier.calls:,}",
            f"${tier.cost_usd:.6f}",
            "/".join(f"{ms:.0f}" for ms in tier.latency_ms) if tier.latency_ms else "–",
        )
    return grid


def _workloads(figures: BatchFigures) -> Table:
    grid = table(("workload",), ("queries", "share", "escalated", "cost", "per query", "right by labels"))
    for one in figures.workloads[:MOST_WORKLOADS]:
        grid.add_row(
            plain(one.workload or "without a name"),
            f"{one.queries:,}",
            f"{100 * one.queries / figures.progress.total:.1f} %",
            f"{one.escalated:,}",
            f"${one.cost_usd:.6f}",
            f"${one.cost_usd / one.queries:.6f}",
            "–" if one.grade is None else f"{100 * one.grade:.1f} % of {one.labels:,}",
        )
    if figures.unassigned_usd > _TINY_USD:
        grid.add_row("(grading, audits, routing)", "", "", "", f"${figures.unassigned_usd:.6f}", "", "", style="dim")
    return grid


def _lines(figures: BatchFigures) -> list[tuple[str, str]]:
    progress = figures.progress
    by = escalation_causes(figures)
    escalated = f"{progress.escalated:,} escalated{f' (by {by})' if by else ''}"
    counts = [f"{progress.done:,} answered", escalated, f"{progress.failed:,} failed"]
    if progress.cancelled:
        counts.append(f"{progress.cancelled:,} cancelled")
    if progress.finished < progress.total:
        held = f" ({progress.held:,} held)" if progress.held else ""
        counts.append(f"{progress.total - progress.finished:,} still open{held}")
    lines = [
        ("Queries", f"{progress.total:,}: {', '.join(counts)}"),
        ("Time", f"{duration(progress.wall_s)} ({progress.wall_s:.1f} s), {progress.queries_per_s:,.1f} queries/s"),
        ("Calls", _calls(figures)),
        *(("", sentence) for sentence in failures_by_cause(figures.failing)[:MOST_CAUSES]),
        ("Cost", _cost(figures)),
        ("Baseline", _baseline(figures)),
    ]
    if not figures.embed_calls:
        lines.append(("Saving", _saving(figures)))
    if (second := figures.second_baseline) is not None:
        compared = saving(second.saving_usd, second.saving_share)
        had = f"if {plain(second.model)} had answered {figures.answered_words} ({second.lengths.words})"
        lines.append(("", f"${second.cost_usd:.6f} {had}; saving {compared}"))
    lines += [("Lane", lane_line(lane)) for lane in figures.lanes]
    if figures.not_paid_queries:
        lines.append(("Not paid", not_paid(figures)))
    lines.append(("Quality", _quality(figures)))
    if figures.quality is not None and (lowest := lowest_workloads(figures.quality)):
        lines.append(("", plain(lowest)))
    if (share := figures.pilot_share) is not None and share >= LARGE_SHARE:
        lines.append(("", f"the pilot with its grading was {100 * share:.0f} % of the cost; {PAID_AGAIN}"))
    if (comparison := forecast_vs_actual(figures)) is not None:
        lines.append(("Forecast", _forecast(comparison, progress.cap_usd)))
    return lines


def lane_line(lane: LaneFigures) -> str:
    """Return the calls of a lane, and the saving."""
    of = f" in {plural(lane.provider_batches, 'provider batch', 'provider batches')}" if lane.provider_batches else ""
    still = f", {lane.open_calls:,} without a result yet" if lane.open_calls else ""
    share = f" ({100 * lane.saving_usd / lane.list_usd:.1f} % of its list price)" if lane.list_usd else ""
    return f"{lane.lane}: {plural(lane.calls, 'call')}{of}{still}; ${lane.saving_usd:.6f} saved{share}"


def not_paid(figures: BatchFigures) -> str:
    """Return what the queries that share another query's answer would have cost."""
    return (
        f"${figures.not_paid_usd:.6f} for {queries(figures.not_paid_queries)} that share the answer of an "
        "identical query; neither the cost nor the baseline counts them"
    )


def _calls(figures: BatchFigures) -> str:
    text = f"{figures.calls - figures.unsent_calls:,}, {figures.failed_calls - figures.unsent_calls:,} failed"
    if figures.unsent_calls:
        text += f"; {figures.unsent_calls:,} more were never sent"
    if figures.open_calls:
        text += f", {figures.open_calls:,} without an outcome yet (counted at their maximum cost)"
    if figures.latency_ms:
        p50, p95, p99 = figures.latency_ms
        text += f"; latency p50 {p50:,.0f} ms, p95 {p95:,.0f} ms, p99 {p99:,.0f} ms"
    return text


def _cost(figures: BatchFigures) -> str:
    text = f"${figures.cost_usd:.6f}"
    if figures.unconfirmed_usd > _TINY_USD:
        text += f", ${figures.unconfirmed_usd:.6f} of it {figures.unconfirmed_words}"
    text += f", with ${figures.router_cost_usd:.6f} for routing{_router_share(figures)}"
    if figures.unanswered_usd > _TINY_USD:
        text += f" and ${figures.unanswered_usd:.6f} for queries without an answer"
    return text


def _baseline(figures: BatchFigures) -> str:
    if figures.embed_calls:
        return f"none: {NO_BASELINE}"
    text = f"${figures.expected_baseline_usd:.6f}"
    if figures.baseline_is_guess:
        text = _not_known([figures.top_tier])
    if (between := figures.expected_baseline_range_usd) is not None:
        low, high = between
        text += f" (range ${low:.6f}–{high:.6f})"
    text += f" if {figures.baseline_model} had answered {figures.answered_words}"
    if figures.progress.done:
        text += f" ({figures.baseline_lengths.words})"
    if figures.unanswered_usd > _TINY_USD:
        text += f", with ${figures.unanswered_baseline_usd:.6f} for calls of the other queries"
    return text


def _router_share(figures: BatchFigures) -> str:
    share = figures.router_share_of_saving
    return "" if share is None else f" ({100 * share:.2f} % of the saving)"


def _saving(figures: BatchFigures) -> str:
    if figures.saving_range is None:
        return saving(figures.saving_usd, figures.saving_share)
    low, high = (100 * share for share in figures.saving_range)
    known = "not known" if figures.baseline_is_guess else saving(figures.saving_usd, figures.saving_share)
    of = "" if figures.saving_usd >= 0 else " of the saving"
    return f"{known}, range{of} {low:.1f} to {high:.1f} %"


def saving(saving_usd: float, share: float | None) -> str:
    """What a baseline saves or costs more, and its ``share`` of the baseline; None where there is none."""
    if share is None:
        return "none: no query was answered"
    if saving_usd < 0:
        return f"none: ${-saving_usd:.6f} ({-100 * share:.1f} %) more than the baseline"
    return f"${saving_usd:.6f} ({100 * share:.1f} %)"


def _quality(figures: BatchFigures) -> str:
    """Return the known facts about the quality, and what is unknown."""
    quality = figures.quality
    below = sum(tier.answered for tier in figures.tiers if tier.tier != figures.top_tier)
    if quality is None:
        if not figures.progress.done:
            return "none: no query was answered"
        if figures.embed_calls:
            return "not judged, because embeddings have no right or wrong"
        if not below:
            known = f"that of {figures.top_tier}, which answered {figures.answered_words}"
            return f"{known}; `--quality 0.95` measures what can be saved"
        answers = plural(below, "answer that is", "answers that are")
        known = f"not measured for the {answers} not from {figures.top_tier}"
        return (
            f"{known}; `--quality 0.95` certifies a floor on a sample, or `pointsman label` measures the quality "
            "by labels"
        )
    floor = f"floor {quality.floor:.2f} of {figures.top_tier} at {100 * quality.confidence:.0f} % confidence"
    certificate = quality.certificate
    if certificate is None:
        return f"{floor}: the pilot is not decided yet"
    if quality.breached_at is not None:
        return f"{floor}: audits showed that it was broken, so {figures.top_tier} answered the rest"
    pilot = _pilot(quality, certificate)
    if certificate["outcome"] != "certified":
        alone = f", so {TOP_ALONE}" if quality.is_top_alone or not below else ""
        paid = f"; {pilot}" if quality.pilot_queries else ""
        return f"{floor}: nothing certified ({plain(certificate['reason'])}){alone}{paid}"
    if quality.standing == "departed":
        return f"{floor}: {departed(quality.departures)}; {pilot}"
    measured, low = 100 * (quality.measured or 0.0), 100 * (quality.interval or (0.0, 1.0))[0]
    audits = f"; {plural(quality.audits, 'audit')}" if quality.audits else ""
    policy = plain(quality.policy or "")
    text = f"{floor}: certified ({policy}); measured {measured:.1f} %, at least {low:.1f} %; {pilot}{audits}"
    if figures.progress.cancelled and (saving := certificate.get("net_saving")) is not None:
        more_or_less = f"{100 * abs(saving):.1f} % {'less' if saving >= 0 else 'more'}"
        text += f"; expected for the whole batch, its pilot included: {more_or_less} than {figures.top_tier} alone"
    return text


def _pilot(quality: QualityFigures, certificate: Mapping[str, Any]) -> str:
    pilot = f"pilot of {quality.pilot_queries:,}, {pilot_cost(quality.pilot_usd, quality.grade_usd)}"
    if graders := certificate.get("grader", {}).get("mix"):
        pilot += f", graded by {' and '.join(map(plain, graders))}"
    if outside := outside_certificate(certificate):
        pilot += f"; {outside}"
    return pilot


def pilot_cost(answers_usd: float, grade_usd: float) -> str:
    """The cost of a pilot's answers, and of grading them if that needs calls."""
    if not grade_usd:
        return f"${answers_usd:.6f}"
    return f"${answers_usd:.6f} + grading ${grade_usd:.6f}"


def _forecast(comparison: Mapping[str, Any], cap_usd: float | None) -> str:
    cost, wall, rest = comparison["cost_usd"], comparison["wall_s"], comparison["rest"]
    known = f"{expected_cost(cost, rest)} (range ${cost['low']:.6f}–{cost['high']:.6f})"
    if cap_usd is not None and cap_usd < cost["high"]:
        known += f"; the budget stops at ${cap_usd:.6f}"
    if rest is not None or cost["unmeasured"]:
        actual = _within(cost, "cost")
    else:
        is_whole = cost["within"] is not None
        deviation = _deviation(cost["usual"], cost["expected"]) if is_whole and cost["expected"] else ""
        actual = f"; actual cost {deviation}" if deviation else ""
    if actual and cost["unconfirmed"] > _TINY_USD:
        actual += f", with ${cost['unconfirmed']:.6f} of unconfirmed calls at their usual cost"
    wall_range = f"range {duration(wall['low'])}–{duration(wall['high'])}"
    found = f"{known}{actual}; time {duration(wall['expected'])} ({wall_range}){_within(wall, 'time')}"
    if rest is not None:
        return found
    answers = round_to_sum({tier: count["expected"] for tier, count in comparison["by_tier"].items()})
    mix = ", ".join(f"{plain(tier)} {count:,.0f}" for tier, count in answers.items())
    return f"{found}; {mix}; {comparison['escalated']['expected']:,.0f} escalated"


def expected_cost(cost: Mapping[str, Any], rest: Mapping[str, Any] | None = None) -> str:
    """The expected figure of a forecast, with a pilot between its bounds by who answers its ``rest``.

    No figure where it is a guess, as tiers gave too few answers to know how long theirs are.
    """
    if unmeasured := cost["unmeasured"]:
        return _not_known(unmeasured)
    expected = f"${cost['expected']:.6f}"
    if rest is None:
        return expected
    least = f"${rest['least_usd']:.6f} (the pilot, and {plain(rest['least_tier'])} alone for the rest)"
    return f"{expected}, between {least} and ${rest['most_usd']:.6f} ({plain(rest['most_tier'])} alone for the rest)"


def _not_known(tiers: Sequence[str]) -> str:
    *others, last = map(plain, tiers)
    have = f"{', '.join(others)} and {last} have each" if others else f"{last} has"
    return f"not known until {have} given {LEAST_ANSWERS} answers"


def _within(figure: Mapping[str, Any], name: str) -> str:
    """Say whether the actual figure is within its range; "" while this is not known."""
    if figure["within"] is None:
        return ""
    held_s = figure.get("held_s", 0.0)
    compared = figure.get("usual", figure["actual"] - held_s)
    where = "within" if figure["within"] else "below" if compared < figure["low"] else "above"
    waited = f" without the {duration(held_s)} in which it was held" if held_s >= 1 else ""
    return f"; actual {name}{waited} {where} its range"


def _deviation(actual: float, expected: float) -> str:
    """Return a text such as ``82.9 % lower``."""
    percent = round(100 * (actual / expected - 1), 1)
    return "as forecast" if percent == 0 else f"{abs(percent):,.1f} % {'lower' if percent < 0 else 'higher'}"
