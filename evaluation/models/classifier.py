"""The classifier: from a query's text, the probability that each tier answers it well.

Two views of a text are averaged. One is linear over its words and pairs of words; the other is a
forest over its shape, the linear view's verdict and, where the training data name domains, how
well the tiers do in the domains that the words point to. Each tier's average is then calibrated.
What a stage learns from an earlier stage was predicted for texts that the earlier had not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats, Ints, Parts
from evaluation.models.calibration import Calibrator
from evaluation.models.extra_trees import Forest
from evaluation.models.linear import Linear
from evaluation.models.query_features import query_shape
from evaluation.models.tfidf import Vocabulary
from evaluation.models.tokenizer import tokens_of

SHARPNESS: Final = 10.0
"""The domain scores (least squares on 0 and 1) become shares by a softmax of this sharpness."""


@dataclass(frozen=True, slots=True)
class Domains:
    """Which domain a text is about, and how well each tier does there."""

    names: tuple[str, ...]
    linear: Linear = field(repr=False)
    """The regression over the words alone, without pairs."""
    means: Floats = field(repr=False)
    """P(tier answers well) in each domain, shape (domains, tiers)."""

    def expect(self, rows: sparse.csr_matrix) -> Floats:
        """How well each tier is expected to do, shape (n, tiers)."""
        scores = self.linear(rows[:, : len(self.linear.weights)])
        shares = np.exp(SHARPNESS * (scores - scores.max(axis=1, keepdims=True)))
        expected: Floats = (shares / shares.sum(axis=1, keepdims=True)) @ self.means
        return expected

    def parts(self) -> Parts:
        own: Parts = {"names": np.array(self.names), "means": self.means}
        return own | {f"linear.{name}": part for name, part in self.linear.parts().items()}

    @classmethod
    def from_arrays(cls, parts: Parts) -> "Domains":
        names = tuple(str(name) for name in parts["names"])
        return cls(names, Linear.from_arrays(under(parts, "linear.")), parts["means"].astype(np.float64))


@dataclass(frozen=True, slots=True)
class ClassifierOutput:
    """Texts as the models see them."""

    rows: sparse.csr_matrix
    shape: Floats


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained classifier; ``tiers`` are those of its training data, from the cheapest up."""

    tiers: tuple[str, ...]
    vocabulary: Vocabulary
    linear: Linear
    domains: Domains | None
    forest: Forest
    calibrators: tuple[Calibrator, ...]

    def __call__(self, texts: Sequence[str]) -> Floats:
        """P(tier answers well) for each text, shape (n, tiers)."""
        scores = self.scores(self.read(texts))
        return np.column_stack([calibrate(scores[:, tier]) for tier, calibrate in enumerate(self.calibrators)])

    def read(self, texts: Sequence[str]) -> ClassifierOutput:
        """The texts' words and shapes."""
        tokens = [tokens_of(text) for text in texts]
        return ClassifierOutput(self.vocabulary.weigh_tokens(tokens), query_shape(texts, tokens))

    def scores(self, reading: ClassifierOutput) -> Floats:
        """Probabilities before calibration, shape (n, tiers)."""
        log_odds = self.linear(reading.rows)
        return averaged(log_odds, self.forest.predict(forest_features(log_odds, reading, self.domains)))

    def parts(self) -> Parts:
        parts: Parts = {"tiers": np.array(self.tiers)}
        stages: dict[str, Parts] = {
            "vocabulary.": self.vocabulary.parts(),
            "linear.": self.linear.parts(),
            "forest.": self.forest.parts(),
        }
        if self.domains is not None:
            stages["domains."] = self.domains.parts()
        for tier, calibrator in zip(self.tiers, self.calibrators, strict=True):
            stages[f"calibrator.{tier}."] = calibrator.parts()
        return parts | {prefix + name: part for prefix, own in stages.items() for name, part in own.items()}

    @classmethod
    def from_arrays(cls, parts: Parts) -> "Classifier":
        """What `parts` stored. Raises KeyError or ValueError where something is missing or of another form."""
        tiers = tuple(str(tier) for tier in parts["tiers"])
        return cls(
            tiers,
            Vocabulary.from_arrays(under(parts, "vocabulary.")),
            Linear.from_arrays(under(parts, "linear.")),
            Domains.from_arrays(under(parts, "domains.")) if "domains.names" in parts else None,
            Forest.from_arrays(under(parts, "forest.")),
            tuple(Calibrator.from_arrays(under(parts, f"calibrator.{tier}.")) for tier in tiers),
        )


def forest_features(log_odds: Floats, reading: ClassifierOutput, domains: Domains | None) -> Floats:
    """What the forest sees: shape (n, features)."""
    expected = [domains.expect(reading.rows)] if domains is not None else []
    return np.hstack([log_odds, *expected, reading.shape])


def averaged(log_odds: Floats, shares: Floats) -> Floats:
    """The mean of the linear view (as log-odds) and the forest's (as probabilities)."""
    mean: Floats = 0.5 / (1.0 + np.exp(-np.clip(log_odds, -50.0, 50.0))) + 0.5 * shares
    return mean


def under(parts: Mapping[str, np.ndarray], prefix: str) -> Parts:
    """The parts whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}


def domain_means(places: Ints, labels: Floats, domains: int, *, prior: float = 15.0) -> Floats:
    """The tiers' means in each domain, drawn to the overall means by as much as ``prior`` examples weigh."""
    counts = np.bincount(places, minlength=domains)[:, None]
    sums = np.column_stack([np.bincount(places, column, minlength=domains) for column in labels.T])
    means: Floats = (sums + prior * labels.mean(axis=0)) / (counts + prior)
    return means
