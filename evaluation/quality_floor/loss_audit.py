"""Whether the floor still holds, from audited losses as they come: valid however often, and whenever, it is looked at.

A bettor who doubts that the mean loss is at most ``most_loss`` stakes on each loss; under that hypothesis the wealth is
a supermartingale, so that it reaches 1 / risk with probability at most ``risk`` (Ville's inequality). The stakes are a
mixture of fixed fractions (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting").
The interval is the confidence sequence of all means that neither side's bettor has refuted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats

STAKES: Final = np.geomspace(0.02, 0.9, 12)
"""Fractions of the most that can be staked without ruin."""

GRID: Final = 401
"""Means between the least and the greatest loss that the interval tries."""


@dataclass(frozen=True, slots=True)
class AuditState:
    """What is known after n audited answers."""

    n: int
    evidence: float
    """The bettor's wealth against "the mean loss is at most ``most_loss``": 1 / risk is enough."""
    breached: bool
    """The evidence reached 1 / risk at some time, however it stands now."""
    mean_loss: float
    """0 without any."""
    low: float
    high: float
    """The mean loss lies between these with a confidence of 1 - risk, at all times at once."""


def audit_losses(losses: Sequence[float], *, most_loss: float, risk: float = 0.05, least: float = -1.0) -> AuditState:
    """The state after ``losses`` in the order in which they were found, each from ``least`` to 1.

    ``most_loss`` is what the audited answers may lose on average: where only answers accepted below the top tier are
    audited, 1 - floor over their share. Raises ValueError for a loss out of range.
    """
    found = np.asarray(losses, dtype=np.float64)
    if len(found) and not (found.min() >= least and found.max() <= 1.0):
        raise ValueError(f"a loss is from {least:g} to 1; fix: grade answers from 0 to 1")
    wealth = _wealth(found, np.array([most_loss]), least=least)[:, 0]
    tried = np.linspace(least, 1.0, GRID)
    # Two sides at half the risk each; what was refuted once stays so.
    above = _wealth(found, tried, least=least).max(axis=0)
    below = _wealth(-found, -tried, least=-1.0, most=-least).max(axis=0)
    kept = tried[(above < 2.0 / risk) & (below < 2.0 / risk)]
    return AuditState(
        n=len(found),
        evidence=float(wealth[-1]),
        breached=bool(wealth.max() >= 1.0 / risk),
        mean_loss=float(found.mean()) if len(found) else 0.0,
        low=float(kept.min()) if len(kept) else float(found.mean()),
        high=float(kept.max()) if len(kept) else float(found.mean()),
    )


def breaks(losses: Sequence[float], *, most_loss: float, risk: float) -> bool:
    """`AuditState.breached` alone, without the interval, which takes four hundred times as much."""
    found = np.asarray(losses, dtype=np.float64)
    return bool(_wealth(found, np.array([most_loss]), least=-1.0).max() >= 1.0 / risk)


def _wealth(losses: Floats, means: Floats, *, least: float, most: float = 1.0) -> Floats:
    """Wealth after each loss (and before the first) against each mean, shape (n + 1, means): bets that it is larger."""
    gains = losses[:, None] - means
    largest = 1.0 / np.maximum(means - least, 1e-9)
    growth = np.zeros((len(losses) + 1, len(means), len(STAKES)))
    stakes = np.minimum(STAKES[None, :] * largest[:, None], 1e6)
    growth[1:] = np.cumsum(np.log1p(np.maximum(stakes * gains[:, :, None], -0.999999)), axis=0)
    return np.asarray(np.exp(np.minimum(growth, 500.0)).mean(axis=2))
