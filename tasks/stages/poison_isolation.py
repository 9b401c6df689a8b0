"""Queries that may be what kills their workers, which are processed one at a time."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from db.ledger_types import QueuedQuery
from tasks.worker_context import WorkerContext

Moved = Mapping[int, tuple[str, str]]


async def isolate_poison_suspects(
    waiting: Sequence[QueuedQuery], context: WorkerContext, work: Callable[[Sequence[QueuedQuery]], Awaitable[Moved]]
) -> Moved:
    """Run ``work`` on all queries that are not suspects together, then on each suspect alone. Return all that moved."""
    others = [query for query in waiting if not query.is_poison_suspect]
    moved = dict(await work(others)) if others else {}
    for suspect in [query for query in waiting if query.is_poison_suspect]:
        async with context.alone:
            moved |= await work([suspect])
    return moved
