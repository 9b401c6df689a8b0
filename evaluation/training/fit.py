"""Training: the classifier and the scorer, each calibrated on examples that it had not seen.

The pattern is the same for both. Within each of five folds the early stages are fitted on the other
four, so that the later stages, and at last the calibrators, see honest predictions; then every
stage is fitted on everything. The out-of-fold predictions also give the figures that the artifact
carries as its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats, Ints, Places, Truths
from evaluation.data.cross_validation import folds_by, numbered
from evaluation.models.answer_features import answer_shape
from evaluation.models.answer_scorer import AnswerScorer, Pairs, Scaling, joined, weighed
from evaluation.models.calibration import Calibrator, fit_calibrator
from evaluation.models.classifier import Classifier, Domains, averaged, domain_means
from evaluation.models.extra_trees import Forest, grow
from evaluation.models.linear import Linear, fit_log_odds, fit_ridge
from evaluation.models.query_features import query_shape
from evaluation.models.tfidf import Vocabulary, learn_vocabulary
from evaluation.models.tokenizer import tokens_of

Progress = Callable[[str, int, int], None]
"""A callback for each step, with what is being done, the number of steps done, and the number of all steps."""

WORDS_C: Final = 0.5
PAIRS_C: Final = 1.0
DOMAIN_PENALTY: Final = 0.5
FEWEST: Final = 50
"""Minimum different texts to train on."""


Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Fitted(Generic[Model]):
    """A model, and its predictions for its training examples, each by a fit that had not seen it."""

    model: Model
    held_out: Floats


@dataclass(frozen=True, slots=True)
class _Words:
    """The stages of the classifier that read words."""

    vocabulary: Vocabulary
    linear: Linear
    domains: Domains | None


def fit_classifier(
    texts: Sequence[str],
    labels: Floats,
    *,
    tiers: tuple[str, ...],
    domains: Sequence[str] | None = None,
    known: Truths | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted[Classifier]:
    """A classifier of ``texts``; ``labels`` says how well each tier did, 0 to 1, shape (n, tiers).

    Where ``known`` (of the same shape; None: all) is false, a label is a guess: learned from, and no measure of what
    the classifier tells. ``held_out`` has the calibrated probabilities, shape (n, tiers).
    """
    tell = progress or _silent
    tokens = [tokens_of(text) for text in texts]
    shape = query_shape(texts, tokens)
    named = None if domains is None else _places_of(domains)
    folds = list(folds_by(numbered(texts), seed=seed))
    steps = len(folds) + 3
    log_odds = np.empty_like(labels)
    expected = None if named is None else np.empty_like(labels)
    for step, (train, test) in enumerate(folds):
        tell("reading words", step, steps)
        words = _fit_words(_some(tokens, train), labels[train], None if named is None else named.some(train))
        rows = words.vocabulary.weigh_tokens(_some(tokens, test))
        log_odds[test] = words.linear(rows)
        if expected is not None and words.domains is not None:
            expected[test] = words.domains.expect(rows)
    seen = np.hstack([log_odds, *([] if expected is None else [expected]), shape])
    tell("growing trees", len(folds), steps)
    shares = _held_out_forest(seen, labels, folds, seed=seed)
    scores = averaged(log_odds, shares)
    tell("fitting on everything", len(folds) + 1, steps)
    words = _fit_words(tokens, labels, named)
    forest = _grow(seen, labels, seed=seed)
    tell("calibrating", len(folds) + 2, steps)
    sure = np.ones_like(labels, dtype=np.bool_) if known is None else known
    calibrators = tuple(
        fit_calibrator(scores[sure[:, tier], tier], labels[sure[:, tier], tier], seed=seed)
        for tier in range(len(tiers))
    )
    estimates = np.column_stack([_cross_calibrated(scores[:, t], labels[:, t], folds) for t in range(len(tiers))])
    tell("calibrating", steps, steps)
    return Fitted(Classifier(tiers, words.vocabulary, words.linear, words.domains, forest, calibrators), estimates)


def fit_scorer(
    questions: Sequence[str],
    answers: Sequence[str],
    right: Floats,
    *,
    rival: Floats,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted[AnswerScorer]:
    """A scorer of ``answers`` to ``questions``; ``right`` says how right each is, 0 to 1, and ``rival`` how
    right the large model is there, both of shape (n,).

    ``held_out`` has the calibrated probabilities, shape (n,).
    """
    tell = progress or _silent
    answers = [answer.strip() for answer in answers]
    asked, replies = [tokens_of(text) for text in questions], [tokens_of(text) for text in answers]
    shape = answer_shape(questions, answers)
    labels = right[:, None]
    folds = list(folds_by(numbered(questions), seed=seed))
    steps = len(folds) + 2
    scores = np.empty(len(right))
    for step, (train, test) in enumerate(folds):
        tell("reading answers", step, steps)
        pairs = _QueryEncoder(_some(asked, train), _some(replies, train))
        scaling = Scaling.of(shape[train])
        linear = fit_log_odds(joined(pairs.known(shape[train]), scaling), labels[train], c=PAIRS_C)
        forest = _grow_scorer(shape[train], labels[train], seed=seed)
        other = _grow_scorer(shape[train], rival[train, None], seed=seed)
        new = pairs.read(_some(asked, test), _some(replies, test), shape[test])
        own = averaged(linear(joined(new, scaling)), forest.predict(shape[test]))
        scores[test] = weighed(own, other.predict(shape[test]))
    tell("fitting on everything", len(folds), steps)
    pairs, scaling = _QueryEncoder(asked, replies), Scaling.of(shape)
    linear = fit_log_odds(joined(pairs.known(shape), scaling), labels, c=PAIRS_C)
    forest, other = _grow_scorer(shape, labels, seed=seed), _grow_scorer(shape, rival[:, None], seed=seed)
    tell("calibrating", len(folds) + 1, steps)
    calibrator = fit_calibrator(scores, right, seed=seed)
    model = AnswerScorer(pairs.questions, pairs.answers, scaling, linear, forest, other, calibrator)
    tell("calibrating", steps, steps)
    return Fitted(model, _cross_calibrated(scores, right, folds))


@dataclass(frozen=True, slots=True)
class _Named:
    """The domain of each example, as a place among ``names``."""

    names: tuple[str, ...]
    places: Ints

    def some(self, chosen: Places) -> "_Named":
        return _Named(self.names, self.places[chosen])


class _QueryEncoder:
    """The two vocabularies of the scorer, learned from tokens that it keeps."""

    def __init__(self, asked: Sequence[Sequence[str]], replies: Sequence[Sequence[str]]) -> None:
        self.asked, self.replies = asked, replies
        self.questions, self.answers = learn_vocabulary(asked, min_texts=2), learn_vocabulary(replies, min_texts=2)

    def known(self, shape: Floats) -> Pairs:
        return self.read(self.asked, self.replies, shape)

    def read(self, asked: Sequence[Sequence[str]], replies: Sequence[Sequence[str]], shape: Floats) -> Pairs:
        return Pairs(self.questions.weigh_tokens(asked), self.answers.weigh_tokens(replies), shape)


def _fit_words(tokens: Sequence[Sequence[str]], labels: Floats, named: _Named | None) -> _Words:
    vocabulary = learn_vocabulary(tokens)
    rows = vocabulary.weigh_tokens(tokens)
    linear = fit_log_odds(rows, labels, c=WORDS_C)
    return _Words(vocabulary, linear, None if named is None else _fit_domains(rows, vocabulary, labels, named))


def _fit_domains(rows: sparse.csr_matrix, vocabulary: Vocabulary, labels: Floats, named: _Named) -> Domains:
    alone = rows[:, : len(vocabulary.words)]
    member = np.eye(len(named.names))[named.places]
    linear = fit_ridge(alone, member, penalty=DOMAIN_PENALTY)
    return Domains(named.names, linear, domain_means(named.places, labels, len(named.names)))


def _held_out_forest(seen: Floats, labels: Floats, folds: Sequence[tuple[Places, Places]], *, seed: int) -> Floats:
    shares = np.empty_like(labels)
    for train, test in folds:
        shares[test] = _grow(seen[train], labels[train], seed=seed).predict(seen[test])
    return shares


def _grow(seen: Floats, labels: Floats, *, seed: int) -> Forest:
    return grow(seen, labels, trees=100, depth=9, min_leaf=10, seed=seed)


def _grow_scorer(shape: Floats, labels: Floats, *, seed: int) -> Forest:
    return grow(shape, labels, trees=200, depth=16, min_leaf=4, seed=seed)


def _cross_calibrated(scores: Floats, labels: Floats, folds: Sequence[tuple[Places, Places]]) -> Floats:
    """``scores`` calibrated by what the other folds show."""
    estimates = np.empty_like(scores)
    for train, test in folds:
        calibrate: Calibrator = fit_calibrator(scores[train], labels[train])
        estimates[test] = calibrate(scores[test])
    return estimates


def _places_of(domains: Sequence[str]) -> _Named:
    names = tuple(sorted(set(domains)))
    order = {name: place for place, name in enumerate(names)}
    return _Named(names, np.array([order[name] for name in domains], dtype=np.int64))


def _some(tokens: Sequence[Sequence[str]], places: Places) -> list[Sequence[str]]:
    return [tokens[int(place)] for place in places]


def _silent(what: str, done: int, of: int) -> None:
    """Tells nobody."""
