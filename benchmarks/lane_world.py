"""One simulated day: its queries, the pace of its calls, and a provider with a bill of its own, by a seed."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fleet_config.price_lookup import with_lanes
from routing.lanes.lane import Lane
from routing.price import Price

TIERS: Final = ("small", "medium", "large")
NANO_PER_TOKEN: Final = np.array([[50, 400], [250, 2000], [1750, 14_000]])
"""Of a prompt and a completion token, in billionths of a dollar: the list prices of gpt-5-nano, gpt-5-mini, gpt-5.2.
The provider bills half of it in the lanes flex and batch."""

PER_S: Final = np.array([32.0, 24.0, 16.0])
LATENCY_S: Final = np.array([2.0, 4.0, 8.0])
"""At standard: calls a second, and how long one takes, as the planner expects it."""
FLEX_PER_S: Final = 0.2 * PER_S
FLEX_LATENCY_S: Final = 5.0 * LATENCY_S

UPLOAD_S: Final = 10.0
NEVER: Final = math.inf
FOREIGN: Final = -1
"""A result with a key that no call has."""

Numbers = NDArray[np.int64]

Family = Callable[[np.random.Generator, float], float]
"""Draws how long a provider batch takes, in seconds, at a part of the period from 0 to 1."""


def _lognormal(median_s: float, p90_s: float) -> Family:
    sigma = math.log(p90_s / median_s) / 1.2815515655446004
    return lambda rng, _: float(rng.lognormal(math.log(median_s), sigma))


def _bimodal(rng: np.random.Generator, _: float) -> float:
    median_s, sigma = (240.0, 0.4) if rng.random() < 0.6 else (3 * 3600.0, 0.3)
    return float(rng.lognormal(math.log(median_s), sigma))


def _stuck(rng: np.random.Generator, at: float) -> float:
    return NEVER if rng.random() < 0.05 else _lognormal(420.0, 3600.0)(rng, at)


def _shifting(rng: np.random.Generator, at: float) -> float:
    """The provider becomes ten times slower half-way: the log of before misleads."""
    return _lognormal(420.0, 3600.0)(rng, at) * (1.0 if at < 0.5 else 10.0)


FAMILIES: Final[Mapping[str, Family]] = {
    "prior": _lognormal(420.0, 3600.0),
    "slow": _lognormal(2700.0, 5 * 3600.0),
    "bimodal": _bimodal,
    "stuck 5 %": _stuck,
    "shifting": _shifting,
}
"""``prior`` is what the planner assumes without a log; the others are held out from it."""


def prices() -> dict[str, Price]:
    """The prices of the tiers as the fleet's loader makes them."""
    found = {}
    for tier, (prompt, completion) in zip(TIERS, NANO_PER_TOKEN, strict=True):
        usd = Price(prompt / 1e3, completion / 1e3, prompt / 1e3, version="benchmark")
        found[tier] = with_lanes(usd, Lane)
    return found


@dataclass(frozen=True, slots=True)
class BatchDraw:
    """What becomes of one provider batch."""

    takes_s: float
    """`NEVER` for one that hangs."""
    done_share: float
    """Of its lines that are answered by its end; of one that hangs, ever."""
    error_share: float
    failures: tuple[tuple[str, float], ...]
    """Of its creation, in turn: the cause, and the seconds until the next attempt."""
    cancel_s: float
    repeats_results: bool
    """Results come in another order, some twice, and one with a key that no call has."""
    seed: int


