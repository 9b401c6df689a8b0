"""Folds for cross-validation: random, of equal size, the same for the same seed."""

from collections.abc import Iterator, Sequence

import numpy as np

from evaluation.data.array_types import Ints, Places

FOLDS = 5


def folds_of(n: int, *, seed: int, folds: int = FOLDS) -> Iterator[tuple[Places, Places]]:
    """Return (train, test) indexes for each fold. The tests together contain all ``n``, each once."""
    order = np.random.default_rng(seed).permutation(n)
    for fold in range(min(folds, n)):
        test = np.sort(order[fold::folds])
        yield np.setdiff1d(order, test), test


def folds_by(texts: Ints, *, seed: int) -> Iterator[tuple[Places, Places]]:
    """Return the same for rows with the numbers of their ``texts``. All rows of a text are in one fold.

    Otherwise what was learned from a text would be tested on the same text, and look better than it is.
    """
    for _, held_out in folds_of(int(texts.max(initial=-1)) + 1, seed=seed):
        tested = np.isin(texts, held_out)
        yield np.flatnonzero(~tested), np.flatnonzero(tested)


def numbered(texts: Sequence[str]) -> Ints:
    """Return the number of each text, from 0. Equal texts have equal numbers. Shape (n,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
