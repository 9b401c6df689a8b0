"""The judge's confidence, and the reasons of rejections."""

from db.reports.batch_report import BatchReport
from report.charts.bars import confidence_histogram, tenth_label
from report.document import Figure, Section, Table


def judge(report: BatchReport) -> Section:
    """Answers by confidence, and the reasons of rejections; a sentence where there is no answer yet."""
    bins = report.confidences
    answers = sum(bin_.answers for bin_ in bins)
    if not answers:
        return Section("judge", "The judge", ["There is no answer yet."])
    confident = sum(bin_.answers for bin_ in bins if bin_.tenth is not None)
    paragraph = (
        f"{confident:,} of {answers:,} answers have a confidence, from a trained scorer or from the model's token "
        "probabilities. Only the validators check the others."
    )
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
    if report.rejections:
        rows = [[cause.tier, cause.reason.replace("_", " "), f"{cause.answers:,}"] for cause in report.rejections]
        caption = "Reasons of rejections; an answer can have several"
        tables.append(Table(caption, ["tier", "reason", "answers"], rows, frozenset({"tier", "reason"})))
    drawing = Figure(confidence_histogram(bins, report.tiers), "Answers by the judge's confidence.")
    return Section("judge", "The judge", [paragraph], [drawing], tables)
