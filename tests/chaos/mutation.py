"""``python -m tests.chaos.mutation``: switches each guard off in turn, and shows which test notices.

A guard that can be taken away without a test turning red is none. For each: the same tests with it
(they must be green) and without it (at least one must be red).
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from settings import ROOT
from tests.failpoints import GUARDS

MACHINE = "the state machine"
BY_GUARD: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "fence": ("who claimed before moves nothing", (MACHINE, "worker_sigstop_past_lease")),
    "rescue": ("the feeder returns what a lost worker held", (MACHINE, "worker_kill_9")),
    "grace": ("no lease expires while Postgres was away", ("postgres_away_longer_than_a_lease",)),
    "settling": ("a call that nobody reports is charged", ("worker_kill_9",)),
    "settling_once": ("a reservation is freed once", (MACHINE,)),
    "cap": ("reserved and spent never pass the cap", (MACHINE, "tight_budget")),
    "claim_once": ("a second message finds nothing to claim", (MACHINE, "each_message_three_times")),
    "submit_once": ("one idempotency key is one batch", ("submitted_50_times_in_parallel",)),
}
"""What each guard promises, and which tests hold it to that."""


@dataclass(frozen=True)
class Outcome:
    """How one test went."""

    red: bool
    why: str


def main() -> int:
    """0 where every test is green with its guard and each guard is missed by a test, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutation", description=__doc__)
    parser.add_argument("guards", nargs="*", metavar="GUARD", help=f"of {', '.join(GUARDS)} (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1, help="how many runs at the same time")
    given = parser.parse_args()
    asked = given.guards or list(BY_GUARD)
    tests = dict.fromkeys(test for guard in asked for test in BY_GUARD[guard][1])
    runs = [(None, test) for test in tests] + [(guard, test) for guard in asked for test in BY_GUARD[guard][1]]
    with ThreadPoolExecutor(given.at_once) as pool:
        outcomes = dict(zip(runs, pool.map(lambda run: _play(*run, seed=given.seed), runs), strict=True))
    return _tell(asked, outcomes)


def _tell(asked: list[str], outcomes: Mapping[tuple[str | None, str], Outcome]) -> int:
    bad = 0
    print(f"{'guard':<14} {'test':<36} {'with':<6} {'without':<8} what the test said without it")
    for guard in asked:
        promise, tests = BY_GUARD[guard]
        noticed = False
        for test in tests:
            whole, mutated = outcomes[None, test], outcomes[guard, test]
            noticed |= mutated.red
            bad += whole.red
            print(
                f"{guard:<14} {test:<36} {'RED' if whole.red else 'green':<6} {'red' if mutated.red else 'GREEN':<8} "
                f"{mutated.why if mutated.red else ''}{'  WITH IT: ' + whole.why if whole.red else ''}"
            )
        if not noticed:
            bad += 1
            print(f"    NOBODY NOTICES: {promise}")
    print(f"{len(asked)} guards, {bad} faults of the suite")
    return 1 if bad else 0


def _play(guard: str | None, test: str, *, seed: int) -> Outcome:
    environ = {name: value for name, value in os.environ.items() if name != "POINTSMAN_FAILPOINTS"}
    environ["CHAOS_PATIENCE_S"] = "45" if guard else "120"
    if guard is not None:
        environ["POINTSMAN_FAILPOINTS"] = f"without_{guard}"
    argv = ["-m", "tests.chaos", test, "--seed", str(seed)]
    if test == MACHINE:
        argv = ["-m", "pytest", "-q", "-x", "--no-header", "--tb=short", "tests/integration/test_ledger_machine.py"]
    ended = subprocess.run(
        [sys.executable, *argv], cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=400
    )
    return Outcome(ended.returncode != 0, _why(ended.stdout, machine=test == MACHINE))


def _why(output: str, *, machine: bool) -> str:
    """The first thing that the test found wrong."""
    lines = output.splitlines()
    mark = "E   " if machine else "    "
    return next((line.strip().removeprefix("E").strip()[:110] for line in lines if line.startswith(mark)), "")


if __name__ == "__main__":
    sys.exit(main())
