"""Plays faults of a cluster, all or those named, and prints one line for each. ``tests/cluster/run.sh`` starts it."""

import argparse
import os
import random
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from tests.chaos.checker import check
from tests.cluster.environment import opened_cluster
from tests.cluster.faults import ALL
from tests.cluster.scale import measure_all
from tests.cluster.servers import make_template


def main() -> int:
    """0 where every promise was kept, else 1; 2 for a fault that is none, or outside of namespaces of its own."""
    parser = argparse.ArgumentParser(prog="tests/cluster/run.sh", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT")
    parser.add_argument("--seed", type=int, help="replays that run's choices (default: by chance, and printed)")
    parser.add_argument("--scale", action="store_true", help="measure 1, 2, 4 and 8 worker processes instead")
    parser.add_argument("--list", action="store_true", help="name the faults")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.list:
        print("\n".join(ALL))
        return 0
    if unknown := [name for name in given.faults if name not in ALL]:
        print(f"cluster: there is no fault {unknown[0]!r}; --list names them", file=sys.stderr)
        return 2
    if os.getpid() != 1 or given.work is None:
        print("cluster: this needs namespaces of its own. fix: run tests/cluster/run.sh", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10_000) if given.seed is None else given.seed
    template_home = given.work / "template"
    template_home.mkdir(mode=0o711)
    template = make_template(template_home)
    if given.scale:
        measure_all(work=given.work, template=template, seed=seed, tell=partial(print, flush=True))
        return 0
    bad = 0
    faults = [ALL[name] for name in given.faults] or list(ALL.values())
    for each in faults:
        began = time.monotonic()
        try:
            with opened_cluster(each.name, seed=seed, work=given.work, template=template, **each.arena) as arena:
                each.play(arena)
                verdict = check(arena)
        except Exception:  # the others are played all the same
            traceback.print_exc()
            print(f"fault={each.name} RED", flush=True)
            bad += 1
            continue
        flaws = each.flaws(verdict)
        print(f"{verdict.line()} took_s={time.monotonic() - began:.0f} {'RED' if flaws else 'ok'}", flush=True)
        for flaw in flaws:
            print(f"    {flaw}", flush=True)
        bad += bool(flaws)
    print(f"{len(faults)} faults, {bad} not as promised, seed {seed}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
