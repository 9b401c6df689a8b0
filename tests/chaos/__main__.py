"""``python -m tests.chaos [FAULT…]``: plays every fault, or those named, and prints one line for each.

python -m tests.chaos --list
python -m tests.chaos worker_kill_9 --seed 7      # the same faults at the same moments again
python -m tests.chaos --quick                     # the selection that `make test` plays
python -m tests.chaos --broker rabbitmq           # what can be played on Debian's rabbitmq-server

``POINTSMAN_TEST_DATABASE_URL`` and ``POINTSMAN_TEST_BROKER_URL`` have it use servers that run already;
faults that would break those are skipped. ``CHAOS_BACKLOG`` and ``CHAOS_MIX_S`` set how large and how long.
"""

import argparse
import os
import random
import sys
from contextlib import ExitStack
from functools import partial

import tests.chaos.faults  # noqa: F401  # registers them
from tests.chaos.fault import ALL
from tests.chaos.rabbitmq import NoRabbit, opened_rabbitmq
from tests.chaos.runner import known, play_all
from tests.chaos.shared_services import open_shared_services
from tests.failpoints import arm


def main() -> int:
    """0 where every promise was kept, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT")
    parser.add_argument("--seed", type=int, help="replays that run's choices (default: by chance, and printed)")
    parser.add_argument("--quick", action="store_true", help="only the selection of `make test`")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--list", action="store_true", help="name the faults")
    given = parser.parse_args()
    if given.list:
        print("\n".join(ALL))
        return 0
    try:
        faults = [each for each in known(given.faults) if each.quick or not given.quick]
    except KeyError as error:
        print(f"chaos: there is no fault {error}; --list names them", file=sys.stderr)
        return 2
    arm()
    seed = random.SystemRandom().randrange(10_000) if given.seed is None else given.seed
    with ExitStack() as stack:
        if given.broker == "rabbitmq":
            try:
                os.environ["POINTSMAN_TEST_BROKER_URL"] = stack.enter_context(opened_rabbitmq())
            except NoRabbit as reason:
                print(f"SKIPPED, NOTHING WAS TESTED ON RABBITMQ: {reason}")
                return 0
        ground = stack.enter_context(open_shared_services())
        bad = play_all(faults, seed=seed, ground=ground, tell=partial(print, flush=True))
    print(f"{len(faults)} faults, {bad} not as promised, seed {seed}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
