"""The results of an evaluation: a dictionary for programs, with sentences for people."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from evaluation.data.call_costs import CallCosts
from evaluation.data.dataset import Dataset
from evaluation.metrics.confidence_intervals import Interval
from evaluation.metrics.label_evaluation import LabelCounts, LabelReport
from evaluation.metrics.outcome_evaluation import Point, Ranked, Trust, Way
from evaluation.metrics.recorded_pipeline import ReplayFigures
from evaluation.training.train import rounded

_NAMES: Final = {
    "best_fixed_split": "a fixed split (a share of the queries at random)",
    "best_fixed_tier": "always the best single tier",
    "random": "random routing",
    "query_length": "query length alone",
    "always_small": "always the smallest tier",
    "always_large": "always the largest tier",
    "oracle": "the oracle",
}
TRUSTED_ECE: Final = 0.05
CHANCE_FACTOR: Final = 1.5
"""An error counts against a probability only if it is this many times larger than chance alone would show."""


def outcome_report(
    data: Dataset,
    way: Way,
    cascade: Way | None,
    *,
    router: Mapping[str, Any],
    tariff: CallCosts,
    pipeline: ReplayFigures | None = None,
) -> dict[str, Any]:
    """The report on outcomes. ``router`` says which router it was (name, digest, data it was trained on)."""
    figures = _way(way)
    summary: dict[str, Any] = {
        "kind": str(data.kind),
        "n": len(data),
        "data": {"name": data.name, "sha256": data.sha256, "tiers": list(data.tiers)},
        "router": dict(router),
        "tariff": {"source": tariff.source, "usd_per_call": {t: round(usd, 9) for t, usd in tariff.usd.items()}},
        **figures,
    }
    if cascade is not None:
        summary["cascade"] = _way(cascade) | {"by_calls": _by_calls(cascade), "counts": _COUNTS}
    if pipeline is not None:
        summary["pipeline"] = _pipeline(pipeline)
    summary["words"] = [*_caveats(data, router), *_words(way), *(_words(cascade) if cascade is not None else ())]
    return summary


_COUNTS: Final = "both calls of an escalated query; shares are of the cost of asking the large model about everything"


def label_report(data: Dataset, report: LabelReport, *, router: Mapping[str, Any], weight: float) -> dict[str, Any]:
    """The report on expected tiers."""
    return {
        "kind": str(data.kind),
        "n": len(data),
        "data": {"name": data.name, "sha256": data.sha256, "tiers": list(data.tiers)},
        "router": dict(router),
        "quality_weight": weight,
        **_tally(report.router),
        "intervals": {name: _interval(own) for name, own in report.intervals.items()},
        "confusion": {due: dict(row) for due, row in report.confusion.items()},
        "categories": {name: _tally(own) for name, own in report.categories.items()},
        "stages": {other.name: _tally(other) for other in report.others},
        "controls": {control.name: _tally(control) for control in report.controls},
        "words": [*_caveats(data, router), *_label_words(report)],
    }


def _way(way: Way) -> dict[str, Any]:
    worst = max(way.trust, key=lambda trust: trust.ece)
    return {
        "apgr": rounded(way.router.apgr),
        "cpt50": rounded(way.router.cpt50),
        "cpt80": rounded(way.router.cpt80),
        "aiq": rounded(way.router.aiq),
        "arena": rounded(way.router.arena),
        "ece": rounded(worst.ece),
        "brier": rounded(worst.brier),
        "intervals": {name: _interval(own) for name, own in way.intervals.items()},
        "calibration": [_trust(trust) for trust in way.trust],
        "point": _point(way.point),
        "controls": _controls(way),
    }


def _controls(way: Way) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for constant in way.constants:
        # A constant policy is one point: there is no curve to take a mean or a threshold of.
        summary[constant.name] = {
            "apgr": None,
            "cpt50": None,
            "cpt80": None,
            "quality": rounded(constant.quality),
            "cost": rounded(constant.cost),
            "usd_per_1k": rounded(constant.usd_per_1k),
            "arena": rounded(constant.arena),
        }
    for ranked in way.rankings:
        summary[ranked.name] = _ranked(ranked)
    return summary


def _ranked(ranked: Ranked) -> dict[str, Any]:
    figures = ("apgr", "cpt50", "cpt80", "aiq", "arena")
    return {name: rounded(getattr(ranked, name)) for name in figures}


def _by_calls(way: Way) -> dict[str, Any]:
    """The cascade's figures as RouteLLM counts: calls to the large model alone."""
    free = type(way.router.curve)(way.router.curve.share, way.router.curve.quality)
    return {"apgr": rounded(free.apgr()), "cpt50": rounded(free.cpt(50)), "cpt80": rounded(free.cpt(80))}


