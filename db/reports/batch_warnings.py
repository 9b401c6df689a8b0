"""What a user has to know of a batch's results before using them, in plain words with the fix."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from db.reports.batch_stats import BatchFigures, CutOffAnswers, UnansweredLane
from routing.answer_lengths import LEAST_ANSWERS

MOST_OF_BUDGET: Final = 0.5
"""Maximum share of a budget that a pilot may be forecast to cost. A larger one leaves too little for the rest."""


def batch_warnings(figures: BatchFigures) -> list[str]:
    """One sentence each, without a full stop; empty for most batches."""
    found = list(_over_budget(figures))
    if figures.progress.in_pilot:
        found += pilot_warnings(figures.plan, figures.progress.cap_usd)
    if figures.lowered:
        found.append(
            f"the budget lowered {figures.lowered:,} of {figures.progress.total:,} queries to a cheaper tier, or "
            "kept them there, so their quality is unknown. fix: set a larger budget"
        )
    found += [_cut_off(answers) for answers in figures.cut_off]
    found += [_unanswered(lane) for lane in figures.unanswered_lanes]
    return found


def pilot_warnings(plan: Mapping[str, Any] | None, cap_usd: float | None) -> list[str]:
    """Return what is wrong with the pilot of this forecast and with a budget of ``cap_usd`` for it, each with the
    fix."""
    if plan is None:
        return []
    if (skipped := plan.get("skipped_pilot")) is not None:
        return [no_gain(skipped)]
    if (reason := plan.get("too_small")) is not None:
        return [
            f"no pilot: {reason}. The default policy routes the batch, without a certified floor. fix: more queries in "
            "one batch, a lower floor, or no quality floor"
        ]
    if plan["pilot"] is None:
        return []
    found = (_saves_nothing(plan), None if cap_usd is None else _strains_budget(plan, cap_usd))
    return [text for text in found if text]


def no_gain(skipped: Mapping[str, Any]) -> str:
    """Return why a batch has no pilot, with the fix, from ``skipped_pilot`` of its plan."""
    enough = skipped["pays_from"]
    larger = (
        "no quality floor" if enough is None else f"about {_rounded_up(enough):,} such queries or more in one batch"
    )
    return (
        f"no pilot: one of {skipped['queries']:,} queries{_costs(skipped)}, while the top tier alone costs "
        f"${skipped['top_usd']:.6f}. The default policy routes the batch for ${skipped['default_usd']:.6f}, without a "
        f"certified floor. fix: {larger}{_cheaper_judge(skipped)}, or a pilot anyway (--pilot N)"
    )


def _saves_nothing(plan: Mapping[str, Any]) -> str | None:
    pilot = plan["pilot"]
    if not pilot["cannot_pay"]:
        return None
    return (
        f"with {plan['total']:,} queries this floor saves nothing: the pilot{_costs(pilot)}, while the "
        f"top tier alone costs ${pilot['rest']['alone_usd']:.6f}. fix: more queries in one batch"
        f"{_cheaper_judge(pilot)}, a smaller pilot (--pilot N), or no quality floor"
    )


def _costs(pilot: Mapping[str, Any]) -> str:
    graded = " with its grading" if pilot["grade_cost_usd"] > 0 else ""
    return (
        f"{graded} is forecast to cost ${pilot['cost_usd']:.6f}, and the batch ${pilot['hoped_usd']:.6f} with the rest "
        f"{pilot['hoped_by']}"
    )


def _cheaper_judge(pilot: Mapping[str, Any]) -> str:
    return ", a cheaper judge" if pilot["grade_cost_usd"] > 0 else ""


def _rounded_up(number: int) -> int:
    """Return ``number`` rounded up to two digits."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / unit) * unit


def _strains_budget(plan: Mapping[str, Any], cap_usd: float) -> str | None:
    pilot = plan["pilot"]
    rest, unmeasured = pilot["rest"], plan["cost_usd"]["unmeasured"]
    least_usd, most_usd = (rest["least_usd"], rest["most_usd"]) if rest else (pilot["cost_usd"], pilot["cost_usd"])
    if most_usd <= cap_usd or (least_usd <= cap_usd and pilot["cost_usd"] <= MOST_OF_BUDGET * cap_usd):
        return None
    guess = f" (a guess until {' and '.join(unmeasured)} gave {LEAST_ANSWERS} answers each)" if unmeasured else ""
    graded = " with its grading" if pilot["grade_cost_usd"] else ""
    text = f"the pilot{graded} is forecast to cost ${pilot['cost_usd']:.6f}{guess}, against a budget of ${cap_usd:.6f}"
    if rest:
        text += (
            f"; the batch then costs ${least_usd:.6f} ({rest['least_tier']} alone answers the rest) to "
            f"${most_usd:.6f} ({rest['most_tier']} alone)"
        )
    cents = math.ceil(round(100 * most_usd, 6)) / 100
    return (
        f"{text}, so the budget will probably leave queries without an answer. fix: use a budget of ${cents:.2f}, a "
        "smaller pilot (--pilot N), which certifies less, or no quality floor"
    )


def _over_budget(figures: BatchFigures) -> Iterator[str]:
    if not figures.over_budget:
        return
    progress, cap_usd = figures.progress, figures.progress.cap_usd
    name, raised = "today's budget", "raise it"
    if cap_usd is not None:
        name = f"the budget of ${f'{cap_usd:,.6f}'.rstrip('0').rstrip('.')}"
        raised = f"`pointsman budget {progress.public_id} --raise-to USD`"
    yield (
        f"{figures.over_budget:,} of {progress.total:,} queries ended without an answer, because {name} does not "
        f"cover their calls. Each call reserves its maximum cost; ${figures.cost_usd:.6f} was spent. "
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
        f"queries that the batch lane of {lane.deployment} did not answer: {lane.queries:,}. They used another lane. "
        f"Cause: {lane.cause}. fix: run `pointsman check-fleet --call`, which tests the lane"
    )
