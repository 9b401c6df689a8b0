"""Asking the LLM judge about pairs of answers: each in both orders, several to a call, each call in the ledger."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import orjson
import structlog

from db.pilots import Pilots
from evaluation.graders.llm_judge import PAIRS_PER_CALL, JudgePair, JudgeVerdict, judge_body, read_verdicts
from routing.outcome import Completion, Failure
from tasks.batch_call import call_for_batch
from tasks.pilot.sample import text_of
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

ATTEMPTS: Final = 3
"""Calls for the same pairs that budgets or failures may take, before the judge abstains."""

WAIT_S: Final = 1.0
"""Before the second attempt; twice as long before the third."""

LIMIT_WAIT_S: Final = 900.0
"""For a limit of the judge, before each attempt: a sample that was paid for is not given up for a minute's quota."""

SHORT_WAIT_S: Final = 2.0
"""The same where another judge can be asked, or an audit is graded, which may be left out."""

MOST_LIMITS: Final = 20
"""Replies that say no more than "too many requests" and count as no attempt: the judge rests after each."""

CHARS_PER_CONTEXT_TOKEN: Final = 1.5
"""So many characters of pairs go into one call: they stay within the judge's context in any language."""


class AskedPair(NamedTuple):
    """A pair, and the query that it is of."""

    query_id: int
    pair: JudgePair


Verdicts = Mapping[tuple[str, bool], JudgeVerdict]
"""By a pair's digest, and whether the reference was shown first."""


async def known_verdicts(batch_id: int, context: WorkerContext) -> Verdicts:
    """What the batch's judge has said already. Raises DBAPIError."""
    known: dict[tuple[str, bool], JudgeVerdict] = {}
    for row in await Pilots(context.engine).judge_replies(batch_id):
        verdicts = read_verdicts(text_of(orjson.loads(row.response)), len(row.pairs))
        if verdicts is not None:
            known |= {(pair, row.reference_first): said for pair, said in zip(row.pairs, verdicts, strict=True)}
    return known


async def ask_judge(
    asked: Sequence[AskedPair], *, known: Verdicts, batch_id: int, epoch: int, context: WorkerContext
) -> Verdicts:
    """The verdicts on ``asked`` in both orders; those that are ``known`` are not asked for again.

    A pair that the judge fails on, or answers with anything but a verdict, has none. ``epoch`` is that of the pilot's
    decision, 0 for an audit. Raises DBAPIError.
    """
    judges = context.fleet.judges
    found = dict(known)
    if not judges:
        return found
    chars = int(min(judge.context_tokens for judge in judges) * CHARS_PER_CONTEXT_TOKEN)
    # As many as have slots: hundreds that wait for the same limit would ask for it again and again.
    places = asyncio.Semaphore(max(context.fleet.tiers[judge.tier].concurrency for judge in judges))
    calls = [
        _ask(group, first, batch_id=batch_id, epoch=epoch, places=places, context=context)
        for first in (True, False)
        for group in _groups([one for one in asked if (one.pair.digest, first) not in known], chars=chars)
    ]
    for said in await asyncio.gather(*calls):
        found |= said
    return found


def _groups(pairs: Sequence[AskedPair], *, chars: int) -> Iterator[list[AskedPair]]:
    """``pairs``, each once, in groups for one call each."""
    group: list[AskedPair] = []
    size = 0
    for one in {one.pair.digest: one for one in pairs}.values():
        own = len(one.pair.query) + len(one.pair.answer) + len(one.pair.reference) + len(one.pair.instructions)
        if group and (len(group) == PAIRS_PER_CALL or size + own > chars):
            yield group
            group, size = [], 0
        group.append(one)
        size += own
    if group:
        yield group


async def _ask(
    group: Sequence[AskedPair],
    reference_first: bool,
    *,
    batch_id: int,
    epoch: int,
    places: asyncio.Semaphore,
    context: WorkerContext,
    is_half: bool = False,
) -> Verdicts:
    body = judge_body([one.pair for one in group], reference_first=reference_first)
    pilots, judges = Pilots(context.engine), context.fleet.judges
    attempt = limits = 0
    while attempt < ATTEMPTS:
        if attempt or limits:
            await asyncio.sleep(max(attempt, 1) * WAIT_S)
        patient = epoch > 0 and (len(judges) == 1 or attempt == ATTEMPTS - 1)  # before that another judge is asked
        async with places:
            if context.stopping.is_set():
                break  # another worker goes on from what is known
            # Before the call: its reply is in the ledger with its cost, and what it says is then known, whatever comes.
            call_id = await context.ledger.next_call_id()
            pairs = [(one.query_id, one.pair.digest) for one in group]
            await pilots.add_pairs(call_id, batch_id, pairs, reference_first=reference_first)
            result = await call_for_batch(
                judges[attempt % len(judges)],
                body,
                batch_id=batch_id,
                purpose="grade",
                context=context,
                added=frozenset({"response_format"}),
                waits_s=LIMIT_WAIT_S if patient else SHORT_WAIT_S,
                call_id=call_id,
                epoch=epoch,
                keeps_response=True,
            )
        failed = result.outcome if result is not None and isinstance(result.outcome, Failure) else None
        if failed is not None and failed.is_limit and patient and limits < MOST_LIMITS:
            limits += 1
            continue
        attempt += 1
        if result is None or not isinstance(result.outcome, Completion):
            continue
        verdicts = read_verdicts(result.outcome.text, len(group))
        if verdicts is not None:
            said = zip(group, verdicts, strict=True)
            return {(one.pair.digest, reference_first): verdict for one, verdict in said}
        if is_half or len(group) == 1:
            break
        middle = len(group) // 2
        halves = await asyncio.gather(
            *(
                _ask(
                    half, reference_first, batch_id=batch_id, epoch=epoch, places=places, context=context, is_half=True
                )
                for half in (group[:middle], group[middle:])
            )
        )
        return dict(halves[0]) | dict(halves[1])
    log.warning("judge_abstains", batch_id=batch_id, pairs=len(group))
    return {}
