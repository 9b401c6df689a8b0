"""One query's stay at one tier: choose, claim, call, judge, record. After a failure it chooses again, until it is
done."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, assert_never

import structlog

from db import failpoints
from db.call_result import CallResult, SentCall
from db.ledger_types import CallIntent, Claim, DecisionRecord, QueuedQuery, Transition
from providers.limits.admission_control import Denied, Grant
from routing.answer_checks.repair import REPAIR
from routing.budget.degradation import next_rung_down
from routing.budget.query_budget import affordable, reservation_usd, worst_usd
from routing.context_window import beyond_its_limit, completion_cap, fits
from routing.fleet import BudgetPolicy, Model
from routing.lanes.lane import Lane
from routing.lifecycle import FALLBACK
from routing.outcome import EXCEEDS_CREDIT, Completion, Failure, FailureKind, Outcome
from routing.policy.decision import ENDPOINT
from routing.policy.failover import Attempt, NoDeploymentLeft, Suspend, Wait, hedge, is_alike
from routing.prompt_caching import with_prefix_cached
from routing.query import Query, read_body
from routing.reason import Reason, ReasonCode
from tasks.lanes.wave_wait import wait_before, wave_wait_s
from tasks.pilot.answer_audit import audit_answer
from tasks.stages.answer_confidence import EXTEND
from tasks.stages.answer_judging import AnswerJudging
from tasks.stages.budget_guard import remaining_per_batch
from tasks.stages.call_caps import CallCaps
from tasks.stages.hedging import InFlightCall, race_hedge
from tasks.stages.logprobs import with_logprobs, without_unrequested_logprobs
from tasks.stages.select_deployment import DeploymentChoice, SelectedDeployment, reserve_patiently, select_deployment
from tasks.stages.tier_moves import TierMove, exhausted, explain, finished, rejected, rescheduled, suspended
from tasks.usage_estimates import TYPICAL_COMPLETION_TOKENS
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

EMBED: Final = "embed"
"""The purpose, in the ledger, of a call for embeddings, and the kind of their decision. Figures on savings, routers,
judges and lengths do not count them, because they are about answers and verdicts."""

_UNJUDGED_VECTORS: Final = DecisionRecord(kind=EMBED, router=ENDPOINT, reasons=("embeddings are not judged",))

REPAIR_PATIENCE_S: Final = 30.0
"""Maximum seconds that a paid answer waits for calls that may replace it, because the next tier costs more."""

Moved = tuple[str, str]
"""Stage and state."""


class EarlierCalls(NamedTuple):
    """Calls of a query's earlier stays at its tier that count there."""

    failed: Sequence[Attempt] = ()
    """Failed calls, oldest first."""
    cuts: int = 0
    """Calls with an answer that a learned cap cut off."""


NO_CALLS: Final = EarlierCalls()


