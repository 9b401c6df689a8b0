"""One provider in each kind of trouble, beside others that are well: every query ends, in time and in bounded memory.

Each prints, besides what all faults print: ``hit``, the calls that it spoilt; ``answered``; ``longest_call_s``;
``early``, calls that came to the provider before a Retry-After of it was over; ``rss_mb``, the most that a worker took.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from providers.health.monitor import FRESH_S
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault

QUERIES: Final = 120
BEFORE: Final = 30
"""Answered before the trouble starts, so that there is a usual latency to be slow against."""

RETRY_AFTER_S: Final = 3.0

UNDER_WAY_S: Final = 2 * FRESH_S
"""What arrives so soon after a 429 was sent before all could have read of it: the other workers look each `FRESH_S`."""

GRACE_S: Final = 1.0
"""A call may last so much longer than its deadline."""

LIMITED: Final[Mapping[str, Any]] = {
    "kind": "429", "model": "gpt-5-mini", "calls": 12, "retry_after_s": RETRY_AFTER_S
}  # fmt: skip
"""A limit is a deployment's. Three refusals in a row make it one at each worker, whatever went through before."""

TROUBLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "dead": {"kind": "dead"},
    "slow": {"kind": "latency", "extra_ms": 1500.0},
    "429_in_seconds": LIMITED | {"retry_after": "seconds"},
    "429_as_a_date": LIMITED | {"retry_after": "date"},
    "429_in_ms": LIMITED | {"retry_after": "ms"},
    "hanging_headers": {"kind": "hang", "rate": 0.3},
    "slow_body": {"kind": "slow_body", "rate": 0.3, "bytes_per_s": 100},
    "500_mb_body": {"kind": "huge_body", "rate": 0.3, "bytes": 500_000_000},
    "gzip_bomb": {"kind": "gzip_bomb", "rate": 0.3, "bytes": 100_000_000},
    "truncated_json": {"kind": "truncated_json", "rate": 0.3},
    "wrong_schema": {"kind": "wrong_schema", "rate": 0.3},
}


def trouble(rule: Mapping[str, Any], arena: ChaosEnvironment) -> None:
    """A batch while OpenAI's part of the simulator follows ``rule``."""
    arena.crew()
    arena.submit(BEFORE)
    arena.finish()
    began_mb = _peak_mb(arena)
    before = arena.simulator.stats()["by_outcome"]
    arena.simulator.control(faults=[{**rule, "protocol": "openai"}])
    arena.submit(QUERIES)
    arena.finish()
    after = arena.simulator.stats()["by_outcome"]
    spoilt = sum(count - before.get(kind, 0) for kind, count in after.items() if kind != "ok")
    failed = arena.one("SELECT count(*) FROM calls WHERE outcome <> 'ok'")
    # A dead provider receives nothing, and one that is slow still answers: neither logs it.
    hit = failed if rule["kind"] == "dead" else _slowed(arena) if rule["kind"] == "latency" else spoilt
    longest_s = float(arena.one("SELECT max(latency_ms) FROM calls")) / 1000.0
    early = _early(arena, rule) if rule["kind"] == "429" else 0
    peak_mb = _peak_mb(arena)
    answered = arena.one("SELECT count(*) FROM queries WHERE state = 'done'")
    # What the provider was paid for and could not deliver may be asked, and paid, again.
    arena.in_flight_at_fault = max(spoilt, arena.one("SELECT count(*) FROM calls WHERE outcome = 'unknown'"))
    arena.extras |= {
        "hit": hit,
        "answered": f"{answered}/{QUERIES + BEFORE}",
        "longest_call_s": f"{longest_s:.2f}",
        "early": early,
        "rss_mb": f"{began_mb:.0f}..{peak_mb:.0f}",
    }
    _complain(arena, hit=hit, early=early, longest_s=longest_s, grown_mb=peak_mb - began_mb)


def _complain(arena: ChaosEnvironment, *, hit: int, early: int, longest_s: float, grown_mb: float) -> None:
    deadline_s = arena.fleet.providers["openai"].deadline_s
    slots = sum(tier.concurrency for tier in arena.fleet.tiers.values())
    bound_mb = slots * arena.fleet.providers["openai"].max_response_bytes / 1e6
    if not hit:
        arena.complaints.append("the trouble hit no call")
    if early:
        arena.complaints.append(f"{early} calls came before the provider's Retry-After was over")
    if longest_s > deadline_s + GRACE_S:
        arena.complaints.append(f"a call took {longest_s:.1f} s, more than its deadline of {deadline_s:g} s allows")
    if grown_mb > bound_mb:
        arena.complaints.append(f"a worker grew by {grown_mb:.0f} MB, more than its slots' caps of {bound_mb:.0f} MB")


def _slowed(arena: ChaosEnvironment) -> int:
    return int(arena.one("SELECT count(*) FROM calls WHERE provider = 'openai' AND latency_ms >= 1500"))


def _peak_mb(arena: ChaosEnvironment) -> float:
    """The most that any worker process had resident at any time."""
    most = 0
    for worker in arena.workers.values():
        for line in Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                most = max(most, int(line.split()[1]))
    return most / 1e3


def _early(arena: ChaosEnvironment, rule: Mapping[str, Any]) -> int:
    """Calls of the model that the provider received while it had asked to be left alone, by its own log."""
    calls = [orjson.loads(line) for line in arena.simulator_log.read_bytes().splitlines()]
    theirs = [call for call in calls if call["protocol"] == "openai"]
    # An HTTP date has whole seconds.
    rest_s = RETRY_AFTER_S - (1.0 if rule["retry_after"] == "date" else 0.0)
    theirs = [call for call in theirs if call["model"] == rule["model"]]
    told = [call["time"] for call in theirs if call["status"] == 429]
    return sum(any(at + UNDER_WAY_S < call["time"] < at + rest_s for at in told) for call in theirs)


for _name, _rule in TROUBLES.items():
    # Without a Redis each worker learns of a Retry-After by itself.
    fault(f"provider_{_name}", needs_redis=_rule["kind"] == "429")(partial(trouble, _rule))
