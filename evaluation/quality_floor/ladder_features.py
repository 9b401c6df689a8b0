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
"""The weight of the agreement of two answers, relative to each other block of numbers.

Of 1, 1.7 and 2.8, leave-one-out over five workloads always chooses 2.8. On the workload left out, at a mean loss of
0.06, the cost changes by +0.9 % to -4.0 % of the top tier's cost, by -1.2 % on average. The value is between the two.
"""

Confidences = Mapping[str, float]
"""Confidence of one answer, 0 to 1, by source, such as ``logprob_mean`` or ``self_consistency``."""

_CACHED_ROWS: Final = 10_000
"""Up to this many rows, products of all words with all are kept (100 million numbers a block)."""


def points(n_tiers: int) -> list[LadderPoint]:
    """Every point at which a policy decides, ``ROOT`` first: below the top tier, which is always accepted."""
    below = range(n_tiers - 1)
    return [ROOT, *(LadderPoint(start, current) for start in below for current in below if current >= start)]


Block = tuple[int, ...]
"""The columns of a block: ``()`` the query, ``(tier,)`` an answer, ``(tier, tier)`` two answers' agreement."""


def blocks_at(point: LadderPoint) -> list[Block]:
    """The blocks that are known at ``point``: query, answers, pairs of answers."""
    tiers = [] if point == ROOT else list(range(point.start, point.current + 1))
    return [(), *((tier,) for tier in tiers), *combinations(tiers, 2)]


def block_weight(block: Block) -> float:
    """How much a block's numbers count."""
    return AGREEMENT_WEIGHT if len(block) == 2 else 1.0


@dataclass(slots=True)
class LadderFeatures:
    """The features of n queries and of their answers by each tier below the top."""

    n_tiers: int
    query_words: sparse.csr_matrix
    query_numbers: Floats
    answer_words: Sequence[sparse.csr_matrix]
    answer_numbers: Sequence[Floats]
    """`text_features.ANSWER_COLUMNS`, then two columns for each confidence source of the tier."""
    pair_numbers: Mapping[Block, Floats]
    _products: dict[Block, Singles] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.query_numbers)

    def numbers(self, block: Block) -> Floats:
        """The plain numbers of ``block``, shape (n, columns)."""
        match block:
            case ():
                return self.query_numbers
            case (tier,):
                return self.answer_numbers[tier]
            case _:
                return self.pair_numbers[block]

    def words(self, block: Block) -> sparse.csr_matrix | None:
        """The hashed words of ``block``, shape (n, HASH_SIZE); a pair has none."""
        match block:
            case ():
                return self.query_words
            case (tier,):
                return self.answer_words[tier]
            case _:
                return None

    def numbers_at(self, point: LadderPoint) -> list[Floats]:
        """The numbers of each block that is known at ``point``."""
        return [self.numbers(block) for block in blocks_at(point)]

    def words_at(self, point: LadderPoint) -> list[sparse.csr_matrix]:
        """The words of each block that is known at ``point`` and has any."""
        return [words for words in map(self.words, blocks_at(point)) if words is not None]

    def word_products(self, block: Block, rows: Places, others: Places) -> Floats | None:
        """The inner products of ``rows`` with ``others``, shape (rows, others); None for a block without words."""
        words = self.words(block)
        if words is None:
            return None
        if len(self) > _CACHED_ROWS:
            return np.asarray((words[rows] @ words[others].T).toarray())
        if block not in self._products:
            single = words.astype(np.float32)
            parts = [(single[first : first + 1_000] @ single.T).toarray() for first in range(0, len(self), 1_000)]
            self._products[block] = np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)
        return self._products[block][np.ix_(rows, others)].astype(np.float64)


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
    pairs: dict[Block, Floats] = {
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
