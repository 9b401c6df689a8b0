"""Training from a data file to an artifact."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from evaluation.data.array_types import Floats
from evaluation.data.dataset import Dataset, Kind
from evaluation.data.dataset_errors import DataError, DataFault
from evaluation.metrics.cost_quality_curve import rank
from evaluation.models.answer_scorer import AnswerScorer
from evaluation.models.artifact import Artifact
from evaluation.models.calibration import brier, ece
from evaluation.training.fit import FEWEST, Fitted, Progress, fit_classifier, fit_scorer

_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """An artifact, and its predictions for each training example, by fits that had not seen it."""

    artifact: Artifact
    p_ok: Floats
    """P(the tier answers well), shape (n, tiers)."""
    p_right: Floats | None
    """P(the answer is right), shape (n,). None without answers."""


def train(
    data: Dataset, *, name: str, seed: int = 0, now: datetime | None = None, progress: Progress | None = None
) -> TrainedRouter:
    """A router for ``data``'s tiers. The same data and seed give the same model. Raises DataError on too few lines.

    ``now`` is noted in the manifest.
    """
    if (different := len(set(data.queries))) < FEWEST:
        fix = f"give at least {FEWEST}, and a few thousand for figures that hold"
        raise DataError(data.name, (DataFault(0, "", f"has only {different} different queries", fix),))
    fitted = fit_classifier(
        data.queries, data.labels, tiers=data.tiers, domains=data.domains, seed=seed, progress=progress
    )
    scorer: Fitted[AnswerScorer] | None = None
    if data.kind == Kind.OUTCOMES and data.has_answers:
        small, large = data.ok(data.cheapest), data.ok(data.most_expensive)
        scorer = fit_scorer(data.queries, data.answers, small, rival=large, seed=seed, progress=progress)
    manifest: dict[str, Any] = {
        "name": name,
        "created_at": None if now is None else now.isoformat(timespec="seconds"),
        "seed": seed,
        "tiers": list(data.tiers),
        "data": {"name": data.name, "sha256": data.sha256, "kind": str(data.kind), "lines": len(data)},
        "features": {
            "words": len(fitted.model.vocabulary.words),
            "pairs of words": len(fitted.model.vocabulary.pairs),
            "domains": 0 if fitted.model.domains is None else len(fitted.model.domains.names),
        },
        "metrics": {
            "note": "on training lines that each model had not seen",
            "classifier": _classifier_figures(data, fitted),
            "scorer": None if scorer is None else _scorer_figures(data, scorer),
        },
    }
    artifact = Artifact(manifest, fitted.model, None if scorer is None else scorer.model)
    return TrainedRouter(artifact, fitted.held_out, None if scorer is None else scorer.held_out)


def _classifier_figures(data: Dataset, fitted: Fitted[Any]) -> dict[str, Any]:
    predicted = fitted.held_out
    curve = rank(predicted[:, -1] - predicted[:, 0], data.ok(data.cheapest), data.ok(data.most_expensive))
    by_tier = {
        tier: {
            "ece": round(ece(predicted[:, place], data.ok(tier)), _DIGITS),
            "brier": round(brier(predicted[:, place], data.ok(tier)), _DIGITS),
            "calibration": str(fitted.model.calibrators[place].form),
        }
        for place, tier in enumerate(data.tiers)
    }
    return {"apgr": rounded(curve.apgr()), "cpt50": rounded(curve.cpt(50)), "cpt80": rounded(curve.cpt(80))} | by_tier


def _scorer_figures(data: Dataset, fitted: Fitted[AnswerScorer]) -> dict[str, Any]:
    small = data.ok(data.cheapest)
    return {
        "apgr_by_calls": rounded(rank(-fitted.held_out, small, data.ok(data.most_expensive)).apgr()),
        "ece": rounded(ece(fitted.held_out, small)),
        "brier": rounded(brier(fitted.held_out, small)),
        "calibration": str(fitted.model.calibrator.form),
    }


def rounded(figure: float | None) -> float | None:
    return None if figure is None else round(float(figure), _DIGITS)
