"""The handling of a paid answer at a tier: more room if our cap cut it off, its confidence, and the verdict."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

import structlog

from db.call_result import SentCall
from db.ledger_types import QueuedQuery
from routing.answer_checks.confidence import Confidence, calibrated
from routing.answer_checks.confidence_policy import LOGPROB_SOURCES, PAID_SOURCES, ConfidenceSource
from routing.answer_checks.judge import Verdict, confidence_of, is_empty, is_misshapen, judge, passes_validators
from routing.answer_checks.repair import ASK_TOKENS, REPAIR, repair_body, repair_pays
from routing.answer_checks.shape_correction import Correction, corrected
from routing.answer_lengths import COLD_CAP
from routing.context_window import fits, fitting
from routing.fleet import Model
from routing.outcome import Completion, Usage
from routing.policy.exploration import exploration_draw
from routing.query import Query, read_body
from routing.reason import Reason, ReasonCode
from tasks.pilot.pilot_judge import judge_with_pilot
from tasks.repair_log import RepairKey
from tasks.stages.answer_confidence import EXTEND, Ask, raw_confidence
from tasks.stages.logprobs import with_logprobs
from tasks.usage_estimates import LONGER_BY
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

CONTEXT_MARGIN_TOKENS = 64
"""Tokens that a provider's template may add to a prompt."""


REPAIR_EXPLORATION = 0.02
"""The share of repairs that are made although they are not expected to pay, so that the log shows when they start to
pay."""


class JudgedAnswer(NamedTuple):
    """The answer that counts, its call, and the verdict on it."""

    sent: SentCall
    completion: Completion
    verdict: Verdict
    next_tier: str | None = None
    """The next tier by its batch's certified policy. None is the next tier of the ladder."""


