"""Upper bounds on a mean loss from a sample of it, at a stated confidence, without assumptions on its distribution.

`upper_bounds` is Gaffke's bound (N. Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the
mean of a nonnegative variable", Math. Methods of Statistics 14, 2005; also Learned-Miller & Thomas, "A new confidence
interval for the mean of a bounded random variable", arXiv:1905.06208): the (1 - risk) quantile of a mean with random
weights (uniform spacings) over the sample and one more observation at the worst value. For losses of 0 or 1 it is the
exact binomial bound (Clopper & Pearson); for graded or paired losses it adapts to their variance.
"""

from functools import lru_cache
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats

DRAWS: Final = 4_000
_SEED: Final = 20_240_613


def upper_bounds(losses: Floats, *, risk: float, rest: int | None = None, worst: float = 1.0) -> Floats:
    """For each column of ``losses`` (n, columns) a bound that its mean exceeds with probability at most ``risk``.

    ``rest`` bounds the mean of that many further draws instead of the mean of the population (None). ``worst`` is the
    largest loss there can be. Without a loss to go by the bound is ``worst``.
    """
    n = len(losses)
    if n == 0:
        return np.full(losses.shape[1], worst)
    weights = _weights(n, rest)
    # Policies that are next to each other often decide alike, and so have the same bound.
    is_new = np.append(True, (losses[:, 1:] != losses[:, :-1]).any(axis=0))
    means = weights[:, :n] @ losses[:, is_new] + weights[:, n:] * worst
    return np.asarray(np.quantile(means, 1.0 - risk, axis=0, method="higher")[np.cumsum(is_new) - 1])


@lru_cache(maxsize=16)
def _weights(n: int, rest: int | None) -> Floats:
    """Random weights of n + 1 observations, shape (DRAWS, n + 1).

    Uniform spacings are exponential variables over their sum. A mean of ``rest`` further draws varies more than the
    population's, by 1 + n / rest in variance, and so do gamma variables of the shape rest / (n + rest).
    """
    shape = 1.0 if rest is None else rest / (n + rest)
    drawn = np.random.default_rng(_SEED).standard_gamma(shape, size=(DRAWS, n + 1))
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))
