"""One router trained on made-up data, for all tests of this folder."""

from pathlib import Path

import pytest

from evaluation.data.dataset import Dataset, read_dataset
from evaluation.training.train import TrainedRouter, train
from tests.unit.evaluation.synthetic_data import outcome_lines, written


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """240 lines with outcomes and answers."""
    return read_dataset(written(tmp_path_factory.mktemp("data") / "made-up.jsonl", outcome_lines(240)))


@pytest.fixture(scope="session")
def trained(made_up: Dataset) -> TrainedRouter:
    return train(made_up, name="made-up")


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 lines of the same kind that the router has not seen."""
    return written(tmp_path_factory.mktemp("data") / "unseen.jsonl", outcome_lines(200, seed=9))