@dataclass(frozen=True, slots=True)
class LaneDay:
    """What is drawn for a day, the same for every policy."""

    key: tuple[int, int]
    """Seed and number of the day."""
    family: str
    at: float
    """Where in the period the day is, from 0 to 1."""
    within_s: float
    """The deadline."""
    has_flex: bool
    first_tier: NDArray[np.int8]
    doubted: NDArray[np.bool_]
    """Query and tier → the answer climbs."""
    tokens: Numbers
    """Query, tier → prompt and completion tokens."""
    pace: float
    """The factor by which direct calls are slower than expected."""
    outage_s: tuple[float, float]
    """Direct calls wait in this time."""
    flex_refusals: float
    """The share of its pace that flex loses to refusals."""

    @classmethod
    def draw(cls, key: tuple[int, int], *, lines: int, family: str, at: float) -> "LaneDay":
        """The day ``key``. Deadlines are log-uniform from one hour to 24."""
        rng = np.random.default_rng(key)
        within_s = 3600.0 * math.exp(rng.uniform(0.0, math.log(24.0)))
        shares = rng.uniform(0.05, 0.30, len(TIERS))
        shares[-1] = 0.0
        begins = rng.uniform(0.0, within_s) if rng.random() < 0.1 else NEVER
        return cls(
            key=key,
            family=family,
            at=at,
            within_s=within_s,
            has_flex=bool(rng.random() < 0.2),
            first_tier=rng.choice(len(TIERS), size=lines, p=rng.dirichlet([6.0, 2.0, 2.0])).astype(np.int8),
            doubted=rng.random((lines, len(TIERS))) < shares,
            tokens=np.maximum(1, rng.lognormal(np.log([600, 200]), 0.6, (lines, len(TIERS), 2))).astype(np.int64),
            pace=float(rng.lognormal(0.0, 0.25)),
            outage_s=(begins, rng.uniform(60.0, 300.0)),
            flex_refusals=float(rng.uniform(0.0, 0.9)),
        )

    def batch(self, tier: int, number: int) -> BatchDraw:
        """The provider batch ``number`` of a tier on this day, whichever policy makes it."""
        rng = np.random.default_rng([*self.key, tier, number])
        takes_s = FAMILIES[self.family](rng, self.at)
        if rng.random() < 0.01:
            takes_s = NEVER
        hangs, expires = takes_s == NEVER, rng.random() < 0.03
        return BatchDraw(
            takes_s=takes_s,
            done_share=float(rng.uniform(0.0, 0.7)) if hangs or expires else 1.0,
            error_share=float(rng.choice([0.0, 0.02], p=[0.7, 0.3])),
            failures=tuple(_failures(rng)),
            cancel_s=float(rng.uniform(300.0, 900.0) if rng.random() < 0.05 else rng.uniform(1.0, 300.0)),
            repeats_results=bool(rng.random() < 0.2),
            seed=int(rng.integers(2**31)),
        )


