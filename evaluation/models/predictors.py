"""A trained artifact as a `Predictor` of queries or a `Scorer` of answers of ``routing/``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from evaluation.models.answer_scorer import AnswerScorer
from evaluation.models.artifact import Artifact
from evaluation.models.classifier import Classifier
from routing.policy.llm_router_prompt import RouterVote
from routing.query import Query

SHOWN_DIGITS: Final = 12
"""How many digits of a digest name a version."""

ENOUGH: Final = 0.7
"""The tier that an opinion names is the cheapest whose probability of a good answer is at least this."""


@dataclass(frozen=True, slots=True)
class TrainedPredictor:
    """The classifier of an artifact; see `routing.policy.decision.Predictor`."""

    name: str
    classifier: Classifier = field(repr=False)
    version: str = ""
    """The beginning of the artifact's digest."""
    workload: str | None = None
    """The workload that the router was trained for. None: any."""

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        """One opinion for each of ``queries``, in their order."""
        if not queries:
            return []
        scores = self.classifier([query.text for query in queries]).tolist()
        words = _percent(self.name) + ": answers well: " + ", ".join(f"{_percent(tier)} %.2f" for tier in self.tiers)
        return [self._opinion(row, words) for row in scores]

    @property
    def tiers(self) -> tuple[str, ...]:
        """Those of the training data, from the cheapest up."""
        return self.classifier.tiers

    def _opinion(self, row: Sequence[float], words: str) -> RouterVote:
        p_ok = dict(zip(self.tiers, row, strict=True))
        tier, confidence = _named(p_ok)
        return RouterVote(
            router=self.name,
            tier=tier,
            confidence=confidence,
            score=1.0 - row[0],
            reason=words % tuple(row),
            p_ok=p_ok,
        )


@dataclass(frozen=True, slots=True)
class TrainedScorer:
    """The answer scorer of an artifact; see `routing.answer_checks.judge.Scorer`."""

    name: str
    scorer: AnswerScorer = field(repr=False)

    def __call__(self, pairs: Sequence[tuple[Query, str]]) -> Sequence[float]:
        """P(the answer is right) for each pair, in their order."""
        if not pairs:
            return []
        scores: list[float] = self.scorer([query.text for query, _ in pairs], [answer for _, answer in pairs]).tolist()
        return scores


def predictor_of(artifact: Artifact) -> TrainedPredictor:
    """The artifact's classifier as a predictor."""
    return TrainedPredictor(artifact.name, artifact.classifier, artifact.digest[:SHOWN_DIGITS], artifact.workload)


def scorer_of(artifact: Artifact) -> TrainedScorer | None:
    """The artifact's answer scorer, or None where it was trained without answers."""
    return None if artifact.scorer is None else TrainedScorer(artifact.name, artifact.scorer)


def _named(p_ok: Mapping[str, float]) -> tuple[str, float]:
    """The cheapest tier that is good enough with its probability; else the top, and how sure the others are out."""
    for tier, p in p_ok.items():
        if p >= ENOUGH:
            return tier, p
    tiers = list(p_ok)
    return tiers[-1], 1.0 - max(p_ok[tier] for tier in tiers[:-1]) if len(tiers) > 1 else p_ok[tiers[-1]]


def _percent(name: str) -> str:
    """``name`` for use in a template."""
    return name.replace("%", "%%")
