"""The grades of a sample's answers relative to their references, by one grader per batch."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from evaluation.graders.command_grader import CommandItem, GraderOutputError
from evaluation.graders.grader_choice import choose_grader
from evaluation.graders.llm_judge import JudgePair, inconsistency, judged_loss
from evaluation.graders.text_graders import GraderKind, exact_match, grader
from routing.fleet import Fleet
from routing.pilot import GraderChoice, TierAnswer
from tasks.pilot.graded_sample import GradedSample
from tasks.pilot.grading_command import run_command
from tasks.pilot.judging import AskedPair, JudgeReplies, Verdicts, ask_judge
from tasks.pilot.sample import SampledQuery
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

PAIRS_TO_LABEL: Final = 30
"""The number of judged pairs of a pilot that people may label, to measure how often the judge agrees with them."""


def grader_kind(sample: Sequence[SampledQuery], chosen: GraderChoice | None, fleet: Fleet) -> GraderKind:
    """Return the kind of grader for ``sample``: the chosen one, else by the expected answers or the form of the
    references."""
    if chosen not in (None, GraderChoice.AGREEMENT):
        return GraderKind(str(chosen))
    has_judge = chosen is None and bool(fleet.judges)
    references, expects = [query.reference for query in sample], [query.expects for query in sample]
    kind = choose_grader(references, expects=expects, has_judge=has_judge)
    # By texts alone, the share of common words: it understates agreement and certifies too little.
    return GraderKind.TOKEN_F1 if kind is GraderKind.JUDGE and not has_judge else kind


async def grade_sample(
    sample: Sequence[SampledQuery],
    kind: GraderKind,
    *,
    known: Verdicts,
    batch_id: int,
    epoch: int,
    context: WorkerContext,
) -> GradedSample:
    """Grade each answer by ``kind`` against the line's expected answer, else against the top tier's.

    An empty answer, which no validator accepted, has grade 0. An answer without a grade from a judge or a command
    counts as a loss. ``known``: the judge's verdicts so far; ``epoch``: of the pilot's decision, 0 for an audit. Raises
    DBAPIError.
    """
    match kind:
        case GraderKind.JUDGE:
            pairs = [AskedPair(query.query_id, pair) for query in sample for pair in judge_pairs_of(query)]
            replies = await ask_judge(pairs, known=known, batch_id=batch_id, epoch=epoch, context=context)
            return judged_sample(sample, replies)
        case GraderKind.COMMAND:
            return await asyncio.to_thread(_by_command, sample, context.fleet)
        case _:
            return await asyncio.to_thread(_by_text, sample, kind)


def _by_text(sample: Sequence[SampledQuery], kind: GraderKind) -> GradedSample:
    compare = grader(kind)
    grades = [
        [
            1.0 if _is_reference(query, answer) else compare(answer.text, query.reference) if answer.text else 0.0
            for answer in query.answers
        ]
        for query in sample
    ]
    return GradedSample(kind, grades)


def _is_reference(query: SampledQuery, answer: TierAnswer) -> bool:
    return query.gold is None and answer is query.answers[-1]


def _worst(query: SampledQuery, answer: TierAnswer) -> float:
    """Return the worst case for an answer without a grade: the top tier's answer is right, and any other is wrong."""
    return float(answer is query.answers[-1])


def _needs_no_judge(query: SampledQuery, answer: TierAnswer) -> bool:
    return not answer.text or _is_reference(query, answer) or bool(exact_match(answer.text, query.reference))


def judge_pairs_of(query: SampledQuery) -> list[JudgePair]:
    """Return what the judge is asked about a query, without answers that are equal to the reference or empty."""
    return [
        JudgePair(query.text, answer.text, query.reference, query.system)
        for answer in query.answers
        if not _needs_no_judge(query, answer)
    ]


def judged_sample(sample: Sequence[SampledQuery], replies: JudgeReplies) -> GradedSample:
    """Return the grades from ``replies``. An answer can be better than another model's answer, but not than an expected
    one."""
    verdicts = replies.verdicts
    abstained, unpaid, same, unreached = 0, 0, 0, False
    grades = []
    found: list[float] = []
    judged: dict[str, dict[str, Any]] = {}
    for query in sample:
        own = []
        for answer in query.answers:
            if _needs_no_judge(query, answer):
                same += bool(answer.text) and not _is_reference(query, answer)
                own.append(float(bool(answer.text)))
                continue
            digest = JudgePair(query.text, answer.text, query.reference, query.system).digest
            first, second = verdicts.get((digest, True)), verdicts.get((digest, False))
            if first is None or second is None:
                is_unpaid = digest in replies.unpaid
                unpaid += is_unpaid
                abstained += not is_unpaid
                unreached |= digest not in replies.refused
                own.append(_worst(query, answer))
                continue
            found.append(inconsistency(first, second))
            loss = judged_loss(first, second)
            own.append(1.0 - (loss if query.gold is None else max(loss, 0.0)))
            reference = query.answers[-1].tier if query.gold is None else None
            judged[digest] = {"query_id": query.query_id, "tier": answer.tier, "reference": reference, "loss": loss}
        grades.append(own)
    notes = {
        "pairs": len(found),
        "disagreeing": sum(share > 0 for share in found),
        "inconsistency": sum(found) / len(found) if found else None,
        "abstained": abstained,
        "unpaid": unpaid,
        "same_text": same,
        # By the digests, which are random.
        "to_label": [judged[digest] for digest in sorted(judged)[:PAIRS_TO_LABEL]],
    }
    return GradedSample(GraderKind.JUDGE, grades, abstained, unreached, found, {"judge": notes})


def _by_command(sample: Sequence[SampledQuery], fleet: Fleet) -> GradedSample:
    items = {
        f"{query.query_id}/{answer.tier}": CommandItem(
            f"{query.query_id}/{answer.tier}", query.text, answer.text, query.reference
        )
        for query in sample
        for answer in query.answers
        if answer.text
    }
    found: Mapping[str, float] = {}
    error_text = None
    try:
        found = run_command(fleet.quality.command, list(items.values()), timeout_s=fleet.quality.command_timeout_s)
    except GraderOutputError as error:
        # No grade at all: nothing is certified, and the report says why.
        log.warning("grading_command_failed", error=str(error))
        error_text = str(error)
    grades = [
        [
            found.get(f"{query.query_id}/{answer.tier}", _worst(query, answer) if answer.text else 0.0)
            for answer in query.answers
        ]
        for query in sample
    ]
    abstained = len(items) - len(found)
    notes = {"command": {"graded": len(found), "abstained": abstained, "error": error_text}}
    return GradedSample(GraderKind.COMMAND, grades, abstained, error_text is not None, notes=notes)
