"""Queries that may be what kills their workers, worked on one at a time."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from db.ledger_types import Waiting
from tasks.worker_context import Station

Moved = Mapping[int, tuple[str, str]]


async def suspects_apart(
    waiting: Sequence[Waiting], station: Station, work: Callable[[Sequence[Waiting]], Awaitable[Moved]]
) -> Moved:
    """``work`` on all that are no suspects together, then on each suspect alone; what moved of all."""
    others = [one for one in waiting if not one.is_suspect]
    moved = dict(await work(others)) if others else {}
    for suspect in [one for one in waiting if one.is_suspect]:
        async with station.alone:
            moved |= await work([suspect])
    return moved
