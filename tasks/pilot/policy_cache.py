"""The policies of batches whose pilot is decided, as this process serves them."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from db.pilots import BatchPolicy, Pilots
from routing.pilot import QualityPolicy, TopTierPolicy
from tasks.pilot.pilot_certification import read_policy

REFRESH_S: Final = 2.0
"""A breach is heeded this soon."""

KEPT_BATCHES: Final = 64


class ServedPolicy(NamedTuple):
    """A batch's policy. ``policy`` None is the fleet's own routing."""

    policy: QualityPolicy | None
    audit_share: float


class PolicyCache:
    """Policies by batch id, read again every `REFRESH_S`; a policy that was read once is not built again."""

    def __init__(self) -> None:
        self._served: OrderedDict[int, tuple[float, bool, ServedPolicy]] = OrderedDict()

    async def get(
        self, batch_ids: Iterable[int], pilots: Pilots, *, ladder: Sequence[str]
    ) -> Mapping[int, ServedPolicy]:
        """Those of ``batch_ids`` that have one. Raises DBAPIError."""
        now = time.monotonic()
        wanted = set(batch_ids)
        stale = [id_ for id_ in wanted if id_ not in self._served or self._served[id_][0] < now - REFRESH_S]
        if stale:
            for batch_id, stored in (await pilots.policies(stale)).items():
                known = self._served.get(batch_id)
                if known is not None and known[1] == stored.is_breached:
                    served = known[2]
                else:
                    served = ServedPolicy(_policy(stored, ladder), 0.0 if stored.is_breached else stored.audit_share)
                self._served[batch_id] = (now, stored.is_breached, served)
                self._served.move_to_end(batch_id)
            while len(self._served) > KEPT_BATCHES:
                self._served.popitem(last=False)
        return {id_: self._served[id_][2] for id_ in wanted if id_ in self._served}


def _policy(stored: BatchPolicy, ladder: Sequence[str]) -> QualityPolicy | None:
    if stored.is_breached:
        return TopTierPolicy(ladder[-1])
    match stored.policy["kind"]:
        case "default":
            return None
        case "top":
            return TopTierPolicy(ladder[-1])
        case _:
            return read_policy(stored.policy, stored.weights or b"")