class QueryExecutor:
    """Runs one query. Call `run` once."""

    def __init__(
        self,
        queued: QueuedQuery,
        stage: str,
        context: WorkerContext,
        earlier: EarlierCalls,
        *,
        left_usd: float,
        budget_usd: float = math.inf,
        claim: Claim | None = None,
        recorded: CallResult | None = None,
    ) -> None:
        self.queued = queued
        self.stage = stage
        self.context = context
        self.query = queued.to_query()
        self.prefix = context.prefixes.of(queued.id)
        """The prefix that the query shares with active queries. A call may cost more because it writes the prefix to a
        cache."""
        if self.prefix is not None:
            self.query = self.query._replace(extras=replace(self.query.extras, shares_prefix=True))
        self.history = list(earlier.failed)
        self.earlier = len(earlier.failed)
        self.left_usd = left_usd
        """The rest of the query's ``max_cost_usd``. Calls in flight count at their reservation. Infinite without a
        limit."""
        self.budget_usd = budget_usd
        """The rest of the batch's budgets a second ago. Infinite without a budget."""
        self.caps = CallCaps(queued, self.query, stage, context, budget_usd=budget_usd, earlier_cuts=earlier.cuts)
        self.cut: CallResult | None = None
        """The last answer of this stay that a learned cap cut off. It is delivered if nothing pays for another call,
        because the query is not at fault."""
        self.claim = claim
        """The claim of a query in a provider batch, which has its own lease. None for other queries."""
        self.recorded = recorded
        """A paid answer whose worker was lost before it was judged."""
        self.leased_at = 0.0
        """When the claim's lease was last requested, by the monotonic clock. The lease does not begin earlier."""
        self.flex_call_id: int | None = None
        """The call that is bought in the lane flex."""
        self.unrecorded: list[CallResult] = []
        """Results that are not in the ledger yet. They are written with the query's move, or before another call."""

    async def run(self) -> Moved | None:
        """Run the query, and return its new (stage, state).

        None if there is nothing more to do: another process has it, the budget refused its claim, or `_commit_intent`
        has postponed it or delivered its cut-off answer.
        """
        if self.recorded is not None:
            began = time.monotonic()
            self.claim = await self.context.ledger.claim((self.stage, self.queued.id, None))
            if self.claim is None:
                return None
            self.leased_at = began
            if isinstance(self.recorded.outcome, Completion) and self._can_judge(self.recorded, self.recorded.outcome):
                return await self._judge(self.recorded.sent, self.recorded.outcome)
        while True:
            choice = await self._choose()
            if not isinstance(choice, SelectedDeployment):
                return await self._leave_tier(choice)
            sent = await self.context.admission.for_sending(choice.grant, self._commit_intent(choice))
            if sent is None:
                return None
            for result in await self._call_or_race(sent, choice.grant):
                await self._take(result)
                if isinstance(result.outcome, Completion):
                    if self._note_cut(result):
                        break  # it is paid; asked again, with more room
                    return await self._answer(result.sent, result.outcome)

    def _can_judge(self, recorded: CallResult, answer: Completion) -> bool:
        """Whether a recorded answer counts: no claim came between, and it is not to be asked for with more room."""
        if self.epoch != self.queued.epoch + 1:
            return False
        # Its cap is not recorded; an answer that was cut off took all of it.
        self.caps.by_call[recorded.sent.call_id] = answer.usage.completion_tokens
        return math.isinf(self.budget_usd) or not self._note_cut(recorded)

    async def _leave_tier(self, why: Wait | NoDeploymentLeft | Suspend) -> Moved | None:
        """Move the query on without a further call."""
        match why:
            case Wait(wait_s=wait_s) if wait_s >= self.queued.expires_in_s:
                late = f"it may be called in {wait_s:.0f} s, when its batch has expired"
                return await self._conclude(exhausted(late, self.history))
            case Wait(wait_s=wait_s, reason=reason):
                return await self._conclude(rescheduled(wait_s, reason))
            case NoDeploymentLeft() if self.cut is not None:
                return await self._deliver_cut(self.cut)
            case NoDeploymentLeft(reason=reason):
                return await self._conclude(exhausted(reason, self.history))
            case Suspend():
                provider = self.context.fleet.providers[why.provider]
                return await self._conclude(
                    suspended(why, provider, self.history, beyond_credit_usd=self._beyond_credit_usd())
                )
            case _:
                assert_never(why)

    def _beyond_credit_usd(self) -> float | None:
        """What the last call reserved, where the account's credit does not pay for so much."""
        last = self.unrecorded[-1] if self.unrecorded else None
        too_much = last is not None and isinstance(last.outcome, Failure) and last.outcome.cause == EXCEEDS_CREDIT
        return last.sent.reserved_usd if last is not None and too_much else None

    async def conclude(self, result: CallResult) -> Moved | None:
        """Do the same for a call that another process made under the claim: the line of a provider batch.

        If it failed, the query goes back to `ready`, due at once for a direct call. If it was not run, another wave may
        take it until then.
        """
        await self._take(result)
        if isinstance(result.outcome, Completion):
            return await self._answer(result.sent, result.outcome)
        again = result.outcome.kind is FailureKind.NOT_RUN
        wait_s = wave_wait_s(self.queued, self.query, self.stage, self.context.fleet) if again else 0.0
        return await self._conclude(rescheduled(wait_s, result.outcome.message))

    async def _take(self, result: CallResult) -> None:
        """Record the result and cost of a call. An earlier result is written to the ledger first."""
        await self._record()
        self.unrecorded.append(result)
        cost_usd = result.cost_usd
        self.left_usd += result.sent.reserved_usd - cost_usd
        if cost_usd > result.sent.reserved_usd:
            self._log_a_higher_bill(result, cost_usd)
        self.context.accounts.note(result.sent.model.name, result.outcome)
        if isinstance(result.outcome, Failure):
            self.history.append(Attempt(result.sent.model.name, result.outcome))

    async def _answer(self, sent: SentCall, completion: Completion) -> Moved | None:
        self._learn(sent, completion)
        if sent.model.embeds:
            vectors = finished(sent, completion.response, tier=self.stage, why=_UNJUDGED_VECTORS)
            return await self._conclude(vectors)
        return await self._judge(sent, completion)

    async def _choose(self) -> DeploymentChoice:
        deployments = self._deployments()
        if not deployments:
            return NoDeploymentLeft(f"{self.query.pin} has no deployment at this tier")
        payable = deployments
        if math.isfinite(self.left_usd):
            payable = affordable(self.query, deployments, left_usd=self.left_usd)
            if not payable:
                least_usd = reservation_usd(self.query, deployments) or 0.0
                return NoDeploymentLeft(
                    f"max_cost_usd has ${max(self.left_usd, 0.0):.6f} left, but a call reserves ${least_usd:.6f}"
                )
        return await select_deployment(
            self.history,
            self.context,
            tokens=self._tokens,
            preferred=(self.prefix and self.context.prefixes.warm_at(self.queued.id)) or self.queued.prefers,
            was_put_off=len(self.history) == self.earlier,
            deployments=payable,
        )

    def _deployments(self) -> tuple[Model, ...]:
        """Return the deployments that may answer it: those of the tier with room, or those of the pinned model."""
        named = self.context.fleet.pinned(self.query.pin, self.stage)
        # Where it fits none, the provider has the last word.
        return tuple(model for model in named if fits(self.query, model)) or named

    async def _commit_intent(self, choice: SelectedDeployment) -> SentCall | None:
        """Commit the intent before anything is sent. The first intent also makes the claim.

        None if nothing is to be sent: the claim is lost or refused, or the query was postponed or its cut-off answer
        delivered here.
        """
        ledger, model = self.context.ledger, choice.model
        intent = await self._intent(model, purpose=EMBED if model.embeds else "answer")
        if self._is_flex(model):
            intent, self.flex_call_id = intent._replace(lane=Lane.FLEX.value), intent.call_id
        committed: Claim | SentCall | None
        began = time.monotonic()
        if self.claim is None:
            committed = self.claim = await ledger.claim((self.stage, self.queued.id, intent))
        else:
            await self._record()
            committed = await ledger.reserve_call(intent)
        if committed is None:
            if self.claim is not None:
                # Either the claim is lost, and this moves nothing; or the budget has no room: the next claim says what
                # becomes of it, and nobody waits for this lease to run out.
                if self.cut is not None and await self._would_fail(intent):
                    await self._deliver_cut(self.cut)
                else:
                    await self._conclude(rescheduled(0.0, "the budget does not cover another call"))
            return None
        self.leased_at = began
        self.left_usd -= intent.reserved_usd
        sent = SentCall(intent.call_id, at=committed.at, model=model, reserved_usd=intent.reserved_usd)
        if math.isfinite(self.left_usd) and self.epoch > self.queued.epoch + 1:
            # Somebody had it between our reading and our claim, and may have spent some of it. This call costs nothing.
            why = "another worker may have spent part of its max_cost_usd, so what is left is computed again"
            self.unrecorded.append(CallResult(sent, Failure(FailureKind.NEVER_SENT, why)))
            await self._conclude(rescheduled(0.0, why))
            return None
        return sent

    async def _call_or_race(self, sent: SentCall, grant: Grant) -> list[CallResult]:
        """Return the call's result. If the tier hedges, return both results of the race, the decisive one last."""
        context, tier = self.context, self.context.fleet.tiers[self.stage]
        if not tier.hedge_after_p95:
            return [CallResult(sent, await self._call(sent, grant))]
        deployments = self._deployments()
        plan = hedge(
            sent.model,
            tier=tier,
            deployments=deployments,
            resting=await context.admission.resting(deployments),
            p95_s=context.admission.usual_s(sent.model),
        )
        if plan is None:
            return [CallResult(sent, await self._call(sent, grant))]
        first = InFlightCall(sent, asyncio.create_task(self._call(sent, grant)))
        return await race_hedge(
            first, after_s=plan.after_s, second=lambda: self._second(plan.deployment), context=context
        )

    async def _second(self, model: Model) -> InFlightCall | None:
        """Start the hedge: a further call under the same claim, if its limits and the budget have room for it now."""
        if not affordable(self.query, (model,), left_usd=self.left_usd):
            return None
        intent = await self._intent(model, purpose="hedge")
        grant = await self.context.admission.reserve(model, tokens=self._tokens(model))
        if isinstance(grant, Denied) or (sent := await self._commit_further(intent, grant)) is None:
            return None
        self.left_usd -= intent.reserved_usd
        return InFlightCall(sent, asyncio.create_task(self._call(sent, grant)))

    def _tokens(self, model: Model) -> int:
        """Return the tokens that a call is expected to take of a tokens-per-minute limit. It is corrected right after
        the call."""
        learned = self.context.usage
        completion = self.query.max_tokens or TYPICAL_COMPLETION_TOKENS
        if (usual := learned.completion_tokens(self.queued.batch_id, model.name)) is not None:
            completion = min(round(usual), self.query.max_tokens or model.max_output_tokens)
        prompt = learned.prompt_tokens(model.name, self.query.measured.expected(model))
        return prompt + min(completion, model.max_output_tokens)

    def _note_cut(self, result: CallResult) -> bool:
        """Count an answer that a learned cap has cut off, and keep its text. Return whether it was."""
        if not self.caps.has_cut(result):
            return False
        self.caps.cuts += 1
        self.cut = self._keep_text_of(result)
        return True

    async def _would_fail(self, intent: CallIntent) -> bool:
        """Whether the next claim would fail for its budget, even after all calls in flight are settled."""
        if self.queued.budget_policy is not BudgetPolicy.FAIL:
            return False
        left = await remaining_per_batch({self.queued.batch_id}, self.context)
        return intent.reserved_usd > left.get(self.queued.batch_id, math.inf)

    async def _deliver_cut(self, cut: CallResult) -> Moved | None:
        assert isinstance(cut.outcome, Completion)
        return await self._judge(cut.sent, cut.outcome)

    def _learn(self, sent: SentCall, completion: Completion) -> None:
        expected = self.query.measured.expected(sent.model)
        usage = completion.usage
        self.context.usage.note(self.queued.batch_id, sent.model.name, usage, expected_prompt=expected)

    def _log_a_higher_bill(self, result: CallResult, cost_usd: float) -> None:
        log.error(
            "billed_above_reservation",
            query_id=self.queued.id,
            call_id=result.sent.call_id,
            deployment=result.sent.model.name,
            reserved_usd=result.sent.reserved_usd,
            cost_usd=cost_usd,
        )

    async def _intent(self, model: Model, *, purpose: str, query: Query | None = None) -> CallIntent:
        """Return the intent. ``query``: the call's question, if it is not the query itself."""
        call_id = await self.context.ledger.next_call_id()
        cap = self.caps.next_cap(model) if query is None else completion_cap(query, model)
        self.caps.by_call[call_id] = cap
        return CallIntent(
            call_id=call_id,
            purpose=purpose,
            tier=self.stage,
            model=model,
            reserved_usd=worst_usd(query or self.query, model, cap=cap),
            query_id=self.queued.id,
            batch_id=self.queued.batch_id,
            epoch=self.epoch,
            lower=self._lower(),
        )

    def _is_flex(self, model: Model) -> bool:
        """Whether it is called in the lane flex: its plan says so, and the standard lane has the time it needs.

        The standard price is reserved, because the answer may say that it was bought there.
        """
        if self.queued.flex_tier != self.stage or Lane.FLEX not in model.lanes:
            return False
        return "service_tier" not in self.queued.body and wait_before(self.queued.deadline_in_s) > 0.0

    def _lower(self) -> str | None:
        """Return where it goes if its batch degrades. A query that climbed may have an answer to accept."""
        if self.queued.budget_policy is not BudgetPolicy.DEGRADE:
            return None
        if self.queued.escalations:
            return FALLBACK
        return next_rung_down(self.query, self.stage, fleet=self.context.fleet)

    async def _ask(self, model: Model, body: Mapping[str, Any], purpose: str) -> CallResult | None:
        """Make one more call under the claim. Its result is recorded at once, or with the move if it may be the answer.

        None if it is not made: limits have no room within `MAX_INLINE_WAIT_S`, budgets have none, or the claim is lost.
        """
        query = read_body(body)
        if purpose in (EXTEND, REPAIR):
            return await self._ask_for_answer(model, query, body, purpose)
        if not affordable(query, (model,), left_usd=self.left_usd):
            return None
        result = await self._ask_once(model, query, body, purpose)
        if result is not None:
            await self.context.ledger.record(result)
        return result

    async def _ask_for_answer(
        self, model: Model, query: Query, body: Mapping[str, Any], purpose: str
    ) -> CallResult | None:
        """Do the same for a call whose answer may replace a paid one.

        A failure is handled like that of a first call: by a wait, within `REPAIR_PATIENCE_S`, and by the same model
        elsewhere. None if no deployment answers.
        """
        context, history = self.context, list[Attempt]()
        others = (each for each in self._deployments() if each.name != model.name)
        same = [
            model,
            *(each for each in others if is_alike(each, model) and each.max_output_tokens >= model.max_output_tokens),
        ]
        until = time.monotonic() + REPAIR_PATIENCE_S
        while deployments := affordable(query, same, left_usd=self.left_usd):
            choice = await select_deployment(
                history,
                context,
                tokens=lambda _: _usual_tokens(query),
                preferred=model.name,
                deployments=deployments,
                patience_s=min(until, self.leased_at + context.fleet.timing.lease_s) - time.monotonic(),
            )
            if not isinstance(choice, SelectedDeployment):
                return None
            result = await self._ask_once(choice.model, query, body, purpose, choice.grant)
            if result is None:
                return None
            self.unrecorded.append(result)
            if isinstance(result.outcome, Completion):
                return result
            history.append(Attempt(choice.model.name, result.outcome))
            await self._record_and_keep()
        return None

    async def _ask_once(
        self, model: Model, query: Query, body: Mapping[str, Any], purpose: str, grant: Grant | None = None
    ) -> CallResult | None:
        intent = await self._intent(model, purpose=purpose, query=query)
        # Before anything is waited for: several are asked at once, and each must see what the others may cost.
        self.left_usd -= intent.reserved_usd
        result = None
        try:
            given = grant or await reserve_patiently(model, self.context, tokens=_usual_tokens(query))
            if not isinstance(given, Denied) and (sent := await self._commit_further(intent, given)) is not None:
                result = CallResult(sent, await self._call(sent, given, body))
        finally:
            self.left_usd += intent.reserved_usd - (0.0 if result is None else result.cost_usd)
        return result

    async def _commit_further(self, intent: CallIntent, grant: Grant) -> SentCall | None:
        """Commit the intent of a further call under the claim, which renews its lease. None if the claim is lost."""
        began = time.monotonic()
        sent = await self.context.admission.for_sending(grant, self.context.ledger.reserve_call(intent))
        if sent is not None:
            self.leased_at = max(self.leased_at, began)  # several may be under way at once
        return sent

    async def _call(self, sent: SentCall, grant: Grant, body: Mapping[str, Any] | None = None) -> Outcome:
        if failpoints.armed.get("die_for_custom_id") == self.queued.custom_id:
            failpoints.die_at("die_for_custom_id")
        prefix = self.prefix if body is None else None
        marks = False
        if body is None:
            source = self.context.fleet.confidence_of(sent.model).source
            body = with_logprobs(self.queued.body, self.query, sent.model, source=source)
            if sent.call_id == self.flex_call_id:
                body = {**body, "service_tier": Lane.FLEX.value}
        async with self.context.slot(self.stage):
            if not self._lease_covers(sent.model):
                # Free, and chosen anew under a renewed lease: sent now, it might be sent by another worker as well.
                await self.context.admission.settle(grant, outcome=None)
                return Failure(FailureKind.NEVER_SENT, "its lease would expire before the answer arrives")
            # The commit, or the wait for the slot, may have taken longer than a leave is good for.
            leave = await self.context.admission.renew(grant)
            if isinstance(leave, Denied):
                return Failure(FailureKind.NEVER_SENT, f"its admission expired before it was sent ({leave.reason})")
            if prefix is not None:
                marks = self.context.prefixes.marks(self.queued.id, sent.model)
                body = with_prefix_cached(body, prefix, sent.model, marks=marks)
            sent_at = time.monotonic()
            outcome = await self.context.pool.complete(
                self.caps.capped(sent),
                body,
                call_id=sent.call_id,
                added=frozenset(body.keys() - self.queued.body.keys()),
            )
        outcome = beyond_its_limit(outcome, self.query, sent.model)
        if prefix is not None:
            self.context.prefixes.returned(self.queued.id, sent.model, outcome, marked=marks, sent_at=sent_at)
        await self.context.admission.settle(leave, outcome=outcome)
        return outcome

    def _lease_covers(self, model: Model) -> bool:
        """Whether a call that is sent now ends, at the latest at its deadline, while the claim still holds.

        That is not so after a long wait for a slot or a commit, or if this process was stopped (SIGSTOP).
        """
        fleet = self.context.fleet
        left_s = self.leased_at + fleet.timing.lease_s - time.monotonic()
        return left_s > fleet.providers[model.provider].deadline_s

    async def _judge(self, sent: SentCall, completion: Completion) -> Moved | None:
        judged = await AnswerJudging(
            self.queued, self.query, self.stage, self.context, ask=self._ask, record=self._record_and_keep
        ).judge(sent, completion)
        if self.recorded is not None and judged.sent.call_id == self.recorded.sent.call_id:
            known = Reason(
                ReasonCode.RECORDED, "not asked again, because its answer was recorded when its worker was lost"
            )
            verdict = judged.verdict
            judged = judged._replace(verdict=verdict._replace(reasons=(*verdict.reasons, known)))
        if judged.verdict.accepted:
            response = without_unrequested_logprobs(judged.completion.response, self.query)
            move = finished(judged.sent, response, tier=self.stage, why=explain(judged.verdict))
        else:
            self._keep_text_of(CallResult(judged.sent, judged.completion))
            move = rejected(judged.sent, judged.verdict, next_tier=judged.next_tier)
        moved = await self._conclude(move)
        is_top = self.context.fleet.tiers[self.stage].escalates_to is None
        if moved is not None and judged.verdict.accepted and not is_top and self.queued.has_policy:
            text = judged.completion.text
            self.context.spawn_background(
                audit_answer(
                    self.queued, self.query, text, tier=self.stage, context=self.context, left_usd=self.left_usd
                )
            )
        return moved

    async def _conclude(self, move: TierMove) -> Moved | None:
        """Write the move, with the results that are not in the ledger yet."""
        return await self.context.ledger.transition(
            Transition(
                query_id=self.queued.id,
                epoch=self.epoch,
                stage=self.stage,
                move=move.move,
                to_stage=move.to_stage or self.stage,
                to_state=move.to_state,
                tier=self.stage,
                why=move.why,
                results=self.unrecorded,
                answer=move.answer,
                wait_s=move.wait_s,
                attempts=sum(not each.outcome.is_limit for each in self.history[self.earlier :]) + self.caps.cuts,
            )
        )

    async def _record(self) -> None:
        while self.unrecorded:
            await self.context.ledger.record(self.unrecorded[0])
            del self.unrecorded[0]

    async def _record_and_keep(self) -> None:
        """Do the same for answers that are not judged yet. A result is written once, and its text may be needed."""
        self.unrecorded = [self._kept(result) for result in self.unrecorded]
        await self._record()
        failpoints.die_once_at("die_before_verdict")

    def _keep_text_of(self, result: CallResult) -> CallResult:
        """Return ``result`` with the text of its answer, as it will be in the ledger."""
        kept, call_id = self._kept(result), result.sent.call_id
        self.unrecorded = [kept if one.sent.call_id == call_id else one for one in self.unrecorded]
        return kept

    def _kept(self, result: CallResult) -> CallResult:
        """Return it with the text of the answer, as the user would get it."""
        outcome = result.outcome
        if not isinstance(outcome, Completion):
            return result
        response = without_unrequested_logprobs(outcome.response, self.query)
        return CallResult(result.sent, outcome._replace(response=response), keep_response=True)

    @property
    def epoch(self) -> int:
        return self.queued.epoch if self.claim is None else self.claim.epoch


def _usual_tokens(query: Query) -> int:
    """Return the tokens that a further call is expected to take of a tokens-per-minute limit."""
    return query.prompt_tokens + (query.max_tokens or TYPICAL_COMPLETION_TOKENS)
