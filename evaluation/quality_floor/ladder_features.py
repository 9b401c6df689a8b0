"""The evidence at each point of the ladder, as rows of numbers: the query, the answers so far, how far they agree.

A *point* is (start, current): the places of the tier that was asked first and of the one that was asked last, in ladder
order; all tiers between have answered. ``ROOT`` is the point before any answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats, Places, Singles
from evaluation.quality_floor import text_features
from evaluation.quality_floor.text_features import answer_features, confidence_columns, hashed_words, query_features


class LadderPoint(NamedTuple):
    """How far a query has come: the place of the first tier that was asked, and of the last."""

    start: int
    current: int


ROOT: Final = LadderPoint(-1, -1)

AGREEMENT_WEIGHT: Final = 2.0
"""How much the agreement of two answers counts beside each other block of numbers.

Of 1, 1.7 and 2.8, each of five workloads would choose the last by the other four. There it costs, at a mean loss of
0.06, from 0.9 % more to 4.0 % less of the top tier's cost, 1.2 % less in the mean; this is between the two.
"""

Confidences = Mapping[str, float]
"""Confidence of one answer, 0 to 1, by source, such as ``logprob_mean`` or ``self_consistency``."""

_CACHED_ROWS: Final = 3_000
"""Up to this many rows, products of all words with all are kept (9 million numbers)."""


def points(n_tiers: int) -> list[LadderPoint]:
    """Every point at which a policy decides, ``ROOT`` first: below the top tier, which is always accepted."""
    below = range(n_tiers - 1)
    return [ROOT, *(LadderPoint(start, current) for start in below for current in below if current >= start)]


@dataclass(slots=True)
class LadderFeatures:
    """The features of n queries and of their answers by each tier below the top."""

    n_tiers: int
    query_words: sparse.csr_matrix
    query_numbers: Floats
    answer_words: Sequence[sparse.csr_matrix]
    answer_numbers: Sequence[Floats]
    """`text_features.ANSWER_COLUMNS`, then two columns for each confidence source of the tier."""
    pair_numbers: Mapping[tuple[int, int], Floats]
    _products: dict[object, Singles] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.query_numbers)

    def numbers(self, point: LadderPoint) -> list[Floats]:
        """The blocks of plain numbers at ``point``, each of shape (n, columns): query, answers, pairs."""
        tiers = _tiers_at(point)
        blocks = [self.query_numbers, *(self.answer_numbers[tier] for tier in tiers)]
        return blocks + [self.pair_numbers[pair] for pair in combinations(tiers, 2)]

    @staticmethod
    def number_weights(point: LadderPoint) -> list[float]:
        """How much each block of `numbers` counts."""
        answers = len(_tiers_at(point))
        return [1.0] * (1 + answers) + [AGREEMENT_WEIGHT] * (answers * (answers - 1) // 2)

    def words(self, point: LadderPoint) -> list[sparse.csr_matrix]:
        """The blocks of hashed words at ``point``, each of shape (n, HASH_SIZE): query, answers."""
        return [self.query_words, *(self.answer_words[tier] for tier in _tiers_at(point))]

    def word_products(self, point: LadderPoint, rows: Places, others: Places) -> Floats:
        """The sum over word blocks of the inner products of ``rows`` with ``others``, shape (rows, others)."""
        keys = [-1, *_tiers_at(point)]
        total = np.zeros((len(rows), len(others)))
        for key, words in zip(keys, self.words(point), strict=True):
            if len(self) <= _CACHED_ROWS:
                if key not in self._products:
                    self._products[key] = np.asarray((words @ words.T).todense(), dtype=np.float32)
                total += self._products[key][np.ix_(rows, others)]
            else:
                total += np.asarray((words[rows] @ words[others].T).todense())
        return total


def ladder_features(
    queries: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    confidences: Sequence[Sequence[Confidences]] | None = None,
    sources: Sequence[Sequence[str]] | None = None,
) -> LadderFeatures:
    """The features of ``queries`` with ``answers[tier][row]``, tiers below the top in ladder order.

    ``confidences[tier][row]`` are what is known of each answer, of which ``sources[tier]`` count.
    """
    answer_numbers = []
    for tier, texts in enumerate(answers):
        plain = [answer_features(query, answer) for query, answer in zip(queries, texts, strict=True)]
        block = np.array(plain, dtype=np.float64).reshape(len(queries), text_features.ANSWER_COLUMNS)
        if confidences is not None and sources is not None and sources[tier]:
            block = np.hstack([block, confidence_columns(confidences[tier], sources[tier])])
        answer_numbers.append(block)
    pairs = {
        (one, other): np.array(
            [text_features.pair_features(*two) for two in zip(answers[one], answers[other], strict=True)],
            dtype=np.float64,
        ).reshape(len(queries), text_features.PAIR_COLUMNS)
        for one, other in combinations(range(len(answers)), 2)
    }
    return LadderFeatures(
        n_tiers=len(answers) + 1,
        query_words=hashed_words(queries),
        query_numbers=np.array([query_features(query) for query in queries], dtype=np.float64).reshape(
            len(queries), text_features.QUERY_COLUMNS
        ),
        answer_words=[hashed_words(texts) for texts in answers],
        answer_numbers=answer_numbers,
        pair_numbers=pairs,
    )


def _tiers_at(point: LadderPoint) -> list[int]:
    return [] if point == ROOT else list(range(point.start, point.current + 1))
