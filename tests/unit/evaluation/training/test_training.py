"""Training learns what there is to learn and nothing else, and an artifact is what was trained or an error."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from evaluation.data.cross_validation import folds_by, folds_of, numbered
from evaluation.data.dataset import Dataset, read_dataset
from evaluation.data.dataset_errors import ArtifactError, DataError
from evaluation.metrics.cost_quality_curve import rank
from evaluation.models.artifact import CLASSIFIER, MANIFEST, SCORER, load, save
from evaluation.models.predictors import predictor_of, scorer_of
from evaluation.training.fit import fit_classifier
from evaluation.training.train import TrainedRouter, train
from routing.query import Query
from tests.unit.evaluation.synthetic_data import label_lines, outcome_lines, written


def _apgr(told: np.ndarray, data: Dataset) -> float:
    return rank(told[:, 1] - told[:, 0], data.ok("small"), data.ok("large")).apgr() or 0.0


def test_a_router_ranks_unseen_queries_by_what_the_large_model_adds(trained: TrainedRouter, unseen: Path) -> None:
    data = read_dataset(unseen)
    assert _apgr(trained.artifact.classifier(data.queries), data) > 0.67


def test_from_shuffled_outcomes_nothing_is_learned(tmp_path: Path, unseen: Path) -> None:
    noise = read_dataset(written(tmp_path / "noise.jsonl", outcome_lines(240, shuffled=True)))
    data = read_dataset(unseen)
    assert _apgr(train(noise, name="noise").artifact.classifier(data.queries), data) < 0.6


def test_the_scorer_knows_a_wrong_sum(trained: TrainedRouter, unseen: Path) -> None:
    data = read_dataset(unseen)
    assert trained.artifact.scorer is not None
    told = trained.artifact.scorer(data.queries, data.answers)
    right = data.ok("small") == 1
    assert told[right].mean() > told[~right].mean() + 0.3


def test_blanks_around_an_answer_do_not_matter(trained: TrainedRouter, made_up: Dataset) -> None:
    scorer = trained.artifact.scorer
    assert scorer is not None
    query, answer = made_up.queries[0], made_up.answers[0]
    assert scorer([query], [answer]) == scorer([query], [f"\n {answer}\n\n"])


def test_the_same_data_and_seed_make_the_same_model(trained: TrainedRouter, made_up: Dataset) -> None:
    again = train(made_up, name="again")
    assert np.array_equal(trained.artifact.classifier(made_up.queries), again.artifact.classifier(made_up.queries))
    assert np.array_equal(trained.p_ok, again.p_ok)


def test_the_figures_of_an_artifact_are_for_lines_it_had_not_seen(trained: TrainedRouter, made_up: Dataset) -> None:
    seen = trained.artifact.classifier(made_up.queries)
    small = made_up.ok("small")
    assert np.mean((trained.p_ok[:, 0] - small) ** 2) > np.mean((seen[:, 0] - small) ** 2)
    told = trained.artifact.manifest["metrics"]["classifier"]["small"]["brier"]
    assert told == pytest.approx(np.mean((trained.p_ok[:, 0] - small) ** 2), abs=1e-4)


def test_training_tells_how_far_it_is(made_up: Dataset) -> None:
    heard: list[tuple[str, int, int]] = []
    train(made_up.pick(range(60)), name="x", progress=lambda *step: heard.append(step))
    assert all(0 <= done <= of for _, done, of in heard)
    assert heard[-1][1] == heard[-1][2]
    assert len(heard) > 10


def test_labels_train_a_probability_for_each_tier_of_the_ladder(tmp_path: Path) -> None:
    data = read_dataset(written(tmp_path / "x.jsonl", label_lines(120)))
    router = train(data, name="labels").artifact
    assert router.classifier.tiers == ("small", "medium", "large")
    assert router.scorer is None
    easy, hard = router.classifier(["list the name of a city", "prove the lemma of the integral theorem"])
    assert easy[0] > 0.7 > 0.5 > hard[0]
    assert hard[2] > 0.9


def test_too_few_lines_are_refused(made_up: Dataset) -> None:
    with pytest.raises(DataError, match="has only 20 different queries"):
        train(made_up.pick(range(20)), name="x")


def test_a_saved_router_is_the_same_when_it_is_loaded(trained: TrainedRouter, made_up: Dataset, tmp_path: Path) -> None:
    digest = save(trained.artifact, tmp_path)
    again = load(tmp_path)
    assert again.digest == digest
    assert again.scorer is not None
    assert trained.artifact.scorer is not None
    assert np.allclose(again.classifier(made_up.queries), trained.artifact.classifier(made_up.queries), atol=1e-6)
    assert np.allclose(
        again.scorer(made_up.queries, made_up.answers),
        trained.artifact.scorer(made_up.queries, made_up.answers),
        atol=1e-6,
    )


def test_saving_twice_writes_the_same_arrays(trained: TrainedRouter, tmp_path: Path) -> None:
    digests = [save(trained.artifact, tmp_path / name) for name in ("one", "two")]
    assert digests[0] == digests[1]


def test_the_time_of_training_is_noted_where_it_is_given(made_up: Dataset) -> None:
    made = train(made_up.pick(range(50)), name="x", now=datetime(2026, 1, 2, tzinfo=UTC)).artifact
    assert made.manifest["created_at"] == "2026-01-02T00:00:00+00:00"


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))


def _edit(folder: Path, **changed: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text()) | changed
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "holds no trained router"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is not JSON"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "has no name"),
        (lambda folder: _edit(folder, format=99), "is of format 99"),
        (lambda folder: _edit(folder, files={}), "names no classifier.npz"),
        (lambda folder: _edit(folder, shape="other"), "reads texts in another way"),
        (lambda folder: (folder / CLASSIFIER).unlink(), "classifier.npz is missing"),
        (lambda folder: _flip(folder / CLASSIFIER), "classifier.npz is damaged"),
        (lambda folder: _flip(folder / SCORER), "scorer.npz is damaged"),
        (lambda folder: os.truncate(folder / SCORER, 100), "scorer.npz is damaged"),
    ],
)
def test_a_damaged_artifact_is_reported_with_the_fix(
    trained: TrainedRouter, tmp_path: Path, harm: object, message: str
) -> None:
    save(trained.artifact, tmp_path)
    assert callable(harm)
    harm(tmp_path)
    with pytest.raises(ArtifactError, match=message) as caught:
        load(tmp_path)
    assert "train" in str(caught.value)


def test_arrays_that_would_need_pickle_are_not_read(trained: TrainedRouter, tmp_path: Path) -> None:
    save(trained.artifact, tmp_path)
    np.savez(tmp_path / CLASSIFIER, tiers=np.array([{"a": 1}], dtype=object))
    import hashlib

    files = json.loads((tmp_path / MANIFEST).read_text())["files"]
    files[CLASSIFIER] = hashlib.sha256((tmp_path / CLASSIFIER).read_bytes()).hexdigest()
    _edit(tmp_path, files=files)
    with pytest.raises(ArtifactError, match="cannot be read"):
        load(tmp_path)


def test_an_interrupted_save_leaves_no_artifact(trained: TrainedRouter, tmp_path: Path) -> None:
    save(trained.artifact, tmp_path)
    broken = replace(trained.artifact, manifest={"name": object()})
    with pytest.raises(TypeError):
        save(broken, tmp_path)
    with pytest.raises(ArtifactError, match="holds no trained router"):
        load(tmp_path)


def test_opinions_carry_the_probabilities_of_every_tier(trained: TrainedRouter) -> None:
    predictor = predictor_of(trained.artifact)
    easy, hard = predictor([Query(text="list the city name"), Query(text="prove the theorem by a lemma")])
    assert predictor.name == easy.router == "made-up"
    assert (easy.tier, hard.tier) == ("small", "large")
    assert set(easy.p_ok) == {"small", "large"}
    assert easy.score == pytest.approx(1 - easy.p_ok["small"])
    assert hard.score > easy.score
    assert all(0 <= opinion.confidence <= 1 for opinion in (easy, hard))
    assert predictor([]) == []


def test_scores_come_in_the_order_of_the_pairs(trained: TrainedRouter, made_up: Dataset) -> None:
    scorer = scorer_of(trained.artifact)
    assert scorer is not None
    pairs = [(Query(text=q), a) for q, a in zip(made_up.queries[:10], made_up.answers[:10], strict=True)]
    told = scorer(pairs)
    assert list(reversed(told)) == pytest.approx(list(scorer(pairs[::-1])))
    assert scorer([]) == []


def test_a_router_without_answers_has_no_scorer(trained: TrainedRouter) -> None:
    assert scorer_of(replace(trained.artifact, scorer=None)) is None


def test_a_text_that_comes_often_is_not_tried_on_what_was_learned_from_it() -> None:
    """Whether a tier knows a text is a coin thrown once for each: nothing can be told of a new one."""
    texts = [line["query"] for line in outcome_lines(200, seed=1)]
    known = (np.random.default_rng(1).random((200, 2)) < 0.5).astype(float)
    often = np.repeat(np.arange(100), 10)
    told = fit_classifier([texts[at] for at in often], known[often], tiers=("small", "large")).model(texts[100:])
    assert told == pytest.approx(np.full((100, 2), 0.5), abs=0.2)


def test_rows_of_one_text_are_in_one_fold() -> None:
    texts = numbered(["a", "b", "a", "c", "d", "e", "b", "f"])
    folds = list(folds_by(texts, seed=0))
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(8))
    for known, held_out in folds:
        assert not set(texts[known]) & set(texts[held_out])
    plain = np.arange(20)
    for one, other in zip(folds_by(plain, seed=3), folds_of(20, seed=3), strict=True):
        assert [own.tolist() for own in one] == [own.tolist() for own in other]
