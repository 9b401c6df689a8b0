"""Whether what comes, and where it goes, is as it was: population stability indices of recent decisions.

``PSI = Σ (p − q) · ln(p / q)`` over the bins of a feature, p the recent share and q the one before. By custom
below 0.1 is stable, above 0.25 a shift (Siddiqi, Credit Risk Scorecards, 2006). The custom says nothing of how
many were counted: without any drift the index is about ``(1/n + 1/m) · χ²`` with one degree of freedom fewer
than bins (Yurdakul, Statistical Properties of Population Stability Index, 2018). What chance alone explains is
no drift here.

Plain Python, so that whoever serves a figure of it does not have to load numpy.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, quantiles
from typing import Any, Final

ENOUGH: Final = 30
"""Minimum queries on each side for a statement about drift."""
WATCH: Final = 0.1
SHIFT: Final = 0.25
BINS: Final = 10
"""How many bins a number is cut into, at quantiles of the reference."""

_CHANCE: Final = NormalDist().inv_cdf(0.999)
"""The probability of an alarm for a feature that does not drift."""


class Drift(StrEnum):
    """What an index means."""

    UNKNOWN = "unknown"
    STABLE = "stable"
    WATCH = "watch"
    SHIFTED = "shifted"


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature of the decisions. ``psi`` None: too few queries on a side."""

    feature: str
    psi: float | None
    by_chance: float
    """The value that the index stays below in 999 of 1,000 checks without drift."""
    drift: Drift
    moved: str
    """The bin whose share changed the most, in words."""


def stability_index(recent: Mapping[Any, int], before: Mapping[Any, int]) -> float | None:
    """The index of two counts over the same bins; None from too few queries.

    Each count has 0.5 added, so that a bin that nothing fell into has a logarithm.
    """
    bins = recent.keys() | before.keys()
    total, total_before = sum(recent.values()), sum(before.values())
    if total < ENOUGH or total_before < ENOUGH:
        return None
    index = 0.0
    for each in bins:
        share = (recent.get(each, 0) + 0.5) / (total + 0.5 * len(bins))
        was = (before.get(each, 0) + 0.5) / (total_before + 0.5 * len(bins))
        index += (share - was) * math.log(share / was)
    return index


def by_chance(recent: int, before: int, *, bins: int) -> float:
    """The index that sampling alone exceeds once in a thousand looks."""
    if bins < 2 or not recent or not before:
        return 0.0
    # χ² by Wilson & Hilferty (1931): within 1 % from 2 degrees of freedom on.
    free = bins - 1
    chi2: float = free * (1 - 2 / (9 * free) + _CHANCE * math.sqrt(2 / (9 * free))) ** 3
    return (1 / recent + 1 / before) * chi2


def drift_of(reference: Mapping[str, Sequence[Any]], recent: Mapping[str, Sequence[Any]]) -> list[FeatureDrift]:
    """For each feature of ``reference`` its values then and now; the greatest drift first.

    Numbers are cut at the reference's deciles; words, and None, are bins of their own.
    """
    measured = [_drift(name, values, recent.get(name, ())) for name, values in reference.items()]
    return sorted(measured, key=lambda one: -(one.psi or 0.0))


def _drift(feature: str, reference: Sequence[Any], recent: Sequence[Any]) -> FeatureDrift:
    cuts = _cuts(reference)
    was, now = (Counter(_bin(value, cuts) for value in values) for values in (reference, recent))
    psi = stability_index(now, was)
    noise = by_chance(len(recent), len(reference), bins=len(was.keys() | now.keys()))
    return FeatureDrift(feature, psi, noise, _meaning(psi, noise), _moved(was, now, cuts))


def _meaning(psi: float | None, noise: float) -> Drift:
    if psi is None:
        return Drift.UNKNOWN
    if psi <= max(noise, WATCH):
        return Drift.STABLE
    return Drift.WATCH if psi <= SHIFT else Drift.SHIFTED


def _cuts(values: Sequence[Any]) -> list[float]:
    numbers = [value for value in values if isinstance(value, int | float)]
    return sorted(set(quantiles(numbers, n=BINS))) if len(numbers) >= ENOUGH else []


def _bin(value: Any, cuts: Sequence[float]) -> Hashable:
    return bisect_right(cuts, value) if isinstance(value, int | float) else str(value)


def _moved(was: Mapping[Hashable, int], now: Mapping[Hashable, int], cuts: Sequence[float]) -> str:
    total_was, total_now = sum(was.values()), sum(now.values())
    if not total_was or not total_now:
        return ""
    changes = {each: now.get(each, 0) / total_now - was.get(each, 0) / total_was for each in was.keys() | now.keys()}
    most = max(changes, key=lambda each: (abs(changes[each]), str(each)))
    named = _named(most, cuts) if isinstance(most, int) else str(most)
    return f"{named}: {100 * was.get(most, 0) / total_was:.0f} % → {100 * now.get(most, 0) / total_now:.0f} %"


def _named(place: int, cuts: Sequence[float]) -> str:
    if not cuts:
        return "any"
    if place == 0:
        return f"below {cuts[0]:.3g}"
    if place == len(cuts):
        return f"{cuts[-1]:.3g} or more"
    return f"{cuts[place - 1]:.3g} to {cuts[place]:.3g}"
