"""How long the answers may be that a query's calls ask for: a tight budget is not held by worst cases."""

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
"""A budget is tight once all calls of a tier at their worst would take more than half of it: other tiers, and calls
that are settled a moment later, need some as well."""


class CallCaps:
    """The caps of one query's calls at one tier. ``budget_usd``: left of its batch's budgets; infinite without one."""

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
        """The longest completion that each call asks for, in tokens."""
        self.cuts = 0
        """Answers of this stay that a learned cap has cut off."""

    def next_cap(self, model: Model) -> int:
        """The longest completion to ask for: all that there is room for, unless that would keep a batch waiting.

        Where a budget would not pay for the worst case of all calls that could be under way, 99 of 100 answers are
        asked within a cap that they stay below. What is reserved is the worst case under *that* cap, so that no
        budget is ever exceeded; an answer that it cuts off is asked again with more room.
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
        """Whether a learned cap has cut the answer off, and counts it."""
        sent, outcome = result.sent, result.outcome
        is_cut = isinstance(outcome, Completion) and outcome.finish_reason == "length"
        if not is_cut or self.by_call[sent.call_id] >= completion_cap(self._query, sent.model):
            return False
        self.cuts += 1
        return True

    def capped(self, sent: SentCall) -> Model:
        """The deployment of ``sent``, which is asked for no more than what is reserved."""
        cap, model = self.by_call[sent.call_id], sent.model
        return model if cap >= model.max_output_tokens else replace(model, max_output_tokens=cap)
