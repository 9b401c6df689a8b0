"""Which routers there are, which serves, and the one that is shipped."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluation.artefact import CLASSIFIER, save
from evaluation.data import read_dataset
from evaluation.faults import ArtefactError, RegistryError
from evaluation.labels import weigh_choices
from evaluation.registry import SHIPPED, Registry, open_router, serving
from evaluation.train import Trained
from routing.decision import decide
from routing.query import Query
from settings import ROOT, load_fleet

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _added(registry: Registry, trained: Trained, folder: Path, name: str) -> None:
    save(replace(trained.artefact, manifest=trained.artefact.manifest | {"name": name}), folder / name)
    registry.add(folder / name, now=NOW)


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "home")
    for name in ("v1", "v2"):
        _added(registry, trained, tmp_path, name)
    return registry


def test_until_one_is_promoted_the_shipped_router_serves(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.promoted() == "default"
    assert registry.entries() == []
    assert registry.load("default").name == "default"


def test_promoting_and_rolling_back_go_the_same_way(registry: Registry) -> None:
    registry.promote("v1")
    registry.promote("v2")
    registry.promote("v2")
    assert registry.promoted() == "v2"
    assert registry.rollback() == "v1"
    assert registry.rollback() == "default"
    with pytest.raises(RegistryError, match="nothing was promoted"):
        registry.rollback()


def test_a_registered_router_is_a_copy(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "v1" / CLASSIFIER).write_bytes(b"overwritten")
    assert registry.load("v1").name == "v1"


def test_a_name_can_be_given_anew_unless_it_serves(registry: Registry, trained: Trained, tmp_path: Path) -> None:
    _added(registry, trained, tmp_path / "again", "v1")
    assert sorted(entry.name for entry in registry.entries()) == ["v1", "v2"]
    registry.promote("v1")
    with pytest.raises(RegistryError, match="v1 is promoted and stays as it is"):
        _added(registry, trained, tmp_path / "third", "v1")


@pytest.mark.parametrize("name", ["default", "", "../up", "a b", "-x", "x" * 65])
def test_names_that_would_confuse_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="is no name for a router"):
        registry.check_name(name)


def test_an_unknown_name_is_told_with_those_that_are_known(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no router is named 'v9'; there are: default, v1, v2"):
        registry.promote("v9")


def test_a_copy_that_was_tampered_with_does_not_serve(registry: Registry) -> None:
    folder = registry.folder_of("v1")
    (folder / CLASSIFIER).write_bytes(b"x")
    with pytest.raises(ArtefactError, match="is damaged"):
        registry.promote("v1")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][CLASSIFIER] = hashlib.sha256(b"x").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((RegistryError, ArtefactError)):
        registry.promote("v1")


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_index_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry.json").write_text(text)
    with pytest.raises(RegistryError, match="is damaged"):
        Registry(tmp_path).promoted()


def test_a_router_is_opened_by_folder_or_by_name(registry: Registry, tmp_path: Path) -> None:
    assert open_router(str(tmp_path / "v2"), registry).name == "v2"
    assert open_router("v1", registry).name == "v1"
    with pytest.raises(ArtefactError, match="holds no trained router"):
        open_router(str(tmp_path / "nowhere"), registry)


def test_what_serves_is_what_was_promoted(registry: Registry) -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    assert serving(fleet, registry.home)[0].name == "default"
    registry.promote("v1")
    predictor, scorer = serving(fleet, registry.home)
    assert (predictor.name, scorer) == ("v1", None)
    scored = replace(fleet, router=replace(fleet.router, classifier="v2", scorer="v2"))
    predictor, named = serving(scored, registry.home)
    assert (predictor.name, named and named.name) == ("v2", "v2")


def test_a_scorer_that_was_never_trained_cannot_serve(tmp_path: Path) -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    with pytest.raises(RegistryError, match="has no answer scorer"):
        serving(replace(fleet, router=replace(fleet.router, scorer="default")), tmp_path)


def test_the_shipped_router_is_trained_on_the_shipped_labels() -> None:
    artefact = open_router(str(SHIPPED), Registry(Path("/nowhere")))
    assert artefact.manifest["data"]["sha256"] == read_dataset(ROOT / "examples" / "labelled.jsonl").sha256


def test_the_shipped_router_tells_a_greeting_from_a_proof() -> None:
    predictor, _ = serving(load_fleet(ROOT / "fleet.toml", {}), Path("/nowhere"))
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
    predictor, _ = serving(fleet, Path("/nowhere"))
    fresh = read_dataset(ROOT / "benchmarks" / "fresh_labelled.jsonl")
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
    fresh = set(read_dataset(ROOT / "benchmarks" / "fresh_labelled.jsonl").queries)
    lines = (ROOT / "examples" / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    examples = {json.loads(line).get("query") for line in lines if line}
    assert trained_on.isdisjoint(fresh | examples)


def test_the_shipped_labels_are_many_and_of_every_tier() -> None:
    data = read_dataset(ROOT / "examples" / "labelled.jsonl")
    tiers = [example.expected for example in data.examples]
    assert len(data) >= 1000
    assert min(tiers.count(tier) for tier in ("small", "medium", "large")) >= 60
    assert len(set(data.queries)) == len(data)
