"""Words and pairs of neighbouring words, weighted by TF-IDF.

The same code reads texts in training and at work. A weight is ``(1 + ln tf) · idf`` with
``idf = 1 + ln((1 + n) / (1 + df))``, each row scaled to length 1 (scikit-learn's
``TfidfVectorizer(sublinear_tf=True)``; Salton & Buckley 1988).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats, Ints, Parts
from evaluation.models.tokenizer import tokens_of

MIN_TEXTS: Final = 3
"""Minimum texts that contain a word or pair. Rarer ones are left out."""

UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Columns 0 … words-1 are the words, the columns after them the pairs."""

    words: dict[str, int] = field(repr=False)
    pairs: Ints = field(repr=False)
    """Sorted keys ``left · words + right`` of the known pairs."""
    idf: Floats = field(repr=False)

    @property
    def size(self) -> int:
        """The number of columns."""
        return len(self.idf)

    def weigh(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """The TF-IDF rows of ``texts``, shape (n, size)."""
        return self.weigh_tokens([tokens_of(text) for text in texts])

    def weigh_tokens(self, texts: Sequence[Sequence[str]]) -> sparse.csr_matrix:
        """The same, for texts that are already tokens."""
        rows, words = self._look_up(texts)
        columns = np.concatenate([words, self._pair_columns(rows, words)])
        rows = np.concatenate([rows, rows[:-1]]) if len(rows) else rows
        known = columns != UNKNOWN
        cells, tf = np.unique(rows[known] * self.size + columns[known], return_counts=True)
        rows, columns = np.divmod(cells, max(self.size, 1))
        weights = (1.0 + np.log(tf)) * self.idf[columns]
        norms = np.sqrt(np.bincount(rows, weights * weights, minlength=len(texts)))
        weights /= norms[rows]
        ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(texts)))])
        return sparse.csr_matrix((weights, columns, ends), shape=(len(texts), self.size))

    def parts(self) -> Parts:
        words = json.dumps(list(self.words), ensure_ascii=False).encode()
        return {"words": np.frombuffer(words, dtype=np.uint8), "pairs": self.pairs, "idf": self.idf.astype(np.float32)}

    @classmethod
    def from_arrays(cls, parts: Parts) -> "Vocabulary":
        words = json.loads(parts["words"].tobytes().decode())
        return cls(
            {word: column for column, word in enumerate(words)},
            parts["pairs"].astype(np.int64),
            parts["idf"].astype(np.float64),
        )

    def _look_up(self, texts: Sequence[Sequence[str]]) -> tuple[Ints, Ints]:
        """The row of each token, and its column or UNKNOWN."""
        get = self.words.get
        columns = np.array([get(token, UNKNOWN) for tokens in texts for token in tokens], dtype=np.int64)
        return np.repeat(np.arange(len(texts)), [len(tokens) for tokens in texts]), columns

    def _pair_columns(self, rows: Ints, words: Ints) -> Ints:
        """The column of the pair that begins at each token but the last, or UNKNOWN."""
        left, right = words[:-1], words[1:]
        columns = np.full(len(left), UNKNOWN, dtype=np.int64)
        if not len(self.pairs):
            return columns
        within = (left != UNKNOWN) & (right != UNKNOWN) & (rows[:-1] == rows[1:])
        keys = left[within] * len(self.words) + right[within]
        places = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        columns[within] = np.where(self.pairs[places] == keys, places + len(self.words), UNKNOWN)
        return columns


def learn_vocabulary(texts: Sequence[Sequence[str]], *, min_texts: int = MIN_TEXTS) -> Vocabulary:
    """The vocabulary of ``texts``, given as tokens: every word and pair that at least ``min_texts`` of them hold."""
    words = _frequent_words(texts, min_texts)
    bare = Vocabulary(words, np.zeros(0, dtype=np.int64), np.ones(len(words)))
    rows, columns = bare._look_up(texts)
    known = columns != UNKNOWN
    word_texts = _texts_with(rows[known], columns[known], len(words))
    pairs, pair_texts = _frequent_pairs(rows, columns, len(words), min_texts)
    held = np.concatenate([word_texts, pair_texts])
    return Vocabulary(words, pairs, 1.0 + np.log((1.0 + len(texts)) / (1.0 + held)))


def _frequent_words(texts: Sequence[Sequence[str]], min_texts: int) -> dict[str, int]:
    held: dict[str, int] = {}
    for tokens in texts:
        for token in set(tokens):
            held[token] = held.get(token, 0) + 1
    frequent = sorted(word for word, count in held.items() if count >= min_texts)
    return {word: column for column, word in enumerate(frequent)}


def _texts_with(rows: Ints, columns: Ints, size: int) -> Ints:
    """How many texts hold each column."""
    cells = np.unique(rows * max(size, 1) + columns)
    return np.bincount(cells % max(size, 1), minlength=size)[:size].astype(np.int64)


def _frequent_pairs(rows: Ints, columns: Ints, words: int, min_texts: int) -> tuple[Ints, Ints]:
    """The keys of the frequent pairs, sorted, and how many texts hold each."""
    left, right = columns[:-1], columns[1:]
    within = (left != UNKNOWN) & (right != UNKNOWN) & (rows[:-1] == rows[1:])
    keys = left[within] * words + right[within]
    found, inverse = np.unique(keys, return_inverse=True)
    held = _texts_with(rows[:-1][within], inverse.astype(np.int64), len(found))
    frequent = held >= min_texts
    return found[frequent], held[frequent]
