"""The circuit of accounts: after a refused key or an empty account, a process does not call a deployment for a while.

Without it, each of 200,000 queries would try a key that is revoked at night. The waiting queries are held in Postgres,
and the feeder releases one at a time as a test (db/sql/ledger/release_held.sql).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from routing.outcome import Completion, Failure, Outcome

OPEN_S: Final = 20.0
"""Less than the time between two test queries that the feeder releases."""


@dataclass(slots=True)
class AccountCircuits:
    """The circuits of one process. ``clock`` gives seconds that only increase."""

    clock: Callable[[], float] = time.monotonic
    _faults: dict[str, tuple[float, Failure]] = field(default_factory=dict)

    def note(self, deployment: str, outcome: Outcome) -> None:
        """Open the circuit of ``deployment`` after a fault of its account. Any answer closes it."""
        if isinstance(outcome, Completion):
            self._faults.pop(deployment, None)
        elif outcome.is_of_account:
            self._faults[deployment] = (self.clock() + OPEN_S, outcome)

    def fault(self, deployment: str) -> Failure | None:
        """Return the fault for which ``deployment`` is not called now, or None if it may be called."""
        until, failure = self._faults.get(deployment, (0.0, None))
        if failure is not None and self.clock() >= until:
            del self._faults[deployment]
            return None
        return failure