class AnswerJudging:
    """Judges one query's answer at one tier.

    ``ask`` makes a further call under the claim. ``record`` writes the results so far to the ledger before calls that
    do not answer, which frees their reservations.
    """

    def __init__(
        self,
        queued: QueuedQuery,
        query: Query,
        stage: str,
        context: WorkerContext,
        *,
        ask: Ask,
        record: Callable[[], Awaitable[None]],
    ) -> None:
        self.queued = queued
        self.query = query
        self.stage = stage
        self.context = context
        self.ask = ask
        self.record = record
        self.unscored: tuple[Reason, ...] = ()
        """Why the last answer has no score, if the scorer failed on it."""

    async def judge(self, sent: SentCall, completion: Completion) -> JudgedAnswer:
        """Return the verdict on ``completion``, or on the answer that replaced it."""
        is_top = self.context.fleet.tiers[self.stage].escalates_to is None
        if (whole := await self._ask_with_room(sent, completion)) is not None:
            sent, completion = whole
        completion, verdict = await self._verdict_in_shape(sent, completion, is_top=is_top)
        if is_misshapen(verdict) or (is_empty(verdict) and (is_top or self.query.is_pinned)):
            again = await self._repair(sent, completion, verdict, is_top=is_top)
            if again is not None:
                was, (sent, completion) = verdict, again
                completion, verdict = await self._verdict_in_shape(sent, completion, is_top=is_top, copied_from=was)
                repaired = Reason(ReasonCode.REPAIRED, f"asked again: {was.reasons[0]}")
                verdict = verdict._replace(reasons=(*verdict.reasons, repaired))
        if is_top or not (self.queued.is_pilot or self.queued.has_policy):
            return JudgedAnswer(sent, completion, verdict)
        verdict, next_tier = await judge_with_pilot(
            verdict, completion, query=self.query, queued=self.queued, tier=self.stage, context=self.context
        )
        return JudgedAnswer(sent, completion, verdict, next_tier)

    def _corrected(self, completion: Completion) -> tuple[Completion, Correction] | None:
        if not self.context.fleet.shape.correction:
            return None
        try:
            return corrected(completion, self.query)
        except Exception as error:
            log.warning("correction_failed", error=type(error).__name__)
            return None

    async def _verdict_in_shape(
        self, sent: SentCall, completion: Completion, *, is_top: bool, copied_from: Verdict | None = None
    ) -> tuple[Completion, Verdict]:
        """Return the answer, corrected if its shape is wrong and a correction is certain, and the verdict on it."""
        verdict = await self._verdict(sent, completion, is_top=is_top, copied_from=copied_from)
        if not is_misshapen(verdict) or (found := self._corrected(completion)) is None:
            return completion, verdict
        completion, correction = found
        verdict = await self._verdict(sent, completion, is_top=is_top, copied_from=copied_from)
        return completion, verdict._replace(reasons=(*verdict.reasons, correction.reason))

    async def _verdict(
        self, sent: SentCall, completion: Completion, *, is_top: bool, copied_from: Verdict | None = None
    ) -> Verdict:
        """Return the judge's verdict. If judging fails, the failure is a reason and the paid answer is kept."""
        confidence = await self._confidence(sent, completion, is_top=is_top)
        if copied_from is not None:
            confidence = _least_by_logprobs(confidence or Confidence(*confidence_of(completion, None)), copied_from)
        tier = self.context.fleet.tiers[self.stage]
        try:
            verdict = judge(completion, self.query, tier=tier, is_top=is_top, confidence=confidence)
        except Exception as error:
            log.warning("judge_failed", error=type(error).__name__)
            failed = Reason(ReasonCode.UNJUDGED, f"the judge failed ({type(error).__name__})")
            verdict = Verdict(is_top, None, (failed,), "none")
        notes = (*self.unscored, *(Reason(ReasonCode.NOTE, note) for note in completion.notes))
        return verdict._replace(reasons=(*verdict.reasons, *notes)) if notes else verdict

    async def _repair(
        self, sent: SentCall, completion: Completion, verdict: Verdict, *, is_top: bool
    ) -> tuple[SentCall, Completion] | None:
        """Return the repair call and its answer from the same model. None if it is not asked or does not answer.

        After an empty answer, the question is asked again as it was: there is no answer to write in another form.
        """
        query, model = self.query, sent.model
        if not self.context.fleet.shape.repair or completion.finish_reason != "stop":
            return None
        if not (is_top or query.is_pinned or await self._repair_pays(model, completion)):
            return None
        body = self.queued.body
        if not is_empty(verdict):
            body = repair_body(body, completion.text, reasons=verdict.reasons, expects=query.expects)
        if not fits(read_body(body), model):
            return None
        source = self.context.fleet.confidence_of(model).source
        again = await self.ask(model, with_logprobs(body, query, model, source=source), REPAIR)
        if again is None or not isinstance(again.outcome, Completion):
            return None
        return again.sent, again.outcome

    async def _repair_pays(self, model: Model, completion: Completion) -> bool:
        """Whether a repair costs less than its expected saving, by the log of the workload, and both prices.

        A few are made in any case, so that the log shows when repairs become worthwhile.
        """
        fleet, query, usage = self.context.fleet, self.query, completion.usage
        above = fitting(query, fleet=fleet, tier=str(fleet.tiers[self.stage].escalates_to))
        if not above or exploration_draw(self.queued.id, purpose=b"repair") < REPAIR_EXPLORATION:
            return True
        record = await self.context.repairs.record_of(
            RepairKey(self.queued.batch_id, self.stage, query.workload_or_template), self.context.ledger
        )
        prompt, said = usage.prompt_tokens, usage.completion_tokens
        usual = self.context.usage.completion_tokens(self.queued.batch_id, above[0].name)
        return repair_pays(
            record,
            repair_usd=model.price.cost_usd(Usage(prompt + said + ASK_TOKENS, said)),
            climb_usd=above[0].price.cost_usd(Usage(prompt, said if usual is None else round(usual))),
        )

    async def _ask_with_room(self, sent: SentCall, completion: Completion) -> tuple[SentCall, Completion] | None:
        """Return a second call and its answer if our own cap cut the first answer off, even at the top tier.

        It may take `LONGER_BY` times the fleet's ``max_output_tokens``, as far as the context has room. A second call
        with the same cap would end in the same place, and so would a more expensive tier's.
        """
        model = sent.model
        capped = self.query.max_tokens is not None and self.query.max_tokens <= model.max_output_tokens
        if completion.finish_reason != "length" or capped or passes_validators(completion, self.query, is_top=False):
            return None
        prompt_tokens = max(completion.usage.prompt_tokens, self.query.prompt_tokens)
        room = min(
            model.context_tokens - prompt_tokens - CONTEXT_MARGIN_TOKENS,
            max(LONGER_BY * model.max_output_tokens, COLD_CAP),
        )
        if room <= model.max_output_tokens:
            return None
        body = with_logprobs(self.queued.body, self.query, model, source=self.context.fleet.confidence_of(model).source)
        again = await self.ask(replace(model, max_output_tokens=room), body, EXTEND)
        if again is None or not isinstance(again.outcome, Completion):
            return None
        return again.sent, again.outcome

    async def _confidence(self, sent: SentCall, completion: Completion, *, is_top: bool) -> Confidence | None:
        """Return the source's confidence in an answer that may still climb. None if the judge reads it itself."""
        context, query = self.context, self.query
        policy = context.fleet.confidence_of(sent.model)
        unknown = Confidence(None, ConfidenceSource.NONE)
        if policy.source is ConfidenceSource.NONE:
            return unknown
        if policy.source is ConfidenceSource.SCORER:
            return Confidence(*confidence_of(completion, self._p_right(completion)))
        if policy.source in PAID_SOURCES:
            stays = is_top or completion.has_tool_calls or query.is_pinned
            if stays or not passes_validators(completion, query, is_top=is_top):
                # Whatever it says, it would decide nothing.
                return unknown
            await self.record()
        raw = await raw_confidence(
            completion,
            policy=policy,
            query=query,
            body=self.queued.body,
            model=sent.model,
            verifier=context.fleet.verifier_of(sent.model),
            ask=self.ask,
        )
        if raw is None and policy.source not in PAID_SOURCES:
            return None
        return calibrated(
            raw,
            policy.source,
            model=sent.model.name,
            workload=query.workload,
            maps=context.fleet.calibrations,
        )

    def _p_right(self, completion: Completion) -> float | None:
        """Return the answer scorer's probability. None without a scorer, or if it fails, which is then a reason of the
        verdict."""
        self.unscored = ()
        if (scorer := self.context.trained.scorer) is None:
            return None
        try:
            return scorer([(self.query, completion.text)])[0]
        except Exception as error:
            log.warning("scorer_failed", error=type(error).__name__)
            self.unscored = (Reason(ReasonCode.UNSCORED, f"the scorer failed ({type(error).__name__})"),)
            return None


def _least_by_logprobs(confidence: Confidence, copied_from: Verdict) -> Confidence:
    """Return the lower confidence of a repaired answer and the first one.

    A model that repeats its answer is sure of every word, whatever it was the first time.
    """
    was = copied_from.confidence
    if was is None or confidence.source not in LOGPROB_SOURCES or (confidence.value or 0.0) <= was:
        return confidence
    return Confidence(was, copied_from.source, copied_from.raw)
