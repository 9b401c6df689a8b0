"""An upgrade under load. The next release is a copy of this one with other messages, statements and two migrations."""

import shutil
import subprocess
import sys
from pathlib import Path

from settings import ROOT
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault
from tests.chaos.process import Worker

_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "benchmarks", "docs", "unit", "integration", "acceptance")
_MIGRATION = """from alembic import op

revision, down_revision = "{revision}", "{before}"


def upgrade() -> None:
    op.execute("{statement}")
"""
_EXPAND, _CONTRACT = "0002_expand", "0003_contract"
_MIGRATIONS = (
    (
        _EXPAND,
        "0001_baseline",
        # Rights are by column.
        ["ALTER TABLE calls ADD COLUMN release text", "GRANT INSERT (release) ON calls TO pointsman_app"],
    ),
    # Nobody is left who writes rows without it.
    (
        _CONTRACT,
        _EXPAND,
        [
            "UPDATE calls SET release = 'before' WHERE release IS NULL",
            "ALTER TABLE calls ALTER COLUMN release SET NOT NULL",
        ],
    ),
)
_CHANGES = (
    # What it writes and N does not: a column, in each statement that adds calls.
    ("db/sql/ledger/claim.sql", "budget_ids, lane)", "budget_ids, lane, release)"),
    ("db/sql/ledger/claim.sql", "budget_ids, lane\n", "budget_ids, lane, 'next'\n"),
    ("db/sql/ledger/reserve_calls.sql", "budget_ids, lane)", "budget_ids, lane, release)"),
    ("db/sql/ledger/reserve_calls.sql", "m.lane\n", "m.lane, 'next'\n"),
    ("db/sql/lanes/provider_batch_enlist.sql", "lane, provider_batch_id)", "lane, provider_batch_id, release)"),
    ("db/sql/lanes/provider_batch_enlist.sql", "'batch', :id\n", "'batch', :id, 'next'\n"),
    # What it says and N does not: of a message, who sent it.
    ("tasks/publisher.py", '"ids": some}', '"ids": some, "sent_by": "next"}'),
    ("tasks/celery_tasks.py", "ids: Sequence[int], **_next: object", 'ids: Sequence[int], sent_by: str = "before"'),
    (
        "tasks/celery_tasks.py",
        "    _run_stage(stage, ids, ",
        '    log.info("taken", sent_by=sent_by)\n    _run_stage(stage, ids, ',
    ),
)


def _make_next_release(path: Path) -> Path:
    """Writes the next release's tree to ``path``, and returns it."""
    shutil.copytree(ROOT, path, ignore=_LEFT_OUT)
    for name, old, new in _CHANGES:
        file = path / name
        text = file.read_text()
        assert old in text, f"{name} has no {old!r} to change"
        file.write_text(text.replace(old, new))
    for revision, before, statements in _MIGRATIONS:
        text = _MIGRATION.format(revision=revision, before=before, statement="; ".join(statements))
        (path / "migrations" / "versions" / f"{revision}.py").write_text(text)
    return path


@fault("upgrade_under_load", graceful=True)
def two_releases_at_work(arena: ChaosEnvironment) -> None:
    """Migrated (expand), rolled process by process, migrated again (contract), as docs/operations.md has it.

    N+1 routes what N's feeder sent while N answers what N+1's router sent; then the feeder and the tiers follow.
    """
    root = _make_next_release(arena.home / "next")
    tiers = ("small", "medium", "large", "special", "fallback", "ingest")

    def roll(old: str, new: str, *roles: str) -> None:
        """The new one works beside the old one for a moment, and then alone."""
        arena.workers[new] = Worker(new, roles, arena.home, arena.environ, {"PYTHONPATH": str(root)}, root=root)
        arena.workers[new].start()
        arena.await_ready(new)
        arena.submit(300)
        arena.sleep(2.0)
        arena.strike(arena.workers[old])
        stops.append(arena.stop(arena.workers[old]))

    def migrate(revision: str) -> None:
        environ = arena.environ | {"PYTHONPATH": str(root)}
        argv = [sys.executable, "-m", "alembic", "upgrade", revision]
        done = subprocess.run(argv, cwd=root, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    stops: list[float] = []
    arena.add("feeder0", "feeder")
    arena.add("router0", "route")
    arena.add("tiers0", *tiers)
    arena.await_ready()
    arena.submit(600)
    arena.at(0.1)
    migrate(_EXPAND)
    roll("router0", "router1", "route")
    rolled = arena.one("SELECT now()")
    # Of which each was routed by N+1.
    arena.submit(300)
    by_n = (
        "SELECT count(*) FROM calls AS c JOIN workers AS w ON w.id = c.worker_id"
        " WHERE w.name = 'tiers0' AND c.created_at > %s"
    )
    arena.until(lambda: arena.one(by_n, [rolled]) > 50, what="N has answered what N+1 routed")
    roll("feeder0", "feeder1", "feeder")
    roll("tiers0", "tiers1", *tiers)
    migrate(_CONTRACT)
    arena.submit(300)
    arena.finish()
    log = (arena.home / "logs" / "router1.log").read_text()
    rows = arena.ask("SELECT release, count(*) AS calls FROM calls GROUP BY 1 ORDER BY 1")
    arena.extras["longest_stop_s"] = round(max(stops), 1)
    arena.extras["calls"] = ",".join(f"{row.release}:{row.calls}" for row in rows)
    arena.extras["routed_by_next"] = taken = {by: log.count(f'"sent_by": "{by}"') for by in ("before", "next")}
    if len(rows) < 2 or not all(taken.values()):
        arena.complaints.append("one release did not take part, or not by messages of both")
