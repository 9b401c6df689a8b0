"""What a user has to know of a batch's results before using them, in plain words with the fix."""

from collections.abc import Iterator

from db.reports.batch_stats import BatchFigures, CutOffAnswers, UnansweredLane


def batch_warnings(figures: BatchFigures) -> list[str]:
    """One sentence each, without a full stop; empty for most batches."""
    found = list(_over_budget(figures))
    if figures.lowered:
        found.append(
            f"the budget lowered {figures.lowered:,} of {figures.progress.total:,} queries to a cheaper tier, or "
            "kept them there, so their quality is unknown. fix: set a larger budget"
        )
    found += [_cut_off(answers) for answers in figures.cut_off]
    found += [_unanswered(lane) for lane in figures.unanswered_lanes]
    return found


def _over_budget(figures: BatchFigures) -> Iterator[str]:
    if not figures.over_budget:
        return
    progress, cap_usd = figures.progress, figures.progress.cap_usd
    name, raised = "the budget of the day", "raise it"
    if cap_usd is not None:
        name = f"the budget of ${f'{cap_usd:,.6f}'.rstrip('0').rstrip('.')}"
        raised = f"`pointsman budget {progress.public_id} --raise-to USD`"
    yield (
        f"{figures.over_budget:,} of {progress.total:,} queries ended without an answer, because {name} has no room "
        f"for their calls, each of which reserves its maximum cost (${figures.cost_usd:.6f} was spent). "
        f"fix: {raised}, then run `pointsman resume {progress.public_id}`; max_tokens in the lines reduces the "
        "reservations"
    )


def _cut_off(answers: CutOffAnswers) -> str:
    count = f"{answers.answers:,} {'answer ends' if answers.answers == 1 else 'answers end'} in the middle"
    where = f"{answers.cap_field} of the line"
    fix = "raise it there"
    if answers.cap_field is None:
        where = f"max_output_tokens of {answers.deployment}, or by its server"
        fix = "raise it in the fleet, or the length that the server allows"
    return f"{count} (e.g. {answers.example}): cut off at {where}. fix: {fix}"


def _unanswered(lane: UnansweredLane) -> str:
    return (
        f"the batch lane of {lane.deployment} gave no answer to {lane.queries:,} queries, so they used another "
        f"lane: {lane.cause}. fix: `pointsman check-fleet --call` tests the lane"
    )
