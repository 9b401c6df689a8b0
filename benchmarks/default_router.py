"""How good the shipped router is: by cross-validation on the lines it was trained on, and on fresh ones.

``python -m benchmarks.default_router`` decides with the production policy (gate, then classifier).
``examples/labelled.jsonl`` is cut into five; each fifth is decided by a classifier trained on the
other four. ``benchmarks/fresh_labelled.jsonl`` is never trained on.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from evaluation.data.cross_validation import folds_of
from evaluation.data.dataset import Dataset, read_dataset
from evaluation.metrics.label_evaluation import LabelCounts, LabelReport, weigh_choices
from evaluation.models.artifact_cache import DEFAULT, open_folder
from evaluation.models.predictors import predictor_of
from evaluation.training.train import train
from routing.fleet import Fleet
from routing.policy.decision import Predictor, decide
from routing.query import Query
from settings import check_fleet

ROOT: Final = Path(__file__).parents[1]
FRESH: Final = Path(__file__).parent / "fresh_labelled.jsonl"


def cross_validated(data: Dataset, fleet: Fleet, *, seed: int = 0) -> list[str]:
    """The policy's tier for each example, by a classifier that had not seen it."""
    chosen = [""] * len(data)
    for known, unseen in folds_of(len(data), seed=seed):
        predictor = predictor_of(train(data.pick(known), name="fold", seed=seed).artifact)
        for place, tier in zip(unseen, tiers_of(data.pick(unseen), fleet, predictor), strict=True):
            chosen[int(place)] = tier
    return chosen


def tiers_of(data: Dataset, fleet: Fleet, predictor: Predictor | None) -> list[str]:
    """The policy's tier for each example; by the gate alone without a ``predictor``."""
    queries = [Query(text=text) for text in data.queries]
    return [decision.tier for decision in decide(queries, fleet=fleet, predictor=predictor)]


def weighed(data: Dataset, fleet: Fleet, chosen: Sequence[str]) -> LabelReport:
    """``chosen`` compared with the labels, beside the gate alone and the controls."""
    alone = replace(fleet, router=replace(fleet.router, stages=("gate",)))
    return weigh_choices(
        data,
        {"router": chosen, "gate alone": tiers_of(data, alone, None)},
        tiers=(*fleet.ladder, *(tier for tier in fleet.chat_tiers if tier not in fleet.ladder)),
        weight=fleet.router.quality_weight,
    )


def main() -> None:
    """Prints both."""
    fleet = check_fleet(ROOT / "fleet.toml", os.environ).fleet
    labelled, fresh = read_dataset(ROOT / "examples" / "labelled.jsonl"), read_dataset(FRESH)
    shipped = predictor_of(open_folder(DEFAULT))
    _show(
        f"five-fold cross-validation, {len(labelled):,} lines",
        weighed(labelled, fleet, cross_validated(labelled, fleet)),
    )
    _show(f"fresh lines, {len(fresh):,}", weighed(fresh, fleet, tiers_of(fresh, fleet, shipped)))


def _show(title: str, report: LabelReport) -> None:
    print(f"\n{title:<40}{'right tier':>12}{'too high':>12}{'too low':>12}{'weighted loss':>16}")
    for tally in (report.router, *report.others, *report.controls):
        print(_line(tally))
    if interval := report.intervals["weighted_loss"]:
        print(f"the router's weighted loss, 95 %: {interval.low:.3f} to {interval.high:.3f}")


def _line(tally: LabelCounts) -> str:
    high, low = tally.rate(tally.cost_inflation), tally.rate(tally.quality_loss)
    name = tally.name.replace("_", " ")
    return f"{name:<40}{tally.accuracy:>12.1%}{high:>12.1%}{low:>12.1%}{tally.weighted_loss:>16.3f}"


if __name__ == "__main__":
    main()
