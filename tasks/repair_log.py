"""Repairs in the log, by batch, tier and workload. They are read when needed and cached for some seconds."""

import asyncio
import math
import time
from collections import OrderedDict
from typing import Final, NamedTuple

from db.ledger import Ledger
from routing.answer_checks.repair import RepairRecord

REFRESH_S: Final = 5.0
KEPT_RECORDS: Final = 1000
NEWEST: Final = 500
"""The number of a tier's newest repairs that count. Older ones do not."""


class RepairKey(NamedTuple):
    """The scope of repairs: the batch's tenant and fleet, one tier, one workload."""

    batch_id: int
    tier: str
    workload: str


class RepairLog:
    """The repairs that one process has read."""

    def __init__(self, *, refresh_s: float = REFRESH_S) -> None:
        self._refresh_s = refresh_s
        self._records: OrderedDict[RepairKey, tuple[float, RepairRecord]] = OrderedDict()
        self._reading = asyncio.Lock()

    async def record_of(self, key: RepairKey, ledger: Ledger) -> RepairRecord:
        """Return the repairs of ``key``, at most some seconds old. Raises DBAPIError."""
        async with self._reading:
            read_at, record = self._records.get(key, (-math.inf, RepairRecord()))
            if time.monotonic() - read_at >= self._refresh_s:
                record = await ledger.repairs(key.batch_id, tier=key.tier, workload=key.workload, newest=NEWEST)
                self._records[key] = (time.monotonic(), record)
                if len(self._records) > KEPT_RECORDS:
                    self._records.popitem(last=False)
            return record
