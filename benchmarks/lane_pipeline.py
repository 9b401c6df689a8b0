"""A day's queries from submission to their answers by a policy that chooses lanes, on a clock that jumps.

States move by the production table (`routing.lifecycle.RULES`); costs are computed by the production price. The ledger
here never sees the provider's bill.
"""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.lane_world import (
    FLEX_LATENCY_S,
    FLEX_PER_S,
    LATENCY_S,
    NEVER,
    PER_S,
    TIERS,
    UPLOAD_S,
    CreationFailed,
    LaneDay,
    LaneProvider,
    ProviderJob,
    prices,
)
from routing.lanes.lane import BatchAge, Lane, LaneOffer, TierLanes
from routing.lanes.lane_plan import CANCEL_S, LanePlan
from routing.lanes.standard_pace import standard_paces
from routing.lifecycle import RULES, MoveKind, State
from routing.outcome import Usage

Queries = NDArray[np.int64]

CODES: Final = {state: code for code, state in enumerate(State)}
TOP: Final = len(TIERS) - 1
CHUNK: Final = 100
"""Direct calls whose ends are one event."""

PRICES: Final = prices()
USUAL: Final = Usage(720, 240)
"""The mean call, which the plan expects."""
CLIMB_SHARE: Final = 0.175
"""The mean over the days, as a log would say."""


@dataclass(frozen=True, slots=True)
class WaveLane:
    """What a policy decides of a wave: its lane, how long to wait in it, and how long to gather before."""

    lane: Lane
    wait_s: float = NEVER
    gather_s: float = 0.0


class AllStandard:
    """Everything at once, at the list price; other rules that choose lanes derive from it.

    ``open_queries``: by tier; ``left_s`` to the deadline.
    """

    def choose(self, tier: int, *, left_s: float, open_queries: Sequence[int]) -> WaveLane:
        """The lane of a wave."""
        return WaveLane(Lane.STANDARD)

    def waits(self, tier: int, *, age_s: float, left_s: float, open_queries: Sequence[int]) -> float | None:
        """For how long more a provider batch is waited for; None: cancel it."""
        return None

    def spare_s(self, tier: int, *, left_s: float, open_queries: Sequence[int]) -> float:
        """How long a cancellation is waited for."""
        return 0.0


class AllBatch(AllStandard):
    """Everything by provider batches, to the deadline; what is open then is bought at standard, late."""

    def choose(self, tier: int, *, left_s: float, open_queries: Sequence[int]) -> WaveLane:
        """Batch, until the deadline."""
        return WaveLane(Lane.BATCH, wait_s=left_s) if left_s > 0 else WaveLane(Lane.STANDARD)

    def waits(self, tier: int, *, age_s: float, left_s: float, open_queries: Sequence[int]) -> float | None:
        """To the deadline."""
        return left_s if left_s > 0 else None

    def spare_s(self, tier: int, *, left_s: float, open_queries: Sequence[int]) -> float:
        """As long as the vendor says that it takes at most."""
        return left_s + CANCEL_S


class Planned(AllStandard):
    """The production planner, with the log of the days before."""

    def __init__(self, day: LaneDay, ages: Sequence[BatchAge]) -> None:
        self._lanes = [Lane.STANDARD, Lane.BATCH, *([Lane.FLEX] if day.has_flex else [])]
        self._ages = tuple(ages)
        self._newest: tuple[tuple[float, ...], LanePlan] | None = None

    def choose(self, tier: int, *, left_s: float, open_queries: Sequence[int]) -> WaveLane:
        """As `LanePlan.choose` says."""
        if left_s <= 0:
            return WaveLane(Lane.STANDARD)
        plan = self._plan(left_s, open_queries)
        choice = plan.choose(TIERS[tier])
        wait_s = plan.standard_within_s(TIERS[tier]) if choice.give_up_s is None else choice.give_up_s
        return WaveLane(choice.lane, wait_s, plan.gather_s(TIERS[tier]))

    def waits(self, tier: int, *, age_s: float, left_s: float, open_queries: Sequence[int]) -> float | None:
        """As `LanePlan.review` says."""
        if left_s <= 0:
            return None
        review = self._plan(left_s, open_queries).review(TIERS[tier], age_s)
        return max(review.give_up_s - age_s, 1.0) if review.waits else None

    def spare_s(self, tier: int, *, left_s: float, open_queries: Sequence[int]) -> float:
        """Until the standard lane needs the time."""
        return left_s - standard_paces(self._tiers(open_queries))[TIERS[tier]].reserve_s

    def _plan(self, left_s: float, open_queries: Sequence[int]) -> LanePlan:
        key = (left_s, *open_queries)
        if self._newest is None or self._newest[0] != key:
            self._newest = key, LanePlan(self._tiers(open_queries), left_s=left_s)
        return self._newest[1]

    def _tiers(self, open_queries: Sequence[int]) -> dict[str, TierLanes]:
        tiers: dict[str, TierLanes] = {}
        for tier, name in enumerate(TIERS):
            offers: dict[Lane, LaneOffer] = {}
            for lane in self._lanes:
                usd = PRICES[name].at_service_tier(lane).cost_usd(USUAL)
                match lane:
                    case Lane.STANDARD:
                        offers[lane] = LaneOffer(lane, usd, PER_S[tier], LATENCY_S[tier])
                    case Lane.FLEX:
                        offers[lane] = LaneOffer(lane, usd, FLEX_PER_S[tier], FLEX_LATENCY_S[tier])
                    case Lane.BATCH:
                        offers[lane] = LaneOffer(lane, usd, ages=self._ages)
            is_top = tier == TOP
            tiers[name] = TierLanes(
                name,
                offers,
                None if is_top else TIERS[tier + 1],
                climb_share=0.0 if is_top else CLIMB_SHARE,
                climb_bound=0.0 if is_top else 2 * CLIMB_SHARE + 0.05,
                open=open_queries[tier],
            )
        return tiers


