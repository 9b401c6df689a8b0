"""What is paid once stays so while workers die: cached prefixes, repeated lines, repairs, and every kind of price."""

from tasks.stages.prefix_leases import LEASE_S
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault
from tests.chaos.faults.workers import kill, kill_at_random
from tests.chaos.query_corpus import SHARED_PREFIX

MODEL = "claude-haiku-4-5"
FORMAT_FAULTS = (
    {"kind": "in_a_sentence", "rate": 0.3},
    {"kind": "code_fence", "rate": 0.3},
    {"kind": "full_stop", "rate": 0.2},
)

_WRITES = (
    "SELECT count(*) FROM calls AS c JOIN batches AS b ON b.id = c.batch_id"
    " WHERE b.public_id = %s AND c.cache_write_tokens > 0"
)
_PROCESSES = (
    "SELECT count(DISTINCT c.worker_id) FROM calls AS c JOIN batches AS b ON b.id = c.batch_id WHERE b.public_id = %s"
)
_WRITER = (
    "SELECT w.name FROM calls AS c JOIN workers AS w ON w.id = c.worker_id JOIN batches AS b ON b.id = c.batch_id"
    " WHERE b.public_id = %s AND c.outcome IS NULL"
)
_HELD_S = (
    "SELECT extract(epoch FROM min(c.created_at) FILTER (WHERE w.name <> %s) - min(c.created_at))::float8"
    " FROM calls AS c JOIN workers AS w ON w.id = c.worker_id JOIN batches AS b ON b.id = c.batch_id"
    " WHERE b.public_id = %s"
)


@fault("shared_prefix_kill_9", needs_redis=True)
def killed_while_it_writes_a_prefix(arena: ChaosEnvironment) -> None:
    """Two processes write a prefix once; where the writer's dies, the readers of the other one wait for its lease."""
    arena.crew(workers=2)
    whole = arena.submit(200, prefix=SHARED_PREFIX, pin=MODEL)
    arena.at(1.0)
    writes, processes = int(arena.one(_WRITES, [whole])), int(arena.one(_PROCESSES, [whole]))
    if (writes, processes) != (1, 2):
        arena.complaints.append(f"{processes} processes wrote a prefix {writes} times")

    arena.simulator.control(latency={"shape": "fixed", "ms": 1500})
    halved = arena.submit(200, prefix=SHARED_PREFIX, pin=MODEL)
    arena.until(lambda: arena.open_calls() > 0, what="the writer is under way")
    name = str(arena.one(_WRITER, [halved]))
    kill(arena, name)
    arena.simulator.control(latency={"shape": "uniform", "low_ms": 50, "high_ms": 150})
    arena.finish()
    held_s = float(arena.one(_HELD_S, [name, halved]))
    arena.extras |= {"writes": writes, "writes_after_kill": int(arena.one(_WRITES, [halved])), "readers_held_s": held_s}
    if held_s > 2 * LEASE_S:
        arena.complaints.append(f"the readers of a killed writer were held for {held_s:.1f} s")


@fault("pay_once_kill_9_x8", may_bury=4)
def killed_while_everything_is_on(arena: ChaosEnvironment) -> None:
    """Repeated lines, shared prefixes, corrections, repairs, an hour's cache, flex and sound in one mix."""
    arena.simulator.control(faults=list(FORMAT_FAULTS))
    arena.crew(workers=3)
    arena.submit(400, repeated=0.4, prefix=SHARED_PREFIX)
    arena.submit(200, prefix=SHARED_PREFIX, pin=MODEL)
    arena.submit(300, choices=["yes", "no"], repeated=0.2)
    arena.submit(400, priced_apart=True)
    arena.at(0.02)
    kill_at_random(arena, 8)
    arena.finish()
    met = {
        "cache_writes": "FROM calls WHERE cache_write_tokens > 0",
        "cache_writes_1h": "FROM calls WHERE cache_write_1h_tokens > 0",
        "cache_reads": "FROM calls WHERE cached_tokens > 0",
        "flex": "FROM calls WHERE service_tier = 'flex'",
        "sound": "FROM calls WHERE audio_tokens > 0",
        "low_effort": "FROM calls WHERE deployment = 'gpt-5.2-low' AND outcome = 'ok'",
        "repairs": "FROM calls WHERE purpose = 'repair'",
        "corrected": "FROM decisions WHERE kind = 'judge' AND 'corrected' = ANY(codes)",
        "shared": "FROM decisions WHERE kind = 'share' AND move = 'finish'",
    }
    counts = {name: int(arena.one(f"SELECT count(*) {what}")) for name, what in met.items()}
    arena.extras |= counts
    arena.complaints += [f"not in the mix: {name}" for name, count in counts.items() if not count]
