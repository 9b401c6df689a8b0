"""Folds for cross-validation: random, of equal size, the same for the same seed."""

from collections.abc import Iterator

import numpy as np

from evaluation.arrays import Places

FOLDS = 5


def folds_of(n: int, *, seed: int, folds: int = FOLDS) -> Iterator[tuple[Places, Places]]:
    """(train, test) places for each fold; the tests together are all ``n``, each once."""
    order = np.random.default_rng(seed).permutation(n)
    for fold in range(min(folds, n)):
        test = np.sort(order[fold::folds])
        yield np.setdiff1d(order, test), test
