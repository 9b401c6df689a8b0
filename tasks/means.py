"""What may be spent, told to the rules: what is left of a line's ``max_cost_usd``, and a chunk's share of a budget."""

import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from db.records import Waiting
from routing.decision import Decision
from routing.degrade import within_share
from routing.fleet import BudgetPolicy
from routing.purse import TooDear, within_purse
from routing.query import Query
from tasks.station import Station

FRESH_S = 1.0
"""For so long a count of a batch's open queries is good enough: it takes 0.1 s for a million."""

KEPT_BATCHES = 1000


@dataclass(slots=True)
class _Account:
    """What this process knows of a batch that degrades."""

    open: int = 1
    counted_at: float = float("-inf")
    spared_usd: float = 0.0
    """What earlier chunks left of their share: a chunk of easy queries pays for one of hard ones."""


_accounts: OrderedDict[int, _Account] = OrderedDict()


async def left_on_lines(waiting: Sequence[Waiting], station: Station) -> dict[int, float]:
    """Dollars that are left of each query's ``max_cost_usd``; queries without one are not in it."""
    caps = {one.id: float(cap) for one in waiting if (cap := one.options.get("max_cost_usd")) is not None}
    if not caps:
        return {}
    spent = await station.ledger.spent(list(caps))
    return {query_id: cap - spent.get(query_id, 0.0) for query_id, cap in caps.items()}


async def unspent(batch_ids: Collection[int], station: Station) -> dict[int, float]:
    """Dollars that are not yet spent of each batch's budgets; batches without one are not in it."""
    return await station.ledger.unspent(list(batch_ids)) if batch_ids else {}


async def within_means(
    queries: Mapping[int, Query],
    decisions: Mapping[int, Decision],
    claimed: Sequence[Waiting],
    station: Station,
) -> dict[int, Decision | TooDear]:
    """``decisions`` as far as they can be paid for, by lines and by batches."""
    thrifty = await _within_shares(queries, decisions, claimed, station)
    lines = await left_on_lines(claimed, station)
    return thrifty | {
        query_id: within_purse(queries[query_id], thrifty[query_id], left_usd=left_usd, fleet=station.fleet)
        for query_id, left_usd in lines.items()
    }


async def _within_shares(
    queries: Mapping[int, Query], decisions: Mapping[int, Decision], claimed: Sequence[Waiting], station: Station
) -> dict[int, Decision]:
    lowered = dict(decisions)
    thrifty = {one.batch_id for one in claimed if one.budget_policy is BudgetPolicy.DEGRADE}
    for batch_id, unspent_usd in (await unspent(thrifty, station)).items():
        ids = [one.id for one in claimed if one.batch_id == batch_id]
        account = await _account(batch_id, station)
        share_usd = min(unspent_usd, unspent_usd * len(ids) / max(account.open, len(ids)) + account.spared_usd)
        thrift = within_share(
            [queries[query_id] for query_id in ids],
            [decisions[query_id] for query_id in ids],
            fleet=station.fleet,
            share_usd=share_usd,
            unspent_usd=unspent_usd,
        )
        account.spared_usd = max(0.0, share_usd - thrift.expected_usd)
        lowered |= dict(zip(ids, thrift.decisions, strict=True))
    return lowered


async def _account(batch_id: int, station: Station) -> _Account:
    account = _accounts.setdefault(batch_id, _Account())
    _accounts.move_to_end(batch_id)
    if len(_accounts) > KEPT_BATCHES:
        _accounts.popitem(last=False)
    if time.monotonic() - account.counted_at > FRESH_S:
        account.open = (await station.ledger.open_queries([batch_id])).get(batch_id, 1)
        account.counted_at = time.monotonic()
    return account
