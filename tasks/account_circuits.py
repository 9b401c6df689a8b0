"""The circuit on accounts: after a refused key or an empty account, a process leaves a deployment alone for a while.

Without it a key that is revoked at night would be tried by each of 200,000 queries. What waits is held in Postgres,
and the feeder lets one go at a time to see whether it is over (db/sql/ledger/release_held.sql).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from routing.outcome import Completion, Failure, Outcome

OPEN_S: Final = 20.0
"""Less than the time between two queries that the feeder lets go on to see."""


@dataclass(slots=True)
class AccountCircuits:
    """Of one process. ``clock`` gives seconds that only go forward."""

    clock: Callable[[], float] = time.monotonic
    _faults: dict[str, tuple[float, Failure]] = field(default_factory=dict)

    def note(self, deployment: str, outcome: Outcome) -> None:
        """Opens the circuit of ``deployment`` after a fault of its account; any answer closes it."""
        if isinstance(outcome, Completion):
            self._faults.pop(deployment, None)
        elif outcome.is_of_account:
            self._faults[deployment] = (self.clock() + OPEN_S, outcome)

    def fault(self, deployment: str) -> Failure | None:
        """The fault for which ``deployment`` is left alone now; None where it may be called."""
        until, failure = self._faults.get(deployment, (0.0, None))
        if failure is not None and self.clock() >= until:
            del self._faults[deployment]
            return None
        return failure
