"""Calls to the LLM router: a few queries per call, a cache, one deadline, each call in the ledger."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from db.ledger_types import QueuedQuery
from routing.outcome import Completion
from routing.policy.llm_router_prompt import RouterVote, cache_key, messages, read
from routing.query import Query
from tasks.batch_call import call_for_batch
from tasks.worker_context import WorkerContext

CACHE_SIZE = 50_000

_cache: OrderedDict[tuple[int, str], RouterVote] = OrderedDict()
"""The cache, by batch and text. If another text of the same call manipulated the router, no other batch is affected. A
cached query also does not reveal that another tenant has sent its text."""


async def ask_llm_router(
    uncertain: Mapping[int, Query], claimed: Sequence[QueuedQuery], context: WorkerContext
) -> dict[int, RouterVote]:
    """Return the LLM router's votes by query id. A query without a vote got none in time, or an unclear one."""
    asked = context.fleet.router.llm
    if asked is None:
        return {}
    batch_of = {query.id: query.batch_id for query in claimed}
    keys = {
        query_id: (batch_of[query_id], cache_key(query, fleet=context.fleet)) for query_id, query in uncertain.items()
    }
    opinions = {query_id: _cache[key] for query_id, key in keys.items() if key in _cache}
    open_ids = [query_id for query_id in uncertain if query_id not in opinions]
    groups = list(_groups(open_ids, batch_of, size=asked.queries_per_call))
    # Each call has the router's deadline: it ends in time by itself, and is recorded.
    answers = await asyncio.gather(
        *(_ask([uncertain[query_id] for query_id in ids], batch, context) for batch, ids in groups)
    )
    for (_, ids), answer in zip(groups, answers, strict=True):
        for query_id, opinion in zip(ids, answer, strict=True):
            if opinion.tier is not None:
                opinions[query_id] = opinion
                _remember(keys[query_id], opinion)
    return opinions


def _groups(ids: Sequence[int], batch_of: Mapping[int, int], *, size: int) -> Iterator[tuple[int, list[int]]]:
    """Yield groups of at most ``size`` ids of one batch each, because a call's cost belongs to one batch."""
    by_batch: dict[int, list[int]] = {}
    for query_id in ids:
        by_batch.setdefault(batch_of[query_id], []).append(query_id)
    for batch_id, members in by_batch.items():
        for start in range(0, len(members), size):
            yield batch_id, members[start : start + size]


async def _ask(queries: Sequence[Query], batch_id: int, context: WorkerContext) -> Sequence[RouterVote]:
    asked = context.fleet.router.llm
    if asked is None:
        return read("", queries, fleet=context.fleet)
    body = messages(queries, fleet=context.fleet)
    result = await call_for_batch(
        context.fleet.models[asked.model],
        body,
        batch_id=batch_id,
        purpose="route",
        context=context,
        deadline_s=asked.deadline_s,
        added=frozenset(body) - {"messages"},
    )
    answer = result.outcome.text if result is not None and isinstance(result.outcome, Completion) else ""
    return read(answer, queries, fleet=context.fleet)


def _remember(key: tuple[int, str], opinion: RouterVote) -> None:
    _cache[key] = opinion
    if len(_cache) > CACHE_SIZE:
        _cache.popitem(last=False)
