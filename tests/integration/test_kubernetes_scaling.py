"""The questions that KEDA asks: one integer each, by partial indexes, with the rights of the application."""

import os
import subprocess
import sys
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from settings import ROOT
from tests.databases import Databases

SCALED: list[dict[str, Any]] = [
    each
    for each in yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "keda.yaml").read_text(encoding="utf-8"))
    if each["kind"] == "ScaledObject"
]
FILL = """
INSERT INTO queries (id, batch_id, stage, state, due_at, lease_until, finished_at) VALUES
    (1, 1, :stage, 'ready', now(), NULL, NULL), (2, 1, :stage, 'queued', now(), NULL, NULL),
    (3, 1, :stage, 'running', now(), now(), NULL), (4, 1, :stage, 'held', now(), NULL, NULL),
    (5, 1, :stage, 'done', now(), NULL, now()), (6, 1, 'elsewhere', 'ready', now(), NULL, NULL),
    (7, 1, :stage, 'ready', now() + interval '1 hour', NULL, NULL)
"""


@pytest.mark.parametrize("scaled", SCALED, ids=[each["metadata"]["name"] for each in SCALED])
def test_it_counts_what_waits_and_runs_at_the_stage(database_url: str, scaled: dict[str, Any]) -> None:
    (trigger,) = scaled["spec"]["triggers"]
    stage = scaled["metadata"]["name"].removeprefix("pointsman-")
    engine = create_engine(database_url, poolclass=NullPool, connect_args={"options": "-c role=pointsman_app"})
    with engine.begin() as connection:
        connection.execute(text(FILL), {"stage": stage})
        assert connection.execute(text(trigger["metadata"]["query"])).all() == [(3,)]
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(row[0] for row in connection.execute(text("EXPLAIN " + trigger["metadata"]["query"])))
    assert "Seq Scan" not in plan, plan
    limit = int(trigger["metadata"]["targetQueryValue"]) * scaled["spec"]["maxReplicaCount"]
    assert trigger["metadata"]["query"].count(f"LIMIT {limit})") == 3


def test_a_pod_waits_where_the_schema_is_older_than_its_image(database_url: str, databases: Databases) -> None:
    def check(url: str) -> int:
        command = [sys.executable, "-m", "workers.schema_check"]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url}, capture_output=True
        ).returncode

    databases.execute("CREATE DATABASE {}", "never_migrated")
    try:
        assert check(database_url) == 0
        assert check(databases.of("never_migrated")) == 1
        # A pod of this release that starts again after the next one has migrated does not wait.
        with create_engine(databases.of("never_migrated"), poolclass=NullPool).begin() as connection:
            connection.execute(text("CREATE TABLE alembic_version AS SELECT 'of the next release' AS version_num"))
        assert check(databases.of("never_migrated")) == 0
    finally:
        databases.drop("never_migrated")