def _trust(trust: Trust) -> dict[str, Any]:
    bins = [{name: rounded(value) for name, value in asdict(each).items()} for each in trust.bins]
    return {
        "of": trust.of,
        "ece": rounded(trust.ece),
        "ece_by_chance": rounded(trust.by_chance),
        "brier": rounded(trust.brier),
        "bins": bins,
    }


def _point(point: Point) -> dict[str, Any]:
    return {name: value if isinstance(value, str) else rounded(value) for name, value in asdict(point).items()}


def _interval(own: Interval | None) -> list[float] | None:
    return None if own is None else own.as_list()


def _tally(tally: LabelCounts) -> dict[str, Any]:
    return {
        "n": tally.n,
        "accuracy": rounded(tally.accuracy),
        "cost_inflation": {"count": tally.cost_inflation, "rate": rounded(tally.rate(tally.cost_inflation))},
        "quality_loss": {"count": tally.quality_loss, "rate": rounded(tally.rate(tally.quality_loss))},
        "weighted_loss": rounded(tally.weighted_loss),
    }


def _pipeline(figures: ReplayFigures) -> dict[str, Any]:
    return {
        "note": "the fleet's own rules on the recorded answers, every call paid",
        "right": rounded(figures.right),
        "cost_usd": round(figures.cost_usd, 6),
        "escalated": figures.escalated,
        "routed": figures.routed,
        "answered": figures.answered,
        "always_small": {"right": rounded(figures.right_small), "cost_usd": round(figures.cost_small_usd, 6)},
        "always_large": {"right": rounded(figures.right_large), "cost_usd": round(figures.cost_large_usd, 6)},
        "quality_of_always_large": rounded(figures.quality_share),
        "cost_of_always_large": rounded(figures.cost_share),
    }


def _caveats(data: Dataset, router: Mapping[str, Any]) -> Iterator[str]:
    if data.sha256 and router.get("data_sha256") == data.sha256:
        yield "The router was trained on these lines, so the figures are too good. Evaluate it on other lines."


def _words(way: Way) -> Iterator[str]:
    router = way.router
    if router.apgr is None or router.cpt50 is None or router.cpt80 is None:
        yield (
            f"Routed {way.title}: the large model is no better than the small one here, so routing gains nothing. "
            "Always use the small one."
        )
        return
    unit = (
        "of the cost of always using the large model"
        if router.curve.first_call
        else "of the queries sent to the large model"
    )
    yield (
        f"Routed {way.title}: on average {router.apgr:.3f} of the large model's advantage is kept"
        f"{_spread(way.intervals['apgr'])}. Keeping half of the advantage takes {router.cpt50:.1f} %, and keeping "
        f"80 % of it takes {router.cpt80:.1f} %, {unit}."
    )
    for name in ("best_fixed_split", "query_length"):
        yield _lead(name, way.intervals.get(f"lead_over_{name}"), "APGR")
    for trust in way.trust:
        if trust.ece > TRUSTED_ECE:
            summary = f"The router's probability that {trust.of} is off by {trust.ece:.3f} on average"
            if trust.ece > CHANCE_FACTOR * trust.by_chance:
                yield f"{summary}: do NOT rely on it."
            else:
                yield f"{summary}. With so few lines, even an exact probability would be off by {trust.by_chance:.3f}."


def _label_words(report: LabelReport) -> Iterator[str]:
    own = report.router
    yield (
        f"{100 * own.accuracy:.1f} % went to the expected tier{_spread(report.intervals['accuracy'])}. Queries that "
        f"went to a cheaper tier than expected: {own.quality_loss}; to a more expensive one: {own.cost_inflation}."
    )
    for name in ("best_fixed_tier", "query_length"):
        yield _lead(name, report.intervals.get(f"saved_over_{name}"), "weighted loss")


def _lead(name: str, own: Interval | None, figure: str) -> str:
    what = _NAMES[name]
    if own is None:
        return f"There are too few lines to decide whether the router beats {what}."
    spread = f"{own.low:+.3f} to {own.high:+.3f} {figure}, 95 %"
    if own.low > 0:
        return f"The router beats {what} ({spread})."
    if own.high < 0:
        return f"The router does NOT beat {what}, which does better ({spread}). Use that instead."
    return f"It is NOT certain that the router beats {what} ({spread})."


def _spread(own: Interval | None) -> str:
    return "" if own is None else f" (95 %: {own.low:.3f} to {own.high:.3f})"
