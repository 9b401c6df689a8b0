"""The broker wiped, killed, away, frozen, full."""

import signal

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault


@fault("redis_flushall", quick=True, needs_redis=True, recovers_within_s=10.0)
def wiped_at_half(arena: ChaosEnvironment) -> None:
    arena.begin(500, share=0.5)
    arena.strike(count=False)
    arena.client.flushall()
    arena.finish()


@fault("redis_kill_9", needs_redis=True, recovers_within_s=15.0)
def killed_and_empty(arena: ChaosEnvironment) -> None:
    arena.begin(500, share=0.3)
    arena.strike(count=False)
    arena.kill_redis()
    arena.sleep(2.0)
    arena.start_redis()
    arena.over()
    arena.finish()


@fault("redis_away_60_s", needs_redis=True, recovers_within_s=20.0)
def away_for_a_minute(arena: ChaosEnvironment) -> None:
    arena.begin(500, share=0.3)
    arena.strike(count=False)
    arena.kill_redis()
    arena.sleep(20.0)
    arena.submit(200, tag="meanwhile")
    arena.sleep(40.0)
    arena.start_redis()
    arena.over()
    arena.finish()


@fault("redis_sigstop_30_s", needs_redis=True, recovers_within_s=30.0)
def frozen_half_a_minute(arena: ChaosEnvironment) -> None:
    arena.begin(800, share=0.3)
    arena.strike(count=False)
    assert arena.redis is not None
    arena.redis.process.send_signal(signal.SIGSTOP)
    arena.sleep(30.0)
    arena.redis.process.send_signal(signal.SIGCONT)
    arena.over()
    arena.finish()


@fault("redis_maxmemory", needs_redis=True, recovers_within_s=30.0)
def full(arena: ChaosEnvironment) -> None:
    arena.begin(800, share=0.2)
    arena.strike(count=False)
    client = arena.client
    client.config_set("maxmemory", "1mb")
    arena.sleep(10.0)
    client.config_set("maxmemory", "64mb")
    arena.over()
    arena.finish()
