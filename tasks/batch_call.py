"""A call that belongs to a batch but to no query's claim: that of an LLM router, an audit or a grader."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from db.call_result import CallResult
from db.ledger_types import CallIntent
from providers.limits.admission_control import Grant
from routing.budget.query_budget import worst_usd
from routing.fleet import Model
from routing.query import read_body
from tasks.stages.select_deployment import MAX_INLINE_WAIT_S
from tasks.usage_estimates import TYPICAL_COMPLETION_TOKENS
from tasks.worker_context import WorkerContext


async def call_for_batch(
    model: Model,
    body: Mapping[str, Any],
    *,
    batch_id: int,
    purpose: str,
    context: WorkerContext,
    deadline_s: float | None = None,
    added: frozenset[str] = frozenset(),
    waits_s: float = 0.0,
    call_id: int | None = None,
    epoch: int = 0,
    keeps_response: bool = False,
) -> CallResult | None:
    """Call ``model`` once. The intent is in the ledger before the call is sent, and the result before this returns.

    ``body`` is OpenAI's chat body, ``purpose`` one of the ledger's purposes, and ``added`` the fields of ``body`` that
    may be left out if the model refuses them. The call takes a slot of the model's tier. ``waits_s`` is how long it
    waits for a limit, without the slot; while the model rests after failures it waits at most `MAX_INLINE_WAIT_S`.
    Returns None, with nothing sent, if a limit or a budget has no room, or if a grader's ``epoch`` no longer holds the
    decision of the batch's pilot.
    """
    query = read_body(body)
    tokens = query.measured.expected(model) + (query.max_tokens or TYPICAL_COMPLETION_TOKENS)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        async with context.slot(model.tier):
            grant = await context.admission.reserve(model, tokens=tokens)
            if isinstance(grant, Grant):
                intent = CallIntent(
                    call_id=await context.ledger.next_call_id() if call_id is None else call_id,
                    purpose=purpose,
                    tier=model.tier,
                    model=model,
                    batch_id=batch_id,
                    epoch=epoch,
                    reserved_usd=worst_usd(query, model),
                )
                sent = await context.admission.for_sending(grant, context.ledger.reserve_call(intent))
                if sent is None:
                    return None
                outcome = await context.pool.complete(
                    model, body, deadline_s=deadline_s, call_id=sent.call_id, added=added
                )
                break
        fails = context.admission.why_resting(model.name) == "failures"
        most_s = min(waits_s, MAX_INLINE_WAIT_S) if fails else waits_s
        if loop.time() + grant.wait_s > began + most_s or context.stopping.is_set():
            return None
        with suppress(TimeoutError):
            await asyncio.wait_for(context.stopping.wait(), grant.wait_s)
    await context.admission.settle(grant, outcome=outcome)
    result = CallResult(sent, outcome, keep_response=keeps_response)
    await context.ledger.record(result)
    return result
