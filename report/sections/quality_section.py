"""Cost and quality beside controls: what it cost, and how well each policy is expected to have answered."""

from db.reports.batch_report import BatchReport, labelled_right
from report.charts.cost_quality import cost_quality
from report.document import Figure, Section, Table
from report.formatting import percent, percent_of, usd


def quality(account: BatchReport) -> Section:
    """The batch beside each control; drawn where the router logged what it expected."""
    figures = account.figures
    words = [
        "Controls are policies that do not look at the query. Their costs are reckoned for the same answers: "
        "what the tier really charged where it was asked, else the answer's tokens at the price of its first model."
    ]
    drawn: list[Figure] = []
    if account.picture is None:
        words.append(
            "How well each policy had answered is not drawn: the router logged no expectation for these queries."
        )
    else:
        picture = account.picture
        words.append(
            f"Quality in the drawing is not measured. It is what the router expected of each tier, for the "
            f"{picture.queries:,} of {figures.progress.done:,} answered queries of which it logged that; "
            "one yardstick for all, in which the judge's verdicts count for nothing."
        )
        drawn.append(
            Figure(
                cost_quality(picture, account.tiers),
                "Cost and expected quality. Up and to the left is better; the dashed line is every fixed split "
                "between the bottom and the top tier.",
            )
        )
    own = figures.cost_usd
    drawn_too = (*account.picture.alone, *account.picture.mixed) if account.picture else ()
    places = {place.name: place for place in drawn_too}
    rows = [
        [
            "this batch",
            usd(own),
            percent_of(own, figures.baseline_cost_usd),
            percent(account.picture.batch.well) if account.picture else "–",
        ],
        *(
            [
                each.name,
                usd(each.cost_usd),
                percent_of(each.cost_usd, figures.baseline_cost_usd),
                percent(places[each.name].well) if each.name in places else "–",
            ]
            for each in account.controls
        ),
    ]
    expected = "expected well" if account.picture is None else f"expected well, of {account.picture.queries:,}"
    labelled = labelled_right(account.labels)
    if labelled is not None:
        words.append(
            f"Measured by labels: {percent(labelled[1])} of {labelled[0]:,} labelled answers that stood are right. "
            "Nobody labelled what the controls had answered, so they have no such figure."
        )
    columns = ["policy", "cost", f"of always {figures.top_tier}", expected]
    table = Table("This batch and its controls", columns, rows, frozenset({"policy"}))
    return Section("quality", "Cost and quality", words, drawn, [table])
