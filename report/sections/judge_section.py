"""The judge's confidence, and the reasons for rejection."""

from db.reports.batch_report import BatchReport
from report.charts.bars import confidence_histogram, tenth_label
from report.document import Figure, Section, Table


def judge(report: BatchReport) -> Section:
    """Return answers by confidence, and the reasons for rejection, or a sentence without answers."""
    if report.figures.embed_calls:
        return Section("judge", "The judge", ["The answers are vectors, which are not judged."])
    bins = report.confidences
    answers = sum(bin_.answers for bin_ in bins)
    confident = sum(bin_.answers for bin_ in bins if bin_.tenth is not None)
    paragraphs = [
        f"Answers with a confidence: {confident:,} of {answers:,}. Its source is the one that the fleet names for the "
        "tier. Only the validators check the other answers."
    ]
    if any(source.calibrated < source.judged for source in report.sources if source.source != "none"):
        paragraphs.append(
            "A confidence that is not calibrated is a score. The threshold escalates answers with a low score, "
            "but the score does not say how good the other answers are."
        )
    if not answers:
        return Section("judge", "The judge", ["There is no answer yet."])
    rows = [
        [
            tenth_label(tenth),
            f"{sum(bin_.answers for bin_ in bins if bin_.tenth == tenth):,}",
            f"{sum(bin_.unaccepted for bin_ in bins if bin_.tenth == tenth):,}",
        ]
        for tenth in sorted({bin_.tenth for bin_ in bins}, key=lambda tenth: 10 if tenth is None else tenth)
    ]
    columns = ["confidence", "answers", "not accepted"]
    tables = [Table("Answers by confidence", columns, rows, frozenset({"confidence"}))]
    if report.sources:
        rows = [
            [
                source.tier,
                source.source.replace("_", " "),
                f"{source.judged:,}",
                f"{source.calibrated:,}",
                f"{source.passed_on:,}",
            ]
            for source in report.sources
        ]
        columns = ["tier", "source", "answers", "calibrated", "not accepted"]
        tables.append(Table("Sources of the confidence", columns, rows, frozenset({"tier", "source"})))
    if report.rejections:
        rows = [[cause.tier, cause.reason.replace("_", " "), f"{cause.answers:,}"] for cause in report.rejections]
        caption = "Reasons for rejection. An answer can have several."
        tables.append(Table(caption, ["tier", "reason", "answers"], rows, frozenset({"tier", "reason"})))
    drawing = Figure(confidence_histogram(bins, report.tiers), "Answers by the judge's confidence.")
    return Section("judge", "The judge", paragraphs, [drawing], tables)
