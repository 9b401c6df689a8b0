"""On real outcomes, where they lie beside the repository: a quick look that learning and figures hold.

The full five-fold figures are those of ``python -m benchmarks.routing_quality``.
"""

import os
from pathlib import Path

import pytest

from evaluation.data.call_costs import call_costs_for
from evaluation.data.cross_validation import folds_of
from evaluation.data.dataset import Dataset, read_dataset
from evaluation.metrics.outcome_evaluation import weigh_cascade
from evaluation.models.calibration import ece
from evaluation.training.train import train
from settings import ROOT

DATA = Path(os.environ.get("POINTSMAN_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="module")
def gsm8k() -> Dataset:
    path = DATA / "gsm8k_outcomes.jsonl"
    if not path.exists():
        pytest.skip(f"no real outcomes at {path}; POINTSMAN_DATA says where they are")
    return read_dataset(path)


def test_a_cascade_trained_on_half_of_gsm8k_beats_every_published_query_router_on_the_rest(gsm8k: Dataset) -> None:
    fit, test = next(folds_of(len(gsm8k), seed=1, folds=2))
    artifact = train(gsm8k.pick(fit), name="half").artifact
    unseen = gsm8k.pick(test)
    assert artifact.scorer is not None
    told = artifact.scorer(unseen.queries, unseen.answers)
    way = weigh_cascade(unseen, told, call_costs_for(unseen), draws=100)
    assert (way.router.apgr or 0.0) > 0.70
    assert ece(told, unseen.ok("small")) < 0.12
