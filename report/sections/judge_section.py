"""How sure the judge was, and why it rejected answers."""

from db.reports.batch_report import BatchReport
from report.charts.bars import confidence_histogram
from report.document import Figure, Section, Table


def judge(account: BatchReport) -> Section:
    """Answers by confidence, and the reasons of rejections; a sentence where there is no answer yet."""
    answers = sum(each.answers for each in account.confidences)
    told = sum(each.answers for each in account.confidences if each.tenth is not None)
    words = [
        f"{told:,} of {answers:,} answers have a confidence, from the source that the fleet names for their tier. An "
        "answer without one is judged by the validators alone."
    ]
    if any(each.calibrated < each.judged for each in account.sources if each.source != "none"):
        words.append(
            "A confidence that is not calibrated is a score: it sends doubtful answers up, and says nothing of the "
            "quality of those that stood."
        )
    tables = [
        Table(
            "Answers by confidence",
            ["confidence", "answers", "of them not accepted"],
            [
                [
                    "not told" if tenth is None else f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}",
                    f"{sum(each.answers for each in account.confidences if each.tenth == tenth):,}",
                    f"{sum(each.unaccepted for each in account.confidences if each.tenth == tenth):,}",
                ]
                for tenth in sorted({b.tenth for b in account.confidences}, key=lambda t: 10 if t is None else t)
            ],
            frozenset({"confidence"}),
        )
    ]
    if account.sources:
        tables.append(
            Table(
                "Where the confidence is from",
                ["tier", "source", "answers", "calibrated", "not accepted"],
                [
                    [
                        each.tier,
                        each.source.replace("_", " "),
                        f"{each.judged:,}",
                        f"{each.calibrated:,}",
                        f"{each.passed_on:,}",
                    ]
                    for each in account.sources
                ],
                frozenset({"tier", "source"}),
            )
        )
    if account.rejections:
        tables.append(
            Table(
                "Why answers were rejected; one can have several reasons",
                ["tier", "reason", "answers"],
                [[each.tier, each.reason.replace("_", " "), f"{each.answers:,}"] for each in account.rejections],
                frozenset({"tier", "reason"}),
            )
        )
    if not answers:
        return Section("judge", "The judge", ["There is no answer yet."])
    drawing = Figure(confidence_histogram(account.confidences, account.tiers), "Answers by the judge's confidence.")
    return Section("judge", "The judge", words, [drawing], tables)
