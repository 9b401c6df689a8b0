"""Trained routers in the database: what serves is the same for every machine, and its history is kept."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from db import router_registry
from evaluation.data.dataset_errors import ArtifactError, RegistryError
from evaluation.models.artifact import CLASSIFIER
from evaluation.models.artifact_cache import SHIPPED, ArtifactBundle, ArtifactCache, bundle
from routing.fleet import Fleet
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from trained_routers.resolver import find, load_serving

SHIPPED_PARCEL = bundle(SHIPPED)
V1 = replace(SHIPPED_PARCEL, name="v1")
"""Another name for the shipped one: the registry does not look inside."""


async def registered(engine: AsyncEngine, parcel: ArtifactBundle = V1, *, name: str = "v1") -> bool:
    return await router_registry.register(
        engine, name=name, digest=parcel.digest, manifest=parcel.manifest, files=parcel.files, by="ann@here"
    )


def test_until_one_is_promoted_the_shipped_router_serves(
    on_bench: OnBench, shipped_fleet: Fleet, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        assert await router_registry.promoted(bench.engine) is None
        found = await load_serving(bench.engine, shipped_fleet, tmp_path)
        assert found.label == f"default {SHIPPED_PARCEL.digest[:12]}"

    on_bench(story)


def test_promoting_and_rolling_back_go_the_same_way_and_keep_who_and_when(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await registered(bench.engine)
        other = replace(V1, digest="1" * 64)
        await registered(bench.engine, other, name="v2")
        assert await router_registry.promote(bench.engine, name="v1", digest=V1.digest, by="ann@here")
        assert not await router_registry.promote(bench.engine, name="v1", digest=V1.digest, by="bob@there")
        assert await router_registry.promote(bench.engine, name="v2", digest=other.digest, by="bob@there")
        assert await router_registry.roll_back(bench.engine, by="cy@there")
        serves = await router_registry.promoted(bench.engine)
        assert serves is not None
        assert (serves.name, serves.promoted_by) == ("v1", "ann@here")
        assert await router_registry.roll_back(bench.engine, by="cy@there")
        assert await router_registry.promoted(bench.engine) is None
        assert not await router_registry.roll_back(bench.engine, by="cy@there")
        history = await router_registry.promotions(bench.engine)
        assert [(one.name, one.promoted_by, one.undone_by) for one in history] == [
            ("v1", "ann@here", "cy@there"),
            ("v2", "bob@there", "cy@there"),
        ]

    on_bench(story)


def test_a_name_can_be_given_anew_unless_it_serves(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        assert await registered(bench.engine)
        assert await registered(bench.engine, replace(V1, digest="2" * 64))
        (entry,) = await router_registry.registered(bench.engine)
        assert entry.digest == "2" * 64
        assert not await router_registry.promote(bench.engine, name="v1", digest=V1.digest, by="x"), (
            "stands for another by now"
        )
        assert await router_registry.promote(bench.engine, name="v1", digest="2" * 64, by="x")
        assert not await registered(bench.engine)
        assert (await router_registry.registered(bench.engine))[0].digest == "2" * 64
        assert await router_registry.files_of(bench.engine, V1.digest), "an older version can still be fetched"

    on_bench(story)


def test_a_worker_on_another_machine_fetches_what_was_promoted_once(
    on_bench: OnBench, shipped_fleet: Fleet, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        await registered(bench.engine)
        await router_registry.promote(bench.engine, name="v1", digest=V1.digest, by="ann@here")
        for machine in ("one", "two"):
            found = await load_serving(bench.engine, shipped_fleet, tmp_path / machine)
            assert found.version == V1.digest[:12]
            assert ArtifactCache(tmp_path / machine).has(V1.digest)
        # A damaged copy is fetched anew.
        (tmp_path / "two" / V1.digest / CLASSIFIER).write_bytes(b"x")
        await load_serving(bench.engine, shipped_fleet, tmp_path / "two")
        assert ArtifactCache(tmp_path / "two").has(V1.digest)
        named = replace(shipped_fleet, router=replace(shipped_fleet.router, classifier="v1"))
        assert (await load_serving(bench.engine, named, tmp_path / "three")).version == V1.digest[:12]

    on_bench(story)


def test_what_is_damaged_in_the_database_or_unknown_never_serves(
    on_bench: OnBench, shipped_fleet: Fleet, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        damaged = replace(V1, files={**V1.files, CLASSIFIER: b"x"})
        await registered(bench.engine, damaged)
        await router_registry.promote(bench.engine, name="v1", digest=V1.digest, by="ann@here")
        with pytest.raises(ArtifactError, match="is damaged"):
            await load_serving(bench.engine, shipped_fleet, tmp_path)
        with pytest.raises(RegistryError, match=r"no router is named 'v9'\. fix: use one of default, v1"):
            await find(bench.engine, "v9", ArtifactCache(tmp_path))

    on_bench(story)