@dataclass(slots=True)
class LaneLedger:
    """Every call: reserved when it is intended, settled at its true cost, 0 where it was not billed."""

    query: list[int] = field(default_factory=list)
    tier: list[int] = field(default_factory=list)
    lane: list[Lane] = field(default_factory=list)
    usd: list[float | None] = field(default_factory=list)

    def intend(self, tier: int, queries: Queries, lane: Lane) -> NDArray[np.int64]:
        """New calls, with their ids."""
        first = len(self.query)
        self.query += queries.tolist()
        self.tier += [tier] * len(queries)
        self.lane += [lane] * len(queries)
        self.usd += [None] * len(queries)
        return np.arange(first, len(self.query))

    def settle(self, call: int, usage: Usage | None) -> bool:
        """Whether the call was not settled before. ``usage`` None: it was not billed."""
        if self.usd[call] is not None:
            return False
        price = PRICES[TIERS[self.tier[call]]].at_service_tier(self.lane[call])
        self.usd[call] = 0.0 if usage is None else price.cost_usd(usage)
        return True


@dataclass(slots=True)
class Wave:
    """A provider batch on this side."""

    tier: int
    marker: str
    calls: NDArray[np.int64]
    queries: Queries
    epochs: NDArray[np.int64]
    formed_s: float
    wait_s: float
    attempts: int = 0
    job: ProviderJob | None = None
    cancelled_s: float = NEVER
    is_released: bool = False


@dataclass(frozen=True, slots=True)
class DayResult:
    """What came of a day by one policy."""

    done_s: NDArray[np.float64]
    """Completion time by query. `NEVER` for a query that was lost."""
    answers: NDArray[np.int64]
    """How often an answer was stored, by query."""
    ledger_usd: float
    bill_usd: float
    miscounted: int
    """Calls whose entry is not what the provider billed."""
    paid_twice: int
    """Queries that a tier was paid for more than once."""
    ages: tuple[BatchAge, ...]
    lanes: Mapping[Lane, int]
    """Answers by lane."""


