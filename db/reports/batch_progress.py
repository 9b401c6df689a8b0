"""A batch as it was submitted, and how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.rows import from_row
from db.worker_registry import ALIVE_S
from routing.price_list import PriceList


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it was submitted. ``public_id`` is its public name, ``id`` ours."""

    id: int
    public_id: str
    source: str
    total: int
    simulated: bool
    fleet: str
    fleet_digest: str
    price_list: PriceList
    """The price list of the fleet that the batch was submitted with."""
    plan: Mapping[str, Any] | None
    """What was predicted of it when it was submitted."""
    metadata: Mapping[str, Any]
    created_at: datetime
    cancelled_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is. ``reserved_usd`` is the worst case of calls under way; ``wall_s`` is by Postgres' clock."""

    public_id: str
    source: str
    total: int
    simulated: bool
    created_at: datetime
    cancelled_at: datetime | None
    ended_at: datetime | None
    done: int
    failed: int
    """How many queries ended without an answer, not counting cancelled ones."""
    cancelled: int
    held: int
    running: int
    waiting: int
    escalated: int
    calls: int
    cost_usd: float
    reserved_usd: float
    wall_s: float
    by_tier: Mapping[str, int]
    """Answered queries, by the last tier that processed them."""
    open_by_stage: Mapping[str, int]
    held_for: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By deployment whose account is at fault: the ``queries`` held for it, its ``provider`` and the ``reason``."""
    after_pilot: int = 0
    """How many queries wait for the decision of the batch's pilot."""
    pilot_state: str | None = None
    """``sampling``, ``deciding`` or ``decided``; None without a pilot."""
    sampled: int = 0
    """How many queries are in the pilot so far."""
    sampled_ended: int = 0
    """How many of the ``sampled`` queries have ended."""
    put_off: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By stage: the number of ``queries`` that wait for a later time, the earliest time ``until`` (ISO 8601), and the
    ``reason``."""
    unserved: Sequence[str] = ()
    """Stages whose queries no living worker takes."""
    lost: int = 0
    """How many queries a dead worker holds until their leases end."""
    lost_until: datetime | None = None
    """When the last of these leases ends."""
    batched: int = 0
    """How many queries are in provider batches."""
    paused_at: datetime | None = None
    """When the batch was paused. As long as it is set, none of the batch's queries is claimed."""
    pause_code: str | None = None
    cap_usd: float | None = None
    """The batch's own budget. None without one."""
    reserved_audit_usd: float = 0.0
    """The part of ``reserved_usd`` for audits and grading, which answer no query: audits may outlast the queries."""

    @property
    def blockers(self) -> list[str]:
        """What keeps queries from being answered, one sentence each; empty where nothing does."""
        if self.ended:
            return []
        found = []
        if self.paused_at is not None:
            reason = " because its tenant stores too much (`pointsman purge` frees bytes)"
            full = "" if self.pause_code is None else reason
            found.append(f"paused{full}; `pointsman resume {self.public_id}` continues")
        found += [
            f"{int(wait['queries']):,} waiting at {stage} until "
            f"{datetime.fromisoformat(wait['until']).astimezone(UTC):%H:%M:%S} UTC ({wait['reason'] or 'due later'})"
            for stage, wait in self.put_off.items()
        ]
        if self.lost_until is not None:
            found.append(
                f"{self.lost:,} waiting for the lease of a dead worker, until "
                f"{self.lost_until.astimezone(UTC):%H:%M:%S} UTC"
            )
        for_account = sum(int(fault["queries"]) for fault in self.held_for.values())
        if self.held_for_account is not None:
            found.append(self.held_for_account)
        if self.held > for_account:
            found.append(f"{self.held - for_account:,} held for lack of budget")
        if self.batched:
            found.append(f"{self.batched:,} in provider batches")
        if self.after_pilot:
            found.append(f"{self.after_pilot:,} waiting for the pilot's decision")
        if self.unserved:
            found.append(f"no worker serves {', '.join(self.unserved)} (`pointsman up` starts workers)")
        return found

    @property
    def held_for_account(self) -> str | None:
        """One line on the accounts that queries wait for; None where none do."""
        if not self.held_for:
            return None
        queries = sum(int(fault["queries"]) for fault in self.held_for.values())
        reasons = dict.fromkeys(
            f"{fault['provider'] or 'the provider'}: {fault['reason'] or deployment}"
            for deployment, fault in self.held_for.items()
        )
        are = "query is" if queries == 1 else "queries are"
        return f"{queries:,} {are} held because the provider refuses the account ({'; '.join(list(reasons)[:3])})"

    @property
    def in_pilot(self) -> bool:
        """Whether its pilot is not decided: until then it is open which tiers answer the rest, and how fast."""
        return self.pilot_state in ("sampling", "deciding")

    @property
    def finished(self) -> int:
        """Queries in a terminal state."""
        return self.done + self.failed + self.cancelled

    @property
    def ended(self) -> bool:
        """Whether nothing of it is open any more."""
        return self.finished >= self.total

    @property
    def moves(self) -> bool:
        """Whether something of it runs or waits to: what is held or paused may stay so for good."""
        return self.running + self.batched + (self.waiting if self.paused_at is None else 0) > 0

    @property
    def queries_per_s(self) -> float:
        """Answered queries per second between submission and end, or now."""
        return self.done / self.wall_s if self.wall_s > 0 else 0.0


async def find_batch(engine: AsyncEngine, public_id: str) -> Batch | None:
    rows = await run_report(engine, "batch_find", public_id=public_id)
    return batch_of(rows[0]) if rows else None


def batch_of(row: Row[Any]) -> Batch:
    return from_row(Batch, row, price_list=PriceList.from_json(row.price_list))


async def newest_batch(engine: AsyncEngine) -> Batch | None:
    """The batch that was submitted last, open or not."""
    rows = await run_report(engine, "batch_newest")
    return await find_batch(engine, rows[0].public_id) if rows else None


async def older_open(engine: AsyncEngine, batch_id: int) -> tuple[int, str | None]:
    """How many batches before that one have open queries, and the newest of them."""
    rows = await run_report(engine, "batches_older_open", batch_id=batch_id)
    return (rows[0].batches, rows[0].public_id) if rows else (0, None)


async def batch_progress(engine: AsyncEngine, batch_id: int) -> Progress:
    """How far the batch is."""
    (row,) = await run_report(engine, "batch_progress", batch_id=batch_id, seen_within_s=ALIVE_S)
    return from_row(Progress, row, failed=row.failed + row.dead + row.expired)
