"""Workers whose clocks are wrong. Leases and due times run by Postgres' clock alone."""

import shutil
import subprocess
from pathlib import Path

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import Skipped, fault

SKEW_S = 7200


@fault("clock_skew_2_h", graceful=True)
def wrong_clocks(arena: ChaosEnvironment) -> None:
    """One worker is two hours ahead, one two hours behind, and so is a feeder."""
    library = _library(arena.home)
    arena.crew(workers=1, feeders=0)
    arena.add("ahead", CHAOS_SKEW_S=str(SKEW_S), LD_PRELOAD=str(library))
    arena.add("behind", CHAOS_SKEW_S=str(-SKEW_S), LD_PRELOAD=str(library))
    arena.add("feeder0", "feeder", CHAOS_SKEW_S=str(SKEW_S), LD_PRELOAD=str(library))
    arena.await_ready()
    arena.submit(600)
    arena.finish()
    by_worker = dict(
        arena.ask("SELECT w.name, count(*) FROM calls AS c JOIN workers AS w ON w.id = c.worker_id GROUP BY 1")
    )
    arena.extras["calls"] = ",".join(f"{name}:{count}" for name, count in sorted(by_worker.items()))
    if len(by_worker) < 3:
        arena.complaints.append("not every worker took part")
    if rescued := arena.one("SELECT count(*) FROM decisions WHERE kind = 'rescue'"):
        arena.complaints.append(f"{rescued} leases were taken for expired")


def _library(home: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Skipped("there is no C compiler to build the wrong clock with")
    library = home / "clock.so"
    source = Path(__file__).parents[1] / "clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library
