"""Cost and quality of the batch, compared with baselines."""

from collections.abc import Mapping
from typing import Any, Final

from db.reports.batch_quality import QualityFigures, outside_certificate
from db.reports.batch_report import BatchReport, labelled_right
from db.reports.batch_stats import NO_BASELINE, BatchFigures
from report.charts.cost_quality import cost_quality
from report.document import Figure, Section, Table
from report.formatting import percent, percent_of, plain, quality_interval, usd
from report.headline import TOP_ALONE, standing_of

BY_WORKLOAD: Final = "Quality on the pilot's sample by workload (not certified separately)"
_NAMES: Final = frozenset({"workload", "the floor"})


def quality(report: BatchReport) -> Section:
    """Return the batch compared with each baseline, with a chart if the router logged its expectations."""
    figures = report.figures
    if figures.embed_calls:
        return Section(
            "quality", "Cost and quality", [f"There is no baseline: {NO_BASELINE}. Embeddings are not judged."]
        )
    # Measured quality replaces the router's expectation.
    floor = figures.quality
    measured = floor is not None and floor.measured is not None
    chart = None if measured else report.picture
    paragraphs = [
        "Baselines are policies that ignore the query. For each query, a baseline counts the actual cost of its tier "
        "if that tier was called. Otherwise it counts the tokens of the delivered answer at the price of the tier's "
        "first model, scaled by how much longer or shorter that tier's answers are, if this is known. Always "
        f"{plain(figures.top_tier)}: {figures.baseline_lengths.words}."
    ]
    if figures.baseline_is_guess:
        paragraphs.append(
            f"{plain(figures.top_tier)} gave too few answers to estimate how long its answers are, so its cost is a "
            "guess."
        )
    drawings: list[Figure] = []
    expected: dict[str, str] = {}
    if floor is not None and floor.is_top_alone:
        paragraphs.append(f"Nothing was certified: the batch is {TOP_ALONE}. See the table Quality floor.")
    elif measured:
        paragraphs.append("Quality is measured relative to the top tier's answers. See the table Quality floor.")
        if floor is not None and any(one["quality"] > 1.0 for one in floor.workloads):
            paragraphs.append(
                "A quality above 100 % means that the graded answers were better than the top tier's. Their interval "
                "has no upper end."
            )
    elif chart is None:
        paragraphs.append("There is no chart of quality, because the router logged no expectations for these queries.")
    else:
        paragraphs.append(
            f"Quality in the chart is not measured. It is what the router expected of each tier, for the "
            f"{chart.queries:,} of {figures.progress.done:,} answered queries with a logged expectation. The judge's "
            "verdicts are not part of it."
        )
        caption = (
            "Cost and expected quality. Up and to the left is better; the dashed line is every fixed split between "
            "the bottom and the top tier."
        )
        drawings.append(Figure(cost_quality(chart, report.tiers), caption))
        expected = {point.name: percent(point.well) for point in (chart.batch, *chart.alone, *chart.mixed)}
    costs = [("this batch", figures.cost_usd), *((policy.name, policy.cost_usd) for policy in report.controls)]
    rows = [
        [name, usd(cost), _of_baseline(cost, figures), *([expected.get(name, "–")] if chart else [])]
        for name, cost in costs
    ]
    if (labelled := labelled_right(report.labels)) is not None:
        paragraphs.append(
            f"Measured by labels: {percent(labelled[1])} of {labelled[0]:,} labeled final answers are right. The "
            "baselines have no labels, so they have no such figure."
        )
    tables = _certificate(report)
    columns = ["policy", "cost", f"of always {figures.top_tier}"]
    if chart is not None:
        columns.append(f"expected quality, of {chart.queries:,}")
    table = Table("This batch and its baselines", columns, rows, frozenset({"policy"}))
    return Section("quality", "Cost and quality", paragraphs, drawings, [table, *tables])


