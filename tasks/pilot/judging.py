"""Calls to the LLM judge about pairs of answers: each pair in both orders, several pairs per call, each call in the
ledger."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
import structlog

from db.call_result import CallResult
from db.pilots import Pilots
from evaluation.graders.llm_judge import PAIRS_PER_CALL, JudgePair, JudgeVerdict, judge_body, read_verdicts
from routing.budget.query_budget import worst_usd
from routing.fleet import Model
from routing.outcome import Completion, Failure, FailureKind
from routing.query import read_body
from tasks.batch_call import call_for_batch
from tasks.pilot.sample import text_of
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

ATTEMPTS: Final = 3
"""Maximum calls for the same pairs that budgets or failures may take, before the judge abstains."""

WAIT_S: Final = 1.0
"""Seconds before the second attempt. The wait before the third is twice as long."""

LIMIT_WAIT_S: Final = 900.0
"""Maximum seconds to wait for a limit of the judge before each attempt, so that a paid sample is not lost for a
minute's quota."""

SHORT_WAIT_S: Final = 2.0
"""The same if another judge can be asked, or for an audit, which may be skipped."""

MOST_LIMITS: Final = 20
"""Maximum replies of "too many requests" that do not count as attempts. The judge rests after each."""

MOST_UNUSABLE: Final = 8
"""A judge is not asked again if this many first replies have no verdict, because each reply costs money."""

CHARS_PER_CONTEXT_TOKEN: Final = 1.5
"""Maximum characters of pairs per token of the judge's context, so that a call fits in any language."""


_DUE_TO_TEXTS: Final = frozenset({FailureKind.SAFETY, FailureKind.TOO_LARGE, FailureKind.MALFORMED})
"""Failures of a call that the texts of the answers cause, not the judge's state."""


class AskedPair(NamedTuple):
    """A pair, and its query."""

    query_id: int
    pair: JudgePair


Verdicts = Mapping[tuple[str, bool], JudgeVerdict]
"""Verdicts by the pair's digest, and whether the reference was shown first."""


class JudgeReplies(NamedTuple):
    """The judge's verdicts on pairs."""

    verdicts: Verdicts
    refused: frozenset[str] = frozenset()
    """Digests of pairs that do not fit, that the judge refuses, or that get no verdict because of the answers'
    texts."""
    unpaid: frozenset[str] = frozenset()
    """Digests of pairs that were not sent in both orders, because the budget does not cover a further call."""


async def known_verdicts(batch_id: int, context: WorkerContext) -> Verdicts:
    """Return the earlier verdicts of the batch's judge. Raises DBAPIError."""
    known: dict[tuple[str, bool], JudgeVerdict] = {}
    for row in await Pilots(context.engine).judge_replies(batch_id):
        verdicts = read_verdicts(text_of(orjson.loads(row.response)), len(row.pairs))
        if verdicts is not None:
            known |= {(pair, row.reference_first): verdict for pair, verdict in zip(row.pairs, verdicts, strict=True)}
    return known


async def ask_judge(
    asked: Sequence[AskedPair], *, known: Verdicts, batch_id: int, epoch: int, context: WorkerContext
) -> JudgeReplies:
    """Return the verdicts on ``asked`` in both orders. ``known`` verdicts are not requested again.

    A pair has no verdict if the judge fails on it, replies anything else, or has no room for it, or if the budget does
    not cover it. ``epoch`` is that of the pilot's decision, 0 for an audit. Raises DBAPIError.
    """
    judges = context.fleet.judges
    found = dict(known)
    if not judges:
        return JudgeReplies(found)
    chars = int(min(judge.context_tokens for judge in judges) * CHARS_PER_CONTEXT_TOKEN)
    # As many as have slots: hundreds that wait for the same limit would ask for it again and again.
    places = asyncio.Semaphore(max(context.fleet.tiers[judge.tier].concurrency for judge in judges))
    is_budgeted = epoch > 0 and batch_id in await context.ledger.unspent([batch_id])
    judge = _Judge(batch_id, epoch, places, context, is_budgeted)
    calls = [
        judge.ask(group, reference_first=first)
        for first in (True, False)
        for group in _groups([pair for pair in asked if (pair.pair.digest, first) not in known], chars=chars)
    ]
    for verdicts in await asyncio.gather(*calls):
        found |= verdicts
    no_room = {pair.pair.digest for pair in asked if pair.pair.shown_chars > chars}
    return JudgeReplies(found, frozenset(judge.refused | no_room), frozenset(judge.unpaid))


def _groups(pairs: Sequence[AskedPair], *, chars: int) -> Iterator[list[AskedPair]]:
    """Return ``pairs``, each once, in groups for one call each, without those that alone are longer than ``chars``."""
    group: list[AskedPair] = []
    size = 0
    for asked in {asked.pair.digest: asked for asked in pairs}.values():
        own = asked.pair.shown_chars
        if own > chars:
            continue
        if group and (len(group) == PAIRS_PER_CALL or size + own > chars):
            yield group
            group, size = [], 0
        group.append(asked)
        size += own
    if group:
        yield group


