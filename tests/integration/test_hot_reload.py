"""A promotion under running worker processes: they take it up, their decisions name it, what is broken never serves."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from db import router_registry
from db.batch_writer import BatchSpec
from db.engine import make_engine
from evaluation.models.artifact import CLASSIFIER, load, save
from evaluation.models.artifact_cache import SHIPPED, ArtifactBundle, bundle
from routing.fleet import Fleet
from settings import ROOT, Settings
from submission.line_reader import read_lines
from submission.submit import submit
from tests.databases import Databases
from workers.local_stack import LocalStack

SHIPPED_VERSION = bundle(SHIPPED).digest[:12]


@dataclass(frozen=True)
class Works:
    """Worker processes for every stage, and the database behind them."""

    stack: LocalStack
    folder: Path

    def register(self, name: str, *, damaged: bool = False) -> ArtifactBundle:
        """The shipped router under another name, and so of another version; ``damaged`` where it is stored."""
        artifact = load(SHIPPED)
        save(replace(artifact, manifest=artifact.manifest | {"name": name}), self.folder / name)
        parcel = bundle(self.folder / name)
        files = parcel.files | ({CLASSIFIER: b"x"} if damaged else {})

        async def work() -> None:
            engine = make_engine(self.stack.settings.database_url)
            await router_registry.register(
                engine, name=name, digest=parcel.digest, manifest=parcel.manifest, files=files, by="ann@here"
            )
            await engine.dispose()

        asyncio.run(work())
        return parcel

    def promote(self, parcel: ArtifactBundle) -> None:
        async def work() -> None:
            engine = make_engine(self.stack.settings.database_url)
            assert await router_registry.promote(engine, name=parcel.name, digest=parcel.digest, by="ann@here")
            await engine.dispose()

        asyncio.run(work())

    def roll_back(self) -> None:
        async def work() -> None:
            engine = make_engine(self.stack.settings.database_url)
            assert await router_registry.roll_back(engine, by="ann@here")
            await engine.dispose()

        asyncio.run(work())

    def submit(self, copies: int = 1) -> str:
        """The public id of a batch of so many times the examples."""
        examples = [json.loads(line) for line in (ROOT / "examples" / "queries.jsonl").read_text().splitlines()]
        lines = []
        for n in range(copies):
            for one in examples:
                body = {key: value for key, value in one.items() if key not in ("id", "custom_id")}
                lines.append(body | {("custom_id" if "custom_id" in one else "id"): f"{n}-{len(lines)}"})
        path = self.folder / "batch.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

        async def work() -> str:
            engine = make_engine(self.stack.settings.database_url)
            with path.open("rb") as file:
                read = read_lines(file, fleet=self.stack.fleet)
                taken = await submit(read, engine=engine, fleet=self.stack.fleet, spec=BatchSpec(source="test"))
            await engine.dispose()
            return taken.public_id

        return asyncio.run(work())

    def rows(self, sql: str, *params: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.stack.settings.database_url.replace("+psycopg", "")) as connection:
            return connection.execute(sql, params).fetchall()

    def await_end(self, public_id: str) -> None:
        self.until(lambda: self.rows("SELECT 1 FROM batches WHERE public_id = %s AND ended_at IS NOT NULL", public_id))

    def deciders(self, public_id: str) -> dict[tuple[object, object], int]:
        """By (router, version): decisions of the batch in which the classifier took part."""
        found = self.rows(
            "SELECT d.router, d.detail ->> 'version', count(*)"
            " FROM decisions AS d JOIN batches AS b ON b.id = d.batch_id"
            " WHERE b.public_id = %s AND d.detail ->> 'version' IS NOT NULL"
            " AND d.router NOT IN ('gate', 'prior', 'exploration', 'budget') GROUP BY 1, 2",
            public_id,
        )
        return {(router, version): int(str(count)) for router, version, count in found}

    def serving(self) -> set[object]:
        return {told for (told,) in self.rows("SELECT router FROM workers WHERE router IS NOT NULL")}

    def until(self, come_true: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not come_true():
            self.stack.check()
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.1)

    def logged(self, event: str) -> list[dict[str, str]]:
        (log,) = (self.stack.settings.home / "logs").glob("route*.log")
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def works(
    tmp_path_factory: pytest.TempPathFactory,
    databases: Databases,
    template_database: str,
    broker_server: Settings,
    shipped_fleet: Fleet,
) -> Iterator[Works]:
    """One worker process for every stage, and a feeder."""
    folder = tmp_path_factory.mktemp("works")
    name = databases.clone(template_database)
    settings = Settings.load(
        {
            "POINTSMAN_HOME": str(folder / "home"),
            "DATABASE_URL": databases.of(name),
            "BROKER_URL": broker_server.broker_url,
            "POINTSMAN_KEY_PREFIX": f"{folder.name}:",
        }
    )
    stages = ("route", "fallback", "ingest", *shipped_fleet.tiers)
    with LocalStack(settings, shipped_fleet, roles=[stages, ("feeder",)]) as stack:
        yield Works(stack, folder)
    databases.drop(name)


def test_workers_take_up_a_promotion_in_the_middle_of_a_batch_and_each_decision_names_its_own(works: Works) -> None:
    before = works.submit()
    works.await_end(before)
    assert set(works.deciders(before)) == {("default", SHIPPED_VERSION)}
    second = works.register("second")
    during = works.submit(copies=6)
    works.promote(second)
    works.until(lambda: works.serving() == {f"second {second.digest[:12]}"})
    works.await_end(during)
    assert set(works.deciders(during)) <= {("default", SHIPPED_VERSION), ("second", second.digest[:12])}
    after = works.submit()
    works.await_end(after)
    assert set(works.deciders(after)) == {("second", second.digest[:12])}
    works.roll_back()
    works.until(lambda: works.serving() == {f"default {SHIPPED_VERSION}"})
    assert [told["router"].split()[0] for told in works.logged("router_taken_up")] == ["second", "default"]


def test_a_router_that_cannot_be_loaded_leaves_the_old_one_at_work_and_the_log_says_why(works: Works) -> None:
    sound = works.register("sound")
    works.promote(sound)
    works.until(lambda: works.serving() == {f"sound {sound.digest[:12]}"})
    works.promote(works.register("broken", damaged=True))
    works.until(lambda: works.logged("router_refused"))
    (told,) = works.logged("router_refused")
    assert told["keeps"] == f"sound {sound.digest[:12]}"
    assert "is damaged" in told["why"]
    batch = works.submit()
    works.await_end(batch)
    assert set(works.deciders(batch)) == {("sound", sound.digest[:12])}
    assert works.serving() == {f"sound {sound.digest[:12]}"}