class LanePipeline:
    """Runs one day."""

    def __init__(self, day: LaneDay, policy: AllStandard) -> None:
        self.day = day
        self.policy = policy
        self.provider = LaneProvider(day)
        self.ledger = LaneLedger()
        count = len(day.first_tier)
        self.state = np.full(count, CODES[State.READY], dtype=np.int8)
        self.stage = day.first_tier.copy()
        self.epoch = np.zeros(count, dtype=np.int64)
        self.ready_s = np.zeros(count)
        self.done_s = np.full(count, NEVER)
        self.answers = np.zeros(count, dtype=np.int64)
        self.by_lane = dict.fromkeys(Lane, 0)
        self.ages: list[BatchAge] = []
        self._events: list[tuple[float, int, str, object]] = []
        self._order = itertools.count()
        self._now_s = 0.0

    def run(self) -> DayResult:
        """The day, until nothing happens any more."""
        for tier in range(len(TIERS)):
            self._at(0.0, "form", tier)
        while self._events:
            self._now_s, _, kind, subject = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(subject)
        return self._result()

    # What happens

    def _form(self, tier: int) -> None:
        """Forms a wave of what is ready at a tier."""
        queries = np.flatnonzero((self.state == CODES[State.READY]) & (self.stage == tier))
        if not len(queries):
            return
        wave = self.policy.choose(tier, left_s=self._left_s, open_queries=self._open())
        oldest_s = self._now_s - float(self.ready_s[queries].min())
        if wave.lane is Lane.BATCH and oldest_s < wave.gather_s - 1e-6:
            self._at(self._now_s + wave.gather_s - oldest_s, "form", tier)
            return
        if wave.lane is not Lane.BATCH:
            self._buy(tier, queries, wave)
            return
        self._move(MoveKind.BATCH, queries, State.BATCHED)
        calls = self.ledger.intend(tier, queries, Lane.BATCH)
        made = Wave(tier, f"wave-{calls[0]}", calls, queries, self.epoch[queries].copy(), self._now_s, wave.wait_s)
        self._at(self._now_s + UPLOAD_S, "create", made)

    def _create(self, wave: Wave) -> None:
        """Creates the provider batch; after a lost reply the provider is asked for it first."""
        if self._now_s - wave.formed_s > wave.wait_s:
            self._release(wave)
            return
        found = self.provider.find(wave.marker) if wave.attempts else None
        try:
            wave.job = found or self.provider.create(
                wave.marker, wave.tier, wave.calls, wave.queries, attempt=wave.attempts, now_s=self._now_s
            )
        except CreationFailed as error:
            wave.attempts += 1
            self._at(self._now_s + error.retry_s, "create", wave)
            return
        self._at(self._now_s + 5.0, "poll", wave)

    def _poll(self, wave: Wave) -> None:
        assert wave.job is not None
        if self.provider.retrieve(wave.job, self._now_s) != "in_progress":
            self._collect(wave, wave.job)
            return
        age_s = self._now_s - wave.formed_s
        if wave.cancelled_s < NEVER:
            open_queries = self._open()
            spare_s = self.policy.spare_s(wave.tier, left_s=self._left_s, open_queries=open_queries)
            if spare_s <= 0 and not wave.is_released:
                self._release(wave)
            self._at(self._now_s + 10.0, "poll", wave)
            return
        if age_s >= wave.wait_s - 1e-6:
            more_s = self.policy.waits(wave.tier, age_s=age_s, left_s=self._left_s, open_queries=self._open())
            if more_s is None:
                wave.cancelled_s = self._now_s
                self.provider.cancel(wave.job, self._now_s)
                self._at(self._now_s + 10.0, "poll", wave)
                return
            wave.wait_s = age_s + more_s
        pause_s = min(max(age_s / 10, 5.0), 60.0)
        self._at(self._now_s + min(pause_s, max(wave.wait_s - age_s, 1.0)), "poll", wave)

    def _collect(self, wave: Wave, job: ProviderJob) -> None:
        """Settles every call of an ended provider batch, and stores the answers."""
        is_whole = wave.cancelled_s == NEVER
        self.ages.append(BatchAge(min(job.ends_s, self._now_s) - wave.formed_s, ended=is_whole))
        known = {call: place for place, call in enumerate(wave.calls.tolist())}
        answered = []
        for key in self.provider.results(job).tolist():
            place = known.get(key)
            if place is None:
                continue  # a key that no call has
            query = int(wave.queries[place])
            usage = self._usage(query, wave.tier)
            if self.ledger.settle(key, usage):
                answered.append(place)
        for call in wave.calls.tolist():
            self.ledger.settle(call, None)
        places = np.array(answered, dtype=np.int64)
        current = places[self.epoch[wave.queries[places]] == wave.epochs[places]]
        current = current[self._is_open(wave.queries[current])]
        self._store(wave.tier, wave.queries[current], Lane.BATCH)
        if not wave.is_released:
            self._release(wave)

    def _release(self, wave: Wave) -> None:
        """Gives back what a provider batch has not answered."""
        wave.is_released = True
        if wave.job is None:
            for call in wave.calls.tolist():
                self.ledger.settle(call, None)
        mine = (self.state[wave.queries] == CODES[State.BATCHED]) & (self.epoch[wave.queries] == wave.epochs)
        self._to_ready(MoveKind.RELEASE, wave.queries[mine], wave.tier)

    def _buy(self, tier: int, queries: Queries, wave: WaveLane) -> None:
        """Direct calls. What flex has not begun by the time that standard needs is released then."""
        self._move(MoveKind.PUBLISH, queries, State.QUEUED)
        self._move(MoveKind.CLAIM, queries, State.RUNNING)
        calls = self.ledger.intend(tier, queries, wave.lane)
        ends_s = self.provider.call(wave.lane, tier, calls, now_s=self._now_s)
        by_s = self._now_s + wave.wait_s if wave.lane is Lane.FLEX else NEVER
        kept = ends_s <= by_s
        for part in np.array_split(np.flatnonzero(kept), max(1, int(kept.sum()) // CHUNK)):
            if len(part):
                self._at(float(ends_s[part[-1]]), "end", (wave.lane, tier, calls[part], queries[part], ends_s[part]))
        if not kept.all():
            self._at(by_s, "stop_flex", (tier, calls[~kept], queries[~kept]))

    def _end(self, subject: tuple[Lane, int, NDArray[np.int64], Queries, NDArray[np.float64]]) -> None:
        lane, tier, calls, queries, ends_s = subject
        self.provider.answer(lane, tier, calls, queries)
        for call, query in zip(calls.tolist(), queries.tolist(), strict=True):
            self.ledger.settle(call, self._usage(query, tier))
        self._store(tier, queries, lane, ends_s)

    def _stop_flex(self, subject: tuple[int, NDArray[np.int64], Queries]) -> None:
        tier, calls, queries = subject
        self.provider.release_flex(tier, self._now_s)
        for call in calls.tolist():
            self.ledger.settle(call, None)
        self._to_ready(MoveKind.RELEASE, queries, tier)

    # How queries move

    def _store(self, tier: int, queries: Queries, lane: Lane, at_s: NDArray[np.float64] | None = None) -> None:
        """Answers that the judge doubts climb, the others are stored."""
        at = np.full(len(queries), self._now_s) if at_s is None else at_s
        climbs = self.day.doubted[queries, tier] & (tier < TOP)
        final = queries[~climbs]
        self._move(MoveKind.FINISH, final, State.DONE)
        self.done_s[final] = np.minimum(self.done_s[final], at[~climbs])
        self.answers[final] += 1
        self.by_lane[lane] += len(final)
        up = queries[climbs]
        self._move(MoveKind.ADVANCE, up, State.QUEUED)  # to fallback
        self._move(MoveKind.CLAIM, up, State.RUNNING)
        self.stage[up] = tier + 1
        self._to_ready(MoveKind.ADVANCE, up, tier + 1)

    def _to_ready(self, move: MoveKind, queries: Queries, tier: int) -> None:
        self._move(move, queries, State.READY)
        self.ready_s[queries] = self._now_s
        if len(queries):
            self._at(self._now_s, "form", tier)

    def _move(self, move: MoveKind, queries: Queries, target: State) -> None:
        """Moves queries by the table. Raises AssertionError for a move that it does not have."""
        rule = RULES[move]
        assert target in rule.target, f"{move} does not lead to {target}"
        legal = [CODES[state] for state in rule.sources]
        assert np.isin(self.state[queries], legal).all(), f"{move} from {set(self.state[queries].tolist())}"
        self.state[queries] = CODES[target]
        if rule.raises_epoch:
            self.epoch[queries] += 1

    def _usage(self, query: int, tier: int) -> Usage:
        prompt, completion = self.day.tokens[query, tier].tolist()
        return Usage(prompt, completion)

    def _is_open(self, queries: Queries) -> NDArray[np.bool_]:
        return np.asarray(self.done_s[queries] == NEVER)

    def _open(self) -> list[int]:
        waiting = self.stage[self.done_s == NEVER]
        return [int(count) for count in np.bincount(waiting, minlength=len(TIERS))]

    @property
    def _left_s(self) -> float:
        return self.day.within_s - self._now_s

    def _at(self, when_s: float, kind: str, subject: object) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), kind, subject))

    # What came of it

    def _result(self) -> DayResult:
        bill, ledger = self.provider.bill, self.ledger
        entries = [0 if usd is None else round(usd * 1e9) for usd in ledger.usd]
        paid = np.zeros((len(self.state), len(TIERS)), dtype=np.int64)
        for call in bill:
            paid[ledger.query[call], ledger.tier[call]] += 1
        return DayResult(
            done_s=self.done_s,
            answers=self.answers,
            ledger_usd=sum(usd or 0.0 for usd in ledger.usd),
            bill_usd=sum(bill.values()) / 1e9,
            miscounted=sum(entry != bill.get(call, 0) for call, entry in enumerate(entries))
            + sum(usd is None for usd in ledger.usd)
            + sum(not 0 <= call < len(entries) for call in bill),
            paid_twice=int((paid > 1).any(axis=1).sum()),
            ages=tuple(self.ages),
            lanes=self.by_lane,
        )
