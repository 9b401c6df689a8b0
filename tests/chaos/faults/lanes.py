"""Provider batches whose workers are killed at each step, and that their providers break."""

import os
import time
from pathlib import Path
from typing import Any, Final

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault
from tests.chaos.faults.workers import kill

ARENA: Final[dict[str, Any]] = {
    "fleet": Path(__file__).parents[1] / "lanes_fleet.toml",
    "simulator": {"batch": {"clock": 600.0}},
}
DEADLINE_S: Final = 6 * 3600.0
STEPS: Final = (
    "die_forming",
    "die_after_upload",
    "die_before_create",
    "die_after_create",
    "die_after_submit",
    "die_before_poll",
    "die_before_fetch",
    "die_applying",
    "die_after_apply",
    "die_before_done",
)
CANCEL_STEPS: Final = ("die_before_cancel", "die_after_cancel")
MIX_S: Final = float(os.environ.get("CHAOS_LANES_MIX_S", "120"))

BROKEN: Final = (
    {"kind": "batch_lost_reply", "rate": 0.2},
    {"kind": "batch_rate_limited", "rate": 0.2, "retry_after_s": 1},
    {"kind": "batch_file_gone", "rate": 0.1},
    {"kind": "batch_expired", "rate": 0.15},
    {"kind": "batch_partial", "rate": 0.15},
    {"kind": "batch_failed", "rate": 0.1},
    {"kind": "batch_duplicate", "rate": 0.3},
    {"kind": "batch_unknown_key", "rate": 0.3},
    {"kind": "batch_out_of_order", "rate": 0.5},
)


def dying_at(arena: ChaosEnvironment, *steps: str) -> str:
    """Failpoints that kill a worker once at each of ``steps``."""
    return ",".join(f"{step}={arena.home / 'run' / step}" for step in steps)


def count_deaths(arena: ChaosEnvironment, *steps: str) -> None:
    """Complains of a step at which no worker has died."""
    struck = [step for step in steps if (arena.home / "run" / step).exists()]
    arena.extras["steps"] = len(struck)
    arena.complaints += [f"no worker died at {step}" for step in steps if step not in struck]


def count_waves(arena: ChaosEnvironment) -> None:
    """Notes how many provider batches there were; complains where one is open, or every query went at standard."""
    arena.until(
        lambda: arena.one("SELECT count(*) FROM provider_batches WHERE state <> 'done'") == 0, what="all are over"
    )
    arena.extras["waves"] = arena.one("SELECT count(*) FROM provider_batches WHERE outcome NOT IN ('empty', 'unsent')")
    arena.extras["batched"] = arena.one(
        "SELECT count(*) FROM calls WHERE provider_batch_id IS NOT NULL AND outcome = 'ok'"
    )
    if not arena.extras["batched"]:
        arena.complaints.append("no line of a provider batch was answered")


@fault("lanes_kill_at_create", quick=True, graceful=True, arena=ARENA)
def killed_before_the_reply_to_a_create(arena: ChaosEnvironment) -> None:
    """The provider is asked, and has it: nothing is bought twice."""
    arena.crew(workers=1, failpoints=dying_at(arena, "die_after_create"))
    arena.submit(60, deadline_s=DEADLINE_S)
    arena.finish()
    count_waves(arena)
    count_deaths(arena, "die_after_create")


@fault("lanes_kill_at_each_step", graceful=True, arena=ARENA)
def killed_at_each_step(arena: ChaosEnvironment) -> None:
    arena.crew(workers=2, failpoints=dying_at(arena, *STEPS))
    arena.submit(500, deadline_s=DEADLINE_S)
    arena.finish(within_s=600.0)
    count_waves(arena)
    count_deaths(arena, *STEPS)


@fault("lanes_kill_in_cancel", graceful=True, arena=ARENA)
def killed_while_it_cancels(arena: ChaosEnvironment) -> None:
    """What was answered before is billed, and in the ledger; nothing is asked again."""
    arena.simulator.control(faults=[{"kind": "batch_stuck"}])
    arena.crew(workers=2, failpoints=dying_at(arena, *CANCEL_STEPS))
    public_id = arena.submit(300, deadline_s=DEADLINE_S)
    submitted = "SELECT count(*) FROM provider_batches WHERE state = 'submitted'"
    arena.until(lambda: arena.one(submitted) > 0, what="a provider batch is under way")
    arena.sleep(8.0)
    arena.cancel(public_id)
    arena.finish()
    count_waves(arena)
    count_deaths(arena, *CANCEL_STEPS)


@fault("lanes_broken_by_providers", graceful=True, arena=ARENA)
def broken_by_their_providers(arena: ChaosEnvironment) -> None:
    arena.simulator.control(faults=list(BROKEN))
    arena.crew(workers=2)
    for _ in range(4):
        arena.submit(150, deadline_s=DEADLINE_S)
        arena.sleep(3.0)
    arena.finish(within_s=600.0)
    count_waves(arena)


@fault("lanes_random_mix", may_bury=8, arena=ARENA)
def killed_at_random(arena: ChaosEnvironment) -> None:
    """Workers and feeders are killed all the time, and the providers break what they can."""
    arena.simulator.control(faults=list(BROKEN))
    arena.crew(workers=3, feeders=2)
    until = time.monotonic() + MIX_S
    kills = 0
    while time.monotonic() < until:
        if int(arena.one("SELECT count(*) FROM queries WHERE finished_at IS NULL")) < 300:
            arena.submit(200, deadline_s=arena.draw.choice((DEADLINE_S, DEADLINE_S, None)), cap_usd=10.0)
        arena.sleep(arena.draw.uniform(0.3, 4.0))
        name = arena.draw.choice(list(arena.workers))
        if arena.workers[name].alive:
            kill(arena, name)
            kills += 1
    arena.simulator.control(faults=[])
    arena.finish(within_s=600.0)
    count_waves(arena)
    arena.extras |= {"queries": sum(arena.submitted.values()), "kills": kills}
