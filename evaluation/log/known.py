"""What only labels and exploration let a log know."""

from typing import Any

from evaluation.log.count import DIGITS
from evaluation.log.tally import Tally


def explored(tally: Tally) -> dict[str, Any] | None:
    """Per tier: what share would have stood, had every query gone there first (inverse propensity, normalised)."""
    told = {
        tier: {"stands": round(stood / weight, DIGITS), "weight": round(weight, 1)}
        for tier, (weight, stood) in sorted(tally.weights.items())
        if weight > 0
    }
    return told or None


def labelled(tally: Tally) -> dict[str, Any] | None:
    """How right the labelled answers are, and how far each source of confidence is off (ECE); None without any."""
    whole = tally.graded.get(("all", "all"))
    if whole is None:
        return None
    told: dict[str, Any] = whole.as_dict() | {"stages": {}, "tiers": {}, "accepted": {}, "ece": {}}
    for (kind, name), held in sorted(tally.graded.items()):
        if kind != "all":
            told[kind][name] = held.as_dict()
    for source in sorted({source for (source, _), held in tally.verdicts.items() if held.labels}):
        bins = [held for (named, _), held in tally.verdicts.items() if named == source and held.labels]
        off = sum(abs(held.labelled_confidence - held.grade) for held in bins)
        told["ece"][source] = round(off / sum(held.labels for held in bins), DIGITS)
    return told
