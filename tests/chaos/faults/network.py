"""The line to the provider breaks, at the two moments when it costs money."""

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault
from tests.chaos.proxy import Cut, opened_proxy


@fault("connection_reset_after_request")
def cut_after_the_request(arena: ChaosEnvironment) -> None:
    _through_a_proxy(arena, "request")


@fault("connection_reset_after_half_of_the_reply")
def cut_after_half_of_the_reply(arena: ChaosEnvironment) -> None:
    _through_a_proxy(arena, "half")


def _through_a_proxy(arena: ChaosEnvironment, cut: Cut) -> None:
    with opened_proxy(arena.simulator.port, draw=arena.draw) as proxy:
        arena.provider_url = proxy.url
        proxy.cut, proxy.rate = cut, 0.08
        arena.crew()
        arena.submit(400)
        arena.finish()
        # Each cut may be answered with one more call for the same query.
        arena.in_flight_at_fault = proxy.cuts
        arena.extras["cuts"] = proxy.cuts


@fault("provider_as_slow_as_its_deadline")
def slow(arena: ChaosEnvironment) -> None:
    """Every call takes nearly its deadline, and the lease is hardly longer: who waited for a slot has no time left."""
    tight = arena.home / "tight.toml"
    tight.write_text(arena.fleet_path.read_text().replace("lease_s = 5.0", "lease_s = 3.0"))
    arena.fleet_path = tight
    arena.simulator.control(latency={"shape": "uniform", "low_ms": 1400, "high_ms": 1700})
    arena.crew(workers=2)
    arena.submit(300)
    arena.finish()
    arena.extras["rescued"] = rescued = arena.one("SELECT count(*) FROM decisions WHERE kind = 'rescue'")
    # On a busy machine some miss their deadline; nobody knows then what became of them.
    arena.in_flight_at_fault = arena.one("SELECT count(*) FROM calls WHERE outcome = 'unknown'")
    if rescued:
        arena.complaints.append(f"{rescued} leases ran out although every worker was well")


@fault("provider_trouble")
def every_kind_of_trouble(arena: ChaosEnvironment) -> None:
    """Statuses, hangs, resets, refusals, broken bodies; then the provider refuses connections for a while."""
    kinds = {"429": 0.05, "500": 0.05, "529": 0.05, "reset": 0.02, "reset_half": 0.02, "hang": 0.01}
    bodies = {"truncated_json": 0.02, "wrong_schema": 0.02, "empty": 0.02}
    arena.simulator.control(
        faults=[
            {"kind": kind, "rate": rate} | ({"retry_after_s": 0.2} if kind == "429" else {})
            for kind, rate in (kinds | bodies).items()
        ]
    )
    arena.begin(500, share=0.3)
    arena.simulator.control(refuse_for_s=3)
    arena.sleep(1.0)
    arena.finish()
    # What the provider was paid for and could not deliver may be asked, and paid, again.
    spoilt = arena.simulator.stats()["by_outcome"]
    arena.in_flight_at_fault = sum(spoilt.get(kind, 0) for kind in ("reset", "reset_half", "hang", *bodies)) + 64
    arena.extras["provider"] = ",".join(f"{kind}:{count}" for kind, count in sorted(spoilt.items()))
