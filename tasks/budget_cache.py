"""A worker process's copy of batch budgets: what is left, how many queries are open, and what earlier chunks did not
use."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from routing.answer_lengths import UNKNOWN_LENGTHS, AnswerLengths

KEPT_BATCHES: Final = 1000


@dataclass(slots=True)
class BatchBudgetState:
    open: int = 1
    counted_at: float = float("-inf")
    """When ``open`` was counted, by the monotonic clock."""
    unspent_usd: float = math.inf
    """What was left of its budgets at the last read, in USD. Infinite without a budget."""
    read_at: float = float("-inf")
    lengths: AnswerLengths | None = None
    """The answer lengths of its forecast. None until they are read."""
    spared_usd: float = 0.0
    """What earlier chunks did not use of their shares, so that a chunk of easy queries pays for one of hard ones. A
    repeated message counts twice, but each claim checks the budget itself."""

    @property
    def known_lengths(self) -> AnswerLengths:
        """Return ``lengths``, or no lengths until they are read."""
        return self.lengths or UNKNOWN_LENGTHS


class BatchBudgetCache:
    """Budget states by batch. If there are too many, the least recently used one is forgotten, and starts again."""

    def __init__(self) -> None:
        self._by_batch: OrderedDict[int, BatchBudgetState] = OrderedDict()

    def of(self, batch_id: int) -> BatchBudgetState:
        """Return the batch's state, which is kept until it is forgotten."""
        allowance = self._by_batch.setdefault(batch_id, BatchBudgetState())
        self._by_batch.move_to_end(batch_id)
        if len(self._by_batch) > KEPT_BATCHES:
            self._by_batch.popitem(last=False)
        return allowance
