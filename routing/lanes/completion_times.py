"""The duration of a provider batch, by the log and a prior."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.lanes.lane import BatchAge

PRIOR_MEDIAN_S: Final = 7 * 60.0
PRIOR_P90_S: Final = 3600.0
"""Half of all provider batches end within 7 minutes, and 90 % within an hour, by figures of OpenRouter over 230,000
batches."""

PRIOR_WEIGHT: Final = 5.0
"""This many observed provider batches weigh as much as the prior."""

_LONGEST_S: Final = 72 * 3600.0
_EDGES_S: Final = np.concatenate([[0.0], np.geomspace(15.0, _LONGEST_S, 500)])
_Z90: Final = 1.2815515655446004

_PRIOR_SPREAD: Final = float(np.log(PRIOR_P90_S / PRIOR_MEDIAN_S)) / _Z90
"""The prior is lognormal with this median and 90th percentile. One of 1,400 batches takes longer than 24 hours."""


def lognormal_survival(at_s: NDArray[np.floating], *, spread: float, median_s: float) -> NDArray[np.float64]:
    """Return the probability of more than ``at_s`` seconds (at least 0). ``spread`` is the standard deviation of the
    logarithm."""
    from scipy.special import ndtr  # a tenth of a process's start, which those that plan no lanes do without

    with np.errstate(divide="ignore"):  # of 0 s
        return np.asarray(ndtr(-np.log(at_s / median_s) / spread))


class CompletionTimes:
    """The distribution of the time from a provider batch's creation to its end, in seconds.

    It is the posterior mean of a beta-Stacy process around the prior with `PRIOR_WEIGHT`, given the observed ages.
    Batches that had not ended are right-censored (Walker & Muliere 1997, Annals of Statistics 25(4); for a Dirichlet
    process the estimator of Susarla & Van Ryzin 1976). Without observations the result is the prior, and with many it
    is the Kaplan-Meier estimator. It assumes no family of distributions.
    """

    def __init__(self, ages: Sequence[BatchAge] = ()) -> None:
        ended = np.sort([age.age_s for age in ages if age.ended])
        open_ = np.sort([age.age_s for age in ages if not age.ended])
        prior = 1.0 - lognormal_survival(_EDGES_S, spread=_PRIOR_SPREAD, median_s=PRIOR_MEDIAN_S)
        # A batch is at risk in a cell that it enters; one that is lost from sight in the cell counts only before it.
        begin, end = _EDGES_S[:-1], _EDGES_S[1:]
        at_risk = len(ended) - np.searchsorted(ended, begin, side="right")
        at_risk = at_risk + len(open_) - np.searchsorted(open_, end, side="left")
        ends = np.searchsorted(ended, end, side="right") - np.searchsorted(ended, begin, side="right")
        mass, survivors = np.diff(prior), 1.0 - prior[:-1]
        hazard = (PRIOR_WEIGHT * mass + ends) / (PRIOR_WEIGHT * survivors + at_risk)
        self._survival = np.concatenate([[1.0], np.cumprod(1.0 - hazard)])

    def survival(self, age_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """The probability that a provider batch has not ended at each age."""
        return np.asarray(np.interp(age_s, _EDGES_S, self._survival))
