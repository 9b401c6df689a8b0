"""What decides without labels: the shipped router and a cascade, against all-to-the-top and the best fixed split.

    python -m benchmarks.default_policy [FILE …] [--lines 400] [--draws 1000] [--no-cascades] [--json]

Takes files of recorded outcomes, all of ``../shared/data`` by default, and ``--lines`` of each, drawn by a seed. Rows:

* ``shipped router``: gate and classifier as they would decide if their word counted;
* ``cascade, learned here``: the small tier answers first, and an answer scorer that learned from graded answers of this
  file (each answer judged by folds that had not seen it) decides by the fleet's threshold what goes to the top;
* ``cascade, learned elsewhere``: the same with a scorer that learned from all the other files;
* ``default policy``: what production does, without labels.

Costs are in calls to the top tier, every call counted. ``lead`` is the quality above that of the best fixed split of
the same cost, with the middle 95 % of paired bootstrap draws of the questions: only where that is above 0 does the
policy know something of the questions. All to the top is such a split. Fitting the cascades takes some minutes.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.data.array_types import Floats
from evaluation.data.dataset import Dataset, read_dataset
from evaluation.metrics.confidence_intervals import DRAWS
from evaluation.metrics.fixed_split_lead import FixedSplitLead, lead_over_fixed_split
from evaluation.metrics.recorded_pipeline import routed_tiers
from evaluation.models.answer_scorer import AnswerScorer
from evaluation.models.artifact_cache import DEFAULT, open_folder
from evaluation.models.predictors import predictor_of
from evaluation.training.fit import fit_scorer
from fleet_config import load_fleet
from routing.fleet import Fleet
from routing.policy.decision import Predictor
from routing.query import Query
from settings import ROOT

FOLDER: Final = ROOT.parent / "shared" / "data"
PRICES: Final = {"small": 0.06, "medium": 0.24, "large": 1.0}
"""The price of a call at each tier, in calls to the large model, as in docs/quality.md."""

SHIPPED: Final = "shipped router"
HERE: Final = "cascade, learned here"
ELSEWHERE: Final = "cascade, learned elsewhere"
PRODUCTION: Final = "default policy"


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy on a workload. ``share`` is its quality over that of the top tier."""

    workload: str
    lines: int
    policy: str
    share: float
    lead: FixedSplitLead


def measure(
    data: Dataset, fleet: Fleet, predictor: Predictor, *, others: Sequence[Dataset] | None, draws: int
) -> list[PolicyRow]:
    """The rows of ``data``; the cascades where its answers are recorded, and ``others`` are not None."""
    known = fleet.only(frozenset(data.tiers))
    prices = np.array([PRICES[tier] for tier in data.tiers])
    rows = [
        _row(SHIPPED, data, *_routed(data, replace(known, is_replay=False), predictor), draws),
        _row(PRODUCTION, data, *_routed(data, known, predictor), draws),
    ]
    if data.has_answers and others is not None:
        threshold = fleet.tiers[data.cheapest].confidence_threshold
        grades = data.labels
        own = fit_scorer(data.queries, data.answers, grades[:, 0], rival=grades[:, -1]).held_out
        rows.append(_row(HERE, data, *_cascade(grades, prices, own < threshold), draws))
        if (scorer := _scorer_of(others)) is not None:
            theirs = scorer(data.queries, data.answers)
            rows.append(_row(ELSEWHERE, data, *_cascade(grades, prices, theirs < threshold), draws))
    return rows


def _routed(data: Dataset, fleet: Fleet, predictor: Predictor) -> tuple[Floats, Floats]:
    """Grade and cost of each query at the tier that routing chooses."""
    tiers = routed_tiers(data, [Query(text) for text in data.queries], fleet=fleet, predictor=predictor)
    grades = [example.ok[tier] for example, tier in zip(data.examples, tiers, strict=True)]
    return np.array(grades), np.array([PRICES[tier] for tier in tiers])


def _cascade(grades: Floats, prices: Floats, climbs: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    return np.where(climbs, grades[:, -1], grades[:, 0]), prices[0] + climbs * prices[-1]


def _scorer_of(others: Sequence[Dataset]) -> AnswerScorer | None:
    known = [data for data in others if data.has_answers]
    if not known:
        return None
    grades = np.vstack([data.labels[:, [0, -1]] for data in known])
    texts = [text for data in known for text in data.queries]
    return fit_scorer(texts, [text for data in known for text in data.answers], grades[:, 0], rival=grades[:, 1]).model


def _row(policy: str, data: Dataset, quality: Floats, cost: Floats, draws: int) -> PolicyRow:
    prices = np.array([PRICES[tier] for tier in data.tiers])
    lead = lead_over_fixed_split(quality, cost, grades=data.labels, prices=prices, draws=draws)
    return PolicyRow(data.name, len(data), policy, lead.quality / float(data.ok(data.most_expensive).mean()), lead)


def workloads(files: Sequence[Path], *, lines: int) -> list[Dataset]:
    """``lines`` of each file, drawn by a seed; or all, where it has no more."""
    rng = np.random.default_rng(0)
    whole = [read_dataset(path) for path in files]
    return [data if len(data) <= lines else data.pick(rng.permutation(len(data))[:lines]) for data in whole]


def rows_of(files: Sequence[Path], *, lines: int, draws: int = DRAWS, cascades: bool = True) -> Iterator[PolicyRow]:
    """The rows of all ``files``, as they are measured."""
    fleet = load_fleet(ROOT / "fleet.toml", {})
    predictor = predictor_of(open_folder(DEFAULT))
    sets = workloads(files, lines=lines)
    for data in sets:
        others = [one for one in sets if one is not data] if cascades else None
        yield from measure(data, fleet, predictor, others=others, draws=draws)


def main() -> int:
    """Prints the table. Returns 2 where there are no data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--no-cascades", dest="cascades", action="store_false", help="only what needs no fitting")
    parser.add_argument("--json", action="store_true", help="one object per row instead")
    given = parser.parse_args()
    files = given.files or sorted(FOLDER.glob("*_outcomes.jsonl"))
    if not files:
        print(f"There are no recorded outcomes in {FOLDER}. fix: name files of them.", file=sys.stderr)
        return 2
    if not given.json:
        print(f"{'workload':<28}{'lines':>6}  {'policy':<28}{'quality':>9}{'cost':>8}{'lead':>9}  95 %")
    for row in rows_of(files, lines=given.lines, draws=given.draws, cascades=given.cascades):
        print(json.dumps(_as_json(row)) if given.json else _words(row), flush=True)
    return 0


def _as_json(row: PolicyRow) -> dict[str, object]:
    return {
        "workload": row.workload,
        "lines": row.lines,
        "policy": row.policy,
        "quality_share": round(row.share, 4),
        "cost_share": round(row.lead.cost, 4),
        "lead": round(row.lead.lead, 4),
        "interval": row.lead.interval.as_list(),
        "beats_fixed_split": row.lead.is_beyond_doubt,
    }


def _words(row: PolicyRow) -> str:
    lead = row.lead
    sure = "  better" if lead.is_beyond_doubt else ""
    return (
        f"{row.workload:<28}{row.lines:>6}  {row.policy:<28}{row.share:>9.1%}{lead.cost:>8.2f}{lead.lead:>+9.3f}  "
        f"{lead.interval.low:+.3f} to {lead.interval.high:+.3f}{sure}"
    )


if __name__ == "__main__":
    sys.exit(main())
