"""Whether the floor still holds, from audited losses as they come: valid however often, and whenever, it is looked at.

A bettor who doubts that the mean loss is at most ``most_loss`` stakes on each loss; under that hypothesis the wealth is
a supermartingale, so that it reaches 1 / risk with probability at most ``risk`` (Ville's inequality). The stakes are a
mixture of fixed fractions (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting").
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

STAKES: Final = np.geomspace(0.02, 0.9, 12)
"""Fractions of the most that can be staked without ruin."""


def breaks(losses: Sequence[float], *, most_loss: float, risk: float) -> bool:
    """Whether ``losses``, each from -1 to 1, in the order in which they were found, refuted ``most_loss`` at some time.

    ``most_loss`` (0 or more) is what the audited answers may lose on average: where only answers accepted below the top
    tier are audited, 1 - floor over their share.
    """
    gains = np.asarray(losses, dtype=np.float64)[:, None] - most_loss
    growth = np.cumsum(np.log1p(STAKES / (1.0 + most_loss) * gains), axis=0)
    wealth = np.exp(np.minimum(growth, 500.0)).mean(axis=1)
    return bool((wealth >= 1.0 / risk).any())
