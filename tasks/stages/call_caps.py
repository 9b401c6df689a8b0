"""Caps on the length of answers, so that a tight budget is not blocked by maximum costs."""

import math
from dataclasses import replace
from typing import Final

from db.call_result import CallResult, SentCall
from db.ledger_types import QueuedQuery
from routing.budget.query_budget import worst_usd
from routing.context_window import completion_cap
from routing.fleet import BudgetPolicy, Model
from routing.outcome import Completion
from routing.query import Query
from tasks.usage_estimates import LONGER_BY
from tasks.worker_context import WorkerContext

SPARE: Final = 2.0
"""A budget is tight if all calls of a tier at their maximum cost would take more than half of it, because other tiers,
and calls that are settled a moment later, need some as well."""


class CallCaps:
    """The caps of one query's calls at one tier. ``budget_usd``: what is left of its batch's budgets, infinite without
    one."""

    def __init__(
        self,
        queued: QueuedQuery,
        query: Query,
        stage: str,
        context: WorkerContext,
        *,
        budget_usd: float,
        earlier_cuts: int,
    ) -> None:
        self._queued = queued
        self._query = query
        self._stage = stage
        self._context = context
        self._budget_usd = budget_usd
        self._earlier_cuts = earlier_cuts
        self.by_call: dict[int, int] = {}
        """The maximum completion tokens that each call requests."""
        self.cuts = 0
        """The answers of this stay that a learned cap has cut off."""

    def next_cap(self, model: Model) -> int:
        """Return the maximum completion to request: all available room, unless that would keep a batch waiting.

        If a budget would not pay for the maximum cost of all calls that could be in flight, the cap is one that 99 of
        100 answers stay below. The reservation is the maximum cost under *that* cap, so no budget is exceeded. An
        answer that it cuts off is requested again with more room.
        """
        context, query, full = self._context, self._query, completion_cap(self._query, model)
        if math.isinf(self._budget_usd):
            return full
        queued = self._queued
        cold = context.allowances.of(queued.batch_id).known_lengths.cold_cap(query, self._stage)
        learned = context.usage.learned_cap(queued.batch_id, model.name, cold_cap=cold)
        sent_by_cold = queued.escalations and queued.budget_policy is not BudgetPolicy.HOLD
        if sent_by_cold and learned > cold and worst_usd(query, model, cap=learned) > self._budget_usd:
            learned = cold  # by which the fallback sent it: refused with more it goes back, or fails with an answer
        learned *= LONGER_BY ** min(self._earlier_cuts + self.cuts, 10)
        if learned >= full:
            return full
        at_once = context.fleet.tiers[self._stage].concurrency * context.admission.workers
        is_tight = worst_usd(query, model, cap=full) * at_once * SPARE > self._budget_usd
        return learned if is_tight else full

    def has_cut(self, result: CallResult) -> bool:
        """Whether a learned cap has cut the answer off."""
        sent, outcome = result.sent, result.outcome
        is_short = isinstance(outcome, Completion) and outcome.finish_reason == "length"
        return is_short and self.by_call[sent.call_id] < completion_cap(self._query, sent.model)

    def capped(self, sent: SentCall) -> Model:
        """Return the deployment of ``sent``, limited to the completion that is reserved."""
        cap, model = self.by_call[sent.call_id], sent.model
        return model if cap >= model.max_output_tokens else replace(model, max_output_tokens=cap)
