"""Which routers there are, which serves, and the one that is shipped."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.data.dataset import read_dataset
from evaluation.data.dataset_errors import ArtifactError, RegistryError
from evaluation.metrics.label_evaluation import weigh_choices
from evaluation.models.artifact import CLASSIFIER, MANIFEST, save
from evaluation.models.artifact_cache import (
    DEFAULT,
    ArtifactCache,
    bundle,
    check_name,
    load_serving_models,
    open_folder,
)
from evaluation.training.train import TrainedRouter
from fleet_config import load_fleet
from routing.policy.decision import decide
from routing.query import Query
from settings import ROOT


@pytest.fixture
def folder(trained: TrainedRouter, tmp_path: Path) -> Path:
    save(replace(trained.artifact, manifest=trained.artifact.manifest | {"name": "v1"}), tmp_path / "v1")
    return tmp_path / "v1"


def test_a_router_travels_as_bytes_and_is_the_same_on_the_shelf(folder: Path, tmp_path: Path) -> None:
    parcel, shelf = bundle(folder), ArtifactCache(tmp_path / "shelf")
    assert not shelf.has(parcel.digest)
    assert shelf.put(parcel.digest, parcel.files).digest == parcel.digest
    assert shelf.load(parcel.digest).name == parcel.name == "v1"
    assert [path.name for path in shelf.home.iterdir()] == [parcel.digest]


def test_a_shelf_takes_no_other_version_than_the_one_it_asked_for(folder: Path, tmp_path: Path) -> None:
    parcel, shelf = bundle(folder), ArtifactCache(tmp_path / "shelf")
    with pytest.raises(ArtifactError, match="is damaged where it is stored"):
        shelf.put("0" * 64, parcel.files)
    with pytest.raises(ArtifactError, match="is damaged"):
        shelf.put(parcel.digest, {**parcel.files, CLASSIFIER: b"x"})
    with pytest.raises(ArtifactError, match="not a plain name"):
        shelf.put(parcel.digest, {**parcel.files, "../up": b"x"})
    assert list(shelf.home.iterdir()) == []


def test_a_copy_that_was_tampered_with_does_not_serve_and_is_replaced(folder: Path, tmp_path: Path) -> None:
    parcel, shelf = bundle(folder), ArtifactCache(tmp_path / "shelf")
    shelf.put(parcel.digest, parcel.files)
    copy = shelf.home / parcel.digest
    (copy / CLASSIFIER).write_bytes(b"x")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"][CLASSIFIER] = hashlib.sha256(b"x").hexdigest()
    (copy / MANIFEST).write_text(json.dumps(manifest))
    assert not shelf.has(parcel.digest)
    shelf.put(parcel.digest, parcel.files)
    assert shelf.has(parcel.digest)


def test_a_sound_copy_is_left_to_the_processes_that_read_it(folder: Path, tmp_path: Path) -> None:
    parcel, shelf = bundle(folder), ArtifactCache(tmp_path / "shelf")
    shelf.put(parcel.digest, parcel.files)
    laid = (shelf.home / parcel.digest).stat().st_ino
    assert shelf.put(parcel.digest, parcel.files).digest == parcel.digest
    assert (shelf.home / parcel.digest).stat().st_ino == laid
    assert [path.name for path in shelf.home.iterdir()] == [parcel.digest]


@pytest.mark.parametrize("name", ["default", "", "../up", "a b", "-x", "x" * 65])
def test_names_that_would_confuse_are_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="is not a name for a router"):
        check_name(name)


@pytest.mark.parametrize("digest", ["", "../up", "A" * 64, "0" * 63])
def test_what_is_no_digest_is_no_folder(digest: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="is not a digest"):
        ArtifactCache(tmp_path).load(digest)


def test_without_a_database_a_folder_and_the_shipped_router_are_at_hand(folder: Path) -> None:
    assert open_folder(str(folder)).name == "v1"
    assert open_folder("default").name == "default"
    with pytest.raises(ArtifactError, match="holds no trained router"):
        open_folder(str(folder / "nowhere"))
    with pytest.raises(RegistryError, match="registered ones are in the database"):
        open_folder("v1")


def test_the_scorer_serves_where_the_fleet_names_one(folder: Path) -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    assert load_serving_models(fleet, open_folder)[1] is None
    scored = replace(fleet, router=replace(fleet.router, classifier=str(folder), scorer=str(folder)))
    predictor, scorer = load_serving_models(scored, open_folder)
    assert (predictor.name, scorer and scorer.name) == ("v1", "v1")
    assert predictor.version == bundle(folder).digest[:12]


def test_a_scorer_that_was_never_trained_cannot_serve() -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    with pytest.raises(RegistryError, match="has no answer scorer"):
        load_serving_models(replace(fleet, router=replace(fleet.router, scorer="default")), open_folder)


def test_the_shipped_router_is_trained_on_the_shipped_labels() -> None:
    artifact = open_folder(DEFAULT)
    assert artifact.manifest["data"]["sha256"] == read_dataset(ROOT / "examples" / "labelled.jsonl").sha256


def test_the_shipped_router_tells_a_greeting_from_a_proof() -> None:
    predictor, _ = load_serving_models(load_fleet(ROOT / "fleet.toml", {}), open_folder)
    easy, hard = predictor(
        [
            Query(text="Translate to French: the cat is small"),
            Query(text="Prove that every bounded monotone sequence of real numbers converges."),
        ]
    )
    assert easy.p_ok["small"] > 0.7
    assert hard.p_ok["small"] < 0.3


def test_the_shipped_router_does_well_on_fresh_lines_and_loses_little_quality() -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    predictor, _ = load_serving_models(fleet, open_folder)
    fresh = read_dataset(ROOT / "tests" / "data" / "fresh_labelled.jsonl")
    decisions = decide([Query(text=text) for text in fresh.queries], fleet=fleet, predictor=predictor)
    chosen = [decision.tier for decision in decisions]
    report = weigh_choices(
        fresh, {"router": chosen}, tiers=(*fleet.ladder, "special"), weight=fleet.router.quality_weight
    )
    assert report.router.accuracy >= 0.8
    assert report.router.rate(report.router.quality_loss) <= 0.03
    # Surely, not by luck: it beats every control that knows nothing of the labels.
    for control in ("best_fixed_tier", "query_length", "random"):
        saved = report.intervals[f"saved_over_{control}"]
        assert saved is not None
        assert saved.low > 0.1, control


def test_no_line_of_the_fresh_set_or_the_examples_was_trained_on() -> None:
    trained_on = set(read_dataset(ROOT / "examples" / "labelled.jsonl").queries)
    fresh = set(read_dataset(ROOT / "tests" / "data" / "fresh_labelled.jsonl").queries)
    lines = (ROOT / "examples" / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    examples = {json.loads(line).get("query") for line in lines if line}
    assert trained_on.isdisjoint(fresh | examples)


def test_the_shipped_labels_are_many_and_of_every_tier() -> None:
    data = read_dataset(ROOT / "examples" / "labelled.jsonl")
    tiers = [example.expected for example in data.examples]
    assert len(data) >= 1000
    assert min(tiers.count(tier) for tier in ("small", "medium", "large")) >= 60
    assert len(set(data.queries)) == len(data)