def _failures(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    if rng.random() < 0.05:
        yield "too many requests", float(rng.uniform(20.0, 300.0))
    if rng.random() < 0.02:
        yield "the file is gone", UPLOAD_S
    if rng.random() < 0.05:
        yield "made, but without a reply" if rng.random() < 0.5 else "no reply", 30.0


class CreationFailed(Exception):
    """No reply, a refusal, or a file that is not there."""

    def __init__(self, cause: str, retry_s: float) -> None:
        super().__init__(cause)
        self.cause = cause
        self.retry_s = retry_s


@dataclass(slots=True)
class ProviderJob:
    """A provider batch on the provider's side."""

    marker: str
    calls: Numbers
    nano: Numbers
    draw: BatchDraw
    done_s: NDArray[np.float64]
    """The time at which each line is answered."""
    fails: NDArray[np.bool_]
    ends_s: float
    state: str = "in_progress"
    cancelled_s: float = NEVER


class LaneProvider:
    """The provider: it answers, and keeps a bill by call, in billionths of a dollar. It knows nothing of the ledger."""

    def __init__(self, day: LaneDay) -> None:
        self.day = day
        self.bill: dict[int, int] = {}
        self._jobs: list[ProviderJob] = []
        self._numbers = [0] * len(TIERS)
        self._free_s = {Lane.STANDARD: np.zeros(len(TIERS)), Lane.FLEX: np.zeros(len(TIERS))}

    def nano(self, lane: Lane, tier: int, queries: Numbers) -> Numbers:
        """What calls cost, by query."""
        full = (self.day.tokens[queries, tier] * NANO_PER_TOKEN[tier]).sum(axis=1)
        return np.asarray(full if lane is Lane.STANDARD else full // 2)

    def call(self, lane: Lane, tier: int, calls: Numbers, *, now_s: float) -> NDArray[np.float64]:
        """When direct calls end that are begun now, one behind the other; `answer` bills them."""
        per_s = (PER_S if lane is Lane.STANDARD else FLEX_PER_S * (1.0 - self.day.flex_refusals))[tier] / self.day.pace
        latency_s = (LATENCY_S if lane is Lane.STANDARD else FLEX_LATENCY_S)[tier] * self.day.pace
        begins, lasts = self.day.outage_s
        first = max(now_s, float(self._free_s[lane][tier]))
        if begins <= first < begins + lasts:
            first = begins + lasts
        starts = first + np.arange(len(calls)) / per_s
        if first < begins:
            starts[starts >= begins] += lasts
        self._free_s[lane][tier] = float(starts[-1]) + 1.0 / per_s
        return np.asarray(starts + latency_s)

    def answer(self, lane: Lane, tier: int, calls: Numbers, queries: Numbers) -> None:
        """The direct calls end: they are billed."""
        for call, nano in zip(calls.tolist(), self.nano(lane, tier, queries).tolist(), strict=True):
            self.bill[call] = self.bill.get(call, 0) + nano

    def release_flex(self, tier: int, now_s: float) -> None:
        """Flex calls that have not begun are not made."""
        self._free_s[Lane.FLEX][tier] = now_s

    def create(
        self,
        marker: str,
        tier: int,
        calls: Numbers,
        queries: Numbers,
        *,
        attempt: int,
        now_s: float,
    ) -> ProviderJob:
        """A provider batch. Raises CreationFailed; a first attempt without a reply may have made one."""
        draw = self.day.batch(tier, self._numbers[tier])
        if attempt < len(draw.failures):
            cause, retry_s = draw.failures[attempt]
            if cause == "made, but without a reply":
                self._make(marker, tier, calls, queries, draw, now_s)
            raise CreationFailed(cause, retry_s)
        return self._make(marker, tier, calls, queries, draw, now_s)

    def find(self, marker: str) -> ProviderJob | None:
        """The provider batch with this marker."""
        return next((job for job in self._jobs if job.marker == marker), None)

    def retrieve(self, job: ProviderJob, now_s: float) -> str:
        """Its state; what was answered until its end is billed then."""
        if job.state == "in_progress" and now_s >= min(job.ends_s, job.cancelled_s):
            job.state = "cancelled" if job.cancelled_s < job.ends_s else "ended"
            done = (job.done_s <= min(job.ends_s, job.cancelled_s)) & ~job.fails
            for call, nano in zip(job.calls[done].tolist(), job.nano[done].tolist(), strict=True):
                self.bill[call] = self.bill.get(call, 0) + nano
        return job.state

    def cancel(self, job: ProviderJob, now_s: float) -> None:
        """It ends soon, unless it ends by itself before."""
        job.cancelled_s = min(job.cancelled_s, now_s + job.draw.cancel_s)

    def results(self, job: ProviderJob) -> Numbers:
        """The keys of the lines with an answer, as they stand in the file of results."""
        done = (job.done_s <= min(job.ends_s, job.cancelled_s)) & ~job.fails
        keys = job.calls[done]
        if not job.draw.repeats_results:
            return keys
        rng = np.random.default_rng(job.draw.seed)
        again = keys[rng.random(len(keys)) < 0.05]
        return rng.permutation(np.concatenate([keys, again, [FOREIGN]]))

    def _make(
        self,
        marker: str,
        tier: int,
        calls: Numbers,
        queries: Numbers,
        draw: BatchDraw,
        now_s: float,
    ) -> ProviderJob:
        self._numbers[tier] += 1
        rng = np.random.default_rng(draw.seed)
        hangs = draw.takes_s == NEVER
        usual_s = 1800.0 if hangs else draw.takes_s
        done_s = now_s + usual_s * np.sqrt(rng.random(len(calls)))
        done_s[rng.random(len(calls)) >= draw.done_share] = NEVER
        fails = rng.random(len(calls)) < draw.error_share
        ends_s = now_s + (24 * 3600.0 if hangs else draw.takes_s)
        job = ProviderJob(
            marker, calls, self.nano(Lane.BATCH, tier, queries), draw, done_s, fails, min(ends_s, now_s + 86_400)
        )
        self._jobs.append(job)
        return job
