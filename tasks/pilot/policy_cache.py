"""The policies of batches with a decided pilot, as this process serves them."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from db.pilots import BatchPolicy, Pilots
from evaluation.graders.text_graders import GraderKind
from routing.pilot import QualityPolicy, TopTierPolicy
from tasks.pilot.pilot_certification import read_policy

REFRESH_S: Final = 2.0
"""A breach takes effect within this many seconds."""

KEPT_BATCHES: Final = 64


class ServedPolicy(NamedTuple):
    """A batch's policy. ``policy`` None is the fleet's own routing."""

    policy: QualityPolicy | None
    audit_share: float
    grader: GraderKind | None = None
    """The grader of the sample and of audits. None if no policy accepts anything below the top tier."""
    why: str = ""
    """Why a query follows it."""


class PolicyCache:
    """Policies by batch id, read again every `REFRESH_S`. A policy is built only once."""

    def __init__(self) -> None:
        self._served: OrderedDict[int, tuple[float, bool, ServedPolicy]] = OrderedDict()
        self._reading = asyncio.Lock()
        """A policy can have megabytes of weights: the answers of a batch that need it at once read it once."""

    async def get(
        self, batch_ids: Iterable[int], pilots: Pilots, *, ladder: Sequence[str]
    ) -> Mapping[int, ServedPolicy]:
        """Return the policies of those of ``batch_ids`` that have one. Raises DBAPIError."""
        wanted = set(batch_ids)
        if self._stale(wanted):
            async with self._reading:
                if stale := self._stale(wanted):
                    await self._read(stale, pilots, ladder=ladder)
        found = {id_: self._served[id_][2] for id_ in wanted if id_ in self._served}
        while len(self._served) > KEPT_BATCHES:
            self._served.popitem(last=False)
        return found

    def _stale(self, wanted: Iterable[int]) -> list[int]:
        oldest = time.monotonic() - REFRESH_S
        return [id_ for id_ in wanted if id_ not in self._served or self._served[id_][0] < oldest]

    async def _read(self, stale: Sequence[int], pilots: Pilots, *, ladder: Sequence[str]) -> None:
        now = time.monotonic()
        known = [id_ for id_ in stale if id_ in self._served]
        for batch_id, stored in (await pilots.policies(stale, known=known)).items():
            before = self._served.get(batch_id)
            if before is not None and before[1] == stored.is_breached:
                served = before[2]
            else:
                served = await asyncio.to_thread(_served, stored, ladder)
            self._served[batch_id] = (now, stored.is_breached, served)
            self._served.move_to_end(batch_id)


def _served(stored: BatchPolicy, ladder: Sequence[str]) -> ServedPolicy:
    if stored.is_breached:
        why = "audits showed that the policy broke the floor, so the top tier answers"
        return ServedPolicy(TopTierPolicy(ladder[-1]), 0.0, why=why)
    grader = GraderKind(stored.policy["grader"]) if "grader" in stored.policy else None
    policy, why = _policy(stored, ladder)
    return ServedPolicy(policy, stored.audit_share, grader, why)


def _policy(stored: BatchPolicy, ladder: Sequence[str]) -> tuple[QualityPolicy | None, str]:
    match stored.policy["kind"]:
        case "default":
            return None, ""
        case "top":
            return TopTierPolicy(ladder[-1]), "the pilot certified no policy, so the top tier answers"
        case _ if list(stored.policy["tiers"]) != list(ladder):
            return TopTierPolicy(ladder[-1]), "the policy was certified for other tiers, so the top tier answers"
        case _:
            return read_policy(stored.policy, stored.weights or b""), stored.policy["why"]