@dataclass(slots=True)
class _Judge:
    """The judge of one batch, during the calls about some pairs."""

    batch_id: int
    epoch: int
    places: asyncio.Semaphore
    context: WorkerContext
    is_budgeted: bool
    """Whether a budget may refuse a call that is worth waiting for. An audit's call is skipped instead."""
    unusable: int = 0
    """The number of replies without a verdict, while no reply had one."""
    is_usable: bool = False
    refused: set[str] = field(default_factory=set)
    unpaid: set[str] = field(default_factory=set)
    budget: asyncio.Condition = field(default_factory=asyncio.Condition)
    under_way: list[float] = field(default_factory=list)
    """The maximum cost in USD of each call under way."""
    is_over_budget: bool = False

    async def ask(self, group: Sequence[AskedPair], *, reference_first: bool, is_half: bool = False) -> Verdicts:
        """Return the verdicts on ``group`` in one order. None if the judge fails or its reply is unusable."""
        judges, context = self.context.fleet.judges, self.context
        attempt = limits = 0
        while attempt < ATTEMPTS:
            if attempt or limits:
                await asyncio.sleep(max(attempt, 1) * WAIT_S)
            # Before the last attempt another judge is asked.
            patient = self.epoch > 0 and (len(judges) == 1 or attempt == ATTEMPTS - 1)
            async with self.places:
                if context.stopping.is_set() or self.unusable >= MOST_UNUSABLE:
                    break  # another worker goes on from what is known; or all replies were paid for nothing
                # Here, or the texts of all calls were in memory at once.
                body = judge_body([asked.pair for asked in group], reference_first=reference_first)
                judge = judges[attempt % len(judges)]
                async with self._paid(worst_usd(read_body(body), judge)) as is_paid:
                    if not is_paid:
                        self.unpaid.update(asked.pair.digest for asked in group)
                        return {}
                    result = await self._call(judge, body, group, reference_first, patient=patient)
            failed = result.outcome if result is not None and isinstance(result.outcome, Failure) else None
            if failed is not None and failed.kind in _DUE_TO_TEXTS:
                self.refused.update(asked.pair.digest for asked in group)
            if failed is not None and failed.is_limit and patient and limits < MOST_LIMITS:
                limits += 1
                continue
            attempt += 1
            if result is None or not isinstance(result.outcome, Completion):
                continue
            verdicts = read_verdicts(result.outcome.text, len(group))
            if verdicts is not None:
                self.is_usable, self.unusable = True, 0
                paired = zip(group, verdicts, strict=True)
                return {(asked.pair.digest, reference_first): verdict for asked, verdict in paired}
            self.unusable += not self.is_usable
            if is_half or len(group) == 1:
                self.refused.update(asked.pair.digest for asked in group)
                break
            middle = len(group) // 2
            halves = (group[:middle], group[middle:])
            first, second = await asyncio.gather(
                *(self.ask(half, reference_first=reference_first, is_half=True) for half in halves)
            )
            return dict(first) | dict(second)
        log.warning("judge_abstains", batch_id=self.batch_id, pairs=len(group))
        return {}

    @asynccontextmanager
    async def _paid(self, usd: float) -> AsyncIterator[bool]:
        """Yield whether the budget covers a call of at most ``usd``.

        It waits while only the reservations of calls under way leave too little, because these calls cost less.
        """
        async with self.budget:
            while self.is_budgeted and not self.is_over_budget:
                unspent = await self.context.ledger.unspent([self.batch_id])
                if sum(self.under_way) + usd <= unspent.get(self.batch_id, math.inf):
                    break
                if self.under_way:
                    await self.budget.wait()
                else:
                    self.is_over_budget = True
            is_paid = not self.is_over_budget
            if is_paid:
                self.under_way.append(usd)
        if not is_paid:
            yield False
            return
        try:
            yield True
        finally:
            async with self.budget:
                self.under_way.remove(usd)
                self.budget.notify_all()

    async def _call(
        self, judge: Model, body: Mapping[str, Any], group: Sequence[AskedPair], reference_first: bool, *, patient: bool
    ) -> CallResult | None:
        context = self.context
        # Before the call: its reply is in the ledger with its cost, and what it says is then known, whatever comes.
        call_id = await context.ledger.next_call_id()
        pairs = [(asked.query_id, asked.pair.digest) for asked in group]
        await Pilots(context.engine).add_pairs(call_id, self.batch_id, pairs, reference_first=reference_first)
        return await call_for_batch(
            judge,
            body,
            batch_id=self.batch_id,
            purpose="grade",
            context=context,
            added=frozenset({"response_format"}),
            waits_s=LIMIT_WAIT_S if patient else SHORT_WAIT_S,
            call_id=call_id,
            epoch=self.epoch,
            keeps_response=True,
        )
