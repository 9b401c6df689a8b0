"""What a worker process knows of the budgets of batches: what is left, how many queries are open, what was spared."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from routing.answer_lengths import UNKNOWN_LENGTHS, AnswerLengths

KEPT_BATCHES: Final = 1000


@dataclass(slots=True)
class BatchBudgetState:
    """That of one batch."""

    open: int = 1
    counted_at: float = float("-inf")
    """When ``open`` was counted, by the monotonic clock."""
    unspent_usd: float = math.inf
    """What was left of its budgets when that was last read; infinite where it has none."""
    read_at: float = float("-inf")
    lengths: AnswerLengths | None = None
    """What its forecast knew of the answers; None until it is read."""
    spared_usd: float = 0.0
    """What earlier chunks left of their share: a chunk of easy queries pays for one of hard ones. A message that came
    twice counts twice; the budget itself is held at each claim."""

    @property
    def known_lengths(self) -> AnswerLengths:
        """``lengths``, or no lengths until they are read."""
        return self.lengths or UNKNOWN_LENGTHS


class BatchBudgetCache:
    """By batch; of so many batches the one that was not asked for longest is forgotten, and begins anew."""

    def __init__(self) -> None:
        self._by_batch: OrderedDict[int, BatchBudgetState] = OrderedDict()

    def of(self, batch_id: int) -> BatchBudgetState:
        """The batch's own, kept until it is forgotten."""
        allowance = self._by_batch.setdefault(batch_id, BatchBudgetState())
        self._by_batch.move_to_end(batch_id)
        if len(self._by_batch) > KEPT_BATCHES:
            self._by_batch.popitem(last=False)
        return allowance