def _of_baseline(cost_usd: float, figures: BatchFigures) -> str:
    return "not known" if figures.baseline_is_guess else percent_of(cost_usd, figures.baseline_cost_usd)


def _certificate(report: BatchReport) -> list[Table]:
    """Return the quality floor, the certified policy and its cost."""
    quality = report.figures.quality
    if quality is None:
        return []
    certificate = quality.certificate or {}
    measured = "measured quality of the policy" if quality.standing == "departed" else "measured quality"
    found = [
        [measured, "–" if quality.measured is None else percent(quality.measured)],
        [
            "its interval, 95 %",
            "–" if quality.interval is None else quality_interval(quality.measured, quality.interval),
        ],
        [
            "measured by",
            "–" if quality.measured is None else "the pilot" if quality.audited_quality is None else "audits",
        ],
    ]
    rows = [
        ["floor, relative to the top tier", percent(quality.floor)],
        ["confidence", percent(quality.confidence)],
        ["outcome", standing_of(quality)],
        ["policy", quality.policy or "–"],
        *([["quality", TOP_ALONE]] if quality.is_top_alone else found),
        ["sampled queries", f"{quality.pilot_queries:,}"],
        ["graded by", ", ".join(certificate.get("grader", {}).get("mix", {})) or "–"],
        ["cost of the pilot", usd(quality.pilot_usd)],
        ["cost of grading", usd(quality.grade_usd)],
        ["audits", f"{quality.audits:,}, {usd(quality.audit_usd)}"],
    ]
    if judge := certificate.get("judge"):
        rows.append(["pairs judged in both orders", f"{judge['pairs']:,}, {judge['abstained']:,} abstained"])
        rows.append(["pairs in which the judge contradicts itself", f"{judge['disagreeing']:,}"])
        rows.append(["maximum losses that this may hide", percent(certificate.get("grader", {}).get("missed", 1.0))])
        rows += _by_people(quality)
    if command := certificate.get("command"):
        failed = f"; {command['error']}" if command["error"] else ""
        rows.append(["answers graded by the command", f"{command['graded']:,}{failed}"])
    if outside := outside_certificate(certificate):
        rows.append(["outside the certificate", outside])
    if reason := certificate.get("reason"):
        rows.append(["reason", str(reason)])
    if quality.breached_at is not None:
        rows.append(["broken since", f"{quality.breached_at:%Y-%m-%d %H:%M:%S} UTC"])
    tables = [Table("Quality floor", ["figure", "value"], rows, frozenset({"figure", "value"}))]
    if quality.workloads:
        columns = ["workload", "sampled queries", "quality of the policy", "its interval, 95 %", "the floor"]
        tables.append(Table(BY_WORKLOAD, columns, [_workload(one, quality) for one in quality.workloads], _NAMES))
    return tables


def _workload(one: Mapping[str, Any], quality: QualityFigures) -> list[str]:
    low, high = one["interval"]
    standing = "below it" if high < quality.floor else "kept" if low >= quality.floor else "not known"
    return [
        one["workload"] or "without a name",
        f"{one['queries']:,}",
        percent(one["quality"]),
        quality_interval(one["quality"], (low, high)),
        standing,
    ]


def _by_people(quality: QualityFigures) -> list[list[str]]:
    """Return the results of people's labels of judged pairs on the judge and the floor."""
    found = quality.judge_agreement
    if found is None:
        return [["judged pairs labeled by people", 'none yet; label them at /label, "compared by the judge"']]
    agreed = f"{found.agreed:,} of {found.labeled:,}, {' to '.join(map(percent, found.interval))}"
    rows = [
        ["judged pairs labeled by people", f"{found.labeled:,} of {found.offered:,}"],
        ["pairs in which the judge agrees", agreed],
    ]
    if found.missed is not None:
        rows.append(["maximum losses that people see and the judge misses", percent(found.missed)])
    if (bound := quality.labeled_bound) is not None:
        rows.append(["minimum quality by people's labels", percent(bound)])
    return rows
