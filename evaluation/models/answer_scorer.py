"""The answer scorer: from a question and a small model's answer, the probability that the answer is right.

As the classifier it averages a linear view (words of both, and the answer's shape) and a forest over
the answer's shape. From that average it takes a part of the probability that the large model would
be right, predicted by a second forest from the same shape: where the large model fails too, escalating
buys nothing. Measured on GSM8K by cross-validation that leaves the ranking of right over wrong
answers as good (AUC 0.802 against 0.803) and recovers more of the gap (APGR 0.808 against 0.797).
What comes of it is calibrated on answers that the models had not seen, so that it is again the
probability that the answer is right, among answers of the same score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats, Parts
from evaluation.models.answer_features import answer_shape
from evaluation.models.calibration import Calibrator
from evaluation.models.classifier import averaged, under
from evaluation.models.extra_trees import Forest
from evaluation.models.linear import Linear
from evaluation.models.tfidf import Vocabulary
from evaluation.models.tokenizer import tokens_of

SHAPE_WEIGHT: Final = 0.2
"""A shape that is one deviation from the mean weighs as much as a word of this TF-IDF weight."""

RIVAL_WEIGHT: Final = 0.5
"""How much of P(the large model is right) counts against an answer."""

FARTHEST: Final = 4.0
"""Deviations from the mean beyond which an answer counts as no farther."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Brings shapes to mean 0 and deviation 1."""

    mean: Floats = field(repr=False)
    deviation: Floats = field(repr=False)

    def __call__(self, shape: Floats) -> Floats:
        return np.clip((shape - self.mean) / self.deviation, -FARTHEST, FARTHEST)

    @classmethod
    def of(cls, shape: Floats) -> "Scaling":
        deviation = shape.std(axis=0)
        return cls(shape.mean(axis=0), np.where(deviation > 0, deviation, 1.0))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Questions with answers, as the models see them."""

    questions: sparse.csr_matrix
    answers: sparse.csr_matrix
    shape: Floats


@dataclass(frozen=True, slots=True)
class AnswerScorer:
    """A trained scorer of the answers of one tier."""

    questions: Vocabulary
    answers: Vocabulary
    scaling: Scaling
    linear: Linear
    forest: Forest
    rival: Forest
    """P(the large model is right)."""
    calibrator: Calibrator

    def __call__(self, questions: Sequence[str], answers: Sequence[str]) -> Floats:
        """P(answer is right) for each pair, shape (n,)."""
        return self.calibrator(self.scores(questions, answers))

    def scores(self, questions: Sequence[str], answers: Sequence[str]) -> Floats:
        """The same before calibration."""
        answers = [answer.strip() for answer in answers]
        pairs = Pairs(
            self.questions.weigh_tokens([tokens_of(text) for text in questions]),
            self.answers.weigh_tokens([tokens_of(text) for text in answers]),
            answer_shape(questions, answers),
        )
        own = averaged(self.linear(joined(pairs, self.scaling)), self.forest.predict(pairs.shape))
        return weighed(own, self.rival.predict(pairs.shape))

    def parts(self) -> Parts:
        stages: dict[str, Parts] = {
            "questions.": self.questions.parts(),
            "answers.": self.answers.parts(),
            "scaling.": {"mean": self.scaling.mean, "deviation": self.scaling.deviation},
            "linear.": self.linear.parts(),
            "forest.": self.forest.parts(),
            "rival.": self.rival.parts(),
            "calibrator.": self.calibrator.parts(),
        }
        return {prefix + name: part for prefix, own in stages.items() for name, part in own.items()}

    @classmethod
    def from_arrays(cls, parts: Parts) -> "AnswerScorer":
        """What `parts` stored. Raises KeyError or ValueError where something is missing or of another form."""
        return cls(
            Vocabulary.from_arrays(under(parts, "questions.")),
            Vocabulary.from_arrays(under(parts, "answers.")),
            Scaling(parts["scaling.mean"].astype(np.float64), parts["scaling.deviation"].astype(np.float64)),
            Linear.from_arrays(under(parts, "linear.")),
            Forest.from_arrays(under(parts, "forest.")),
            Forest.from_arrays(under(parts, "rival.")),
            Calibrator.from_arrays(under(parts, "calibrator.")),
        )


def weighed(own: Floats, rival: Floats) -> Floats:
    """P(right) less a part of P(the large model is right), both of shape (n, 1), brought back to 0 … 1; shape (n,)."""
    score: Floats = (own - RIVAL_WEIGHT * rival + RIVAL_WEIGHT)[:, 0] / (1.0 + RIVAL_WEIGHT)
    return score


def joined(pairs: Pairs, scaling: Scaling) -> sparse.csr_matrix:
    """The linear view's rows: words of the answer, words of the question, the answer's shape."""
    shape = sparse.csr_matrix(scaling(pairs.shape) * SHAPE_WEIGHT)
    return sparse.hstack([pairs.answers, pairs.questions, shape]).tocsr()
