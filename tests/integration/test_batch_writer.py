"""Deposits into Postgres: many at a time, large ones, and what is left of one that fails or dies."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from db.batch_writer import (
    MAX_CONCURRENT_LARGE_WRITERS,
    TWO_CONNECTION_THRESHOLD,
    BatchSpec,
    BatchWriter,
    Prompt,
    open_batch_writer,
)
from db.statement_errors import is_transient
from submission.input_line import InputLine, InvalidInput
from submission.submit import IdempotencyConflict, submit
from tests.integration.ledger_fixtures import COMMITTING, HELD_COMMIT, LEAVE, LedgerHarness, OnBench, appear

MANY = 24
"""More than the engine has connections, and each deposit needs two."""

HANDFUL = 700
MANY_LINES = 3 * TWO_CONNECTION_THRESHOLD + HANDFUL
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = CAST('queries' AS regclass)"
BODY = b'{"messages":[{"role":"user","content":"a \\\\ and a \\t, \\u00e9"}]}'


def prompts(first: int, count: int) -> list[Prompt]:
    return [
        (line, f"q\\{line}", BODY, b'{"pin":"small"}' if line % 2 else None) for line in range(first, first + count)
    ]


async def pour(opened: BatchWriter, lines: int, *, first: int = 1) -> None:
    for start in range(first, first + lines, HANDFUL):
        await opened.write(prompts(start, min(HANDFUL, first + lines - start)))


async def nothing_is_left(bench: LedgerHarness) -> bool:
    return await bench.counts() == (0, 0, 0)


def test_more_deposits_at_once_than_connections_all_come_through(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with asyncio.timeout(50):  # less than the pool's own patience
            batches = await asyncio.gather(*(bench.submit(3) for _ in range(MANY)))
        assert [len(ids) for ids in batches] == [3] * MANY

    on_bench(story)


def test_a_list_without_queries_is_told_to_have_some(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with pytest.raises(InvalidInput, match=r"input: queries: empty\. Give at least one query\."):
            await submit((), engine=bench.engine, fleet=bench.fleet, spec=BatchSpec(source="test"))
        assert await nothing_is_left(bench)

    on_bench(story)


def test_a_large_batch_is_whole_and_in_order_though_its_ids_are_not_in_one_range(on_bench: OnBench) -> None:
    async def one(bench: LedgerHarness) -> list[tuple[int, int]]:
        async with open_batch_writer(bench.engine, BatchSpec(source="test"), bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write(prompts(1, 1))
            await bench.rows("SELECT nextval('query_blocks')")  # whoever it is, the next ids are not this deposit's
            await pour(opened, MANY_LINES - 1, first=2)
        return opened.ranges

    async def story(bench: LedgerHarness) -> None:
        ranges = await asyncio.gather(one(bench), one(bench))
        assert all(len(each) > 1 for each in ranges)
        rows = await bench.rows(
            # Materialized: without statistics Postgres may look for it anew at each line, which takes minutes.
            "WITH now_of AS MATERIALIZED (SELECT batch_id, min(due_at) AS first FROM queries GROUP BY 1)"
            " SELECT b.id, b.total, array_agg(p.query_id ORDER BY p.line) AS ids, array_agg(p.line ORDER BY p.line),"
            " bool_and(p.custom_id = 'q\\' || p.line AND CAST(p.body AS text) = :body"
            ' AND CAST(p.options AS text) IS NOT DISTINCT FROM CASE WHEN p.line % 2 = 1 THEN \'{"pin":"small"}\' END'
            " AND q.batch_id = b.id AND q.stage = 'route' AND q.state = 'ready' AND q.due_at = now_of.first) AS kept"
            " FROM batches AS b JOIN prompts AS p ON p.batch_id = b.id JOIN queries AS q ON q.id = p.query_id"
            " JOIN now_of ON now_of.batch_id = b.id"
            " GROUP BY 1, 2",
            body=BODY.decode(),
        )
        known = [[id_ for first, last in each for id_ in range(first, last + 1)] for each in ranges]
        assert sorted(row.ids for row in rows) == sorted(known)
        for row in rows:
            assert row.total == MANY_LINES
            assert row.array_agg == list(range(1, MANY_LINES + 1))
            assert row.kept
        assert (await bench.rows("SELECT count(*) FROM queries"))[0].count == 2 * MANY_LINES

    on_bench(story)


async def _repeats_a_custom_id(bench: LedgerHarness, opened: BatchWriter) -> None:
    await pour(opened, MANY_LINES)
    await opened.write(prompts(1, 1))


async def _has_an_id_that_is_taken(bench: LedgerHarness, opened: BatchWriter) -> None:
    """Of whose queries Postgres hears while later ones are read."""
    await opened.write(prompts(1, 1))
    taken = "INSERT INTO queries (id, batch_id, stage, state) VALUES (:id, 0, 'route', 'ready')"
    await bench.rows(taken, id=opened.ranges[0][0] + 5)
    for first in range(2, 40 * TWO_CONNECTION_THRESHOLD, HANDFUL):
        await opened.write(prompts(first, HANDFUL))
    raise AssertionError("it was never told")


async def _loses_its_connection(bench: LedgerHarness, opened: BatchWriter) -> None:
    await pour(opened, MANY_LINES)
    copying = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %'"
    known, ended = f"SELECT 1 {copying}", f"SELECT pg_terminate_backend(pid) {copying}"
    async with bench.owner() as owner, owner.connect() as connection:
        await appear(connection, known, rows=2)  # Postgres may not have heard of both yet
        assert (await connection.execute(text(ended))).scalars().all() == [True, True]


async def _is_told_to_stop(bench: LedgerHarness, opened: BatchWriter) -> None:
    await pour(opened, MANY_LINES)
    raise asyncio.CancelledError


async def _is_told_to_stop_at_the_end(bench: LedgerHarness, opened: BatchWriter) -> None:
    """While Postgres writes the last of what was read."""
    await pour(opened, MANY_LINES)
    task, finish = asyncio.current_task(), opened.finish
    assert task is not None

    async def told() -> None:
        asyncio.get_running_loop().call_soon(task.cancel)  # in the next step, when Postgres cannot have answered
        await finish()

    opened.finish = told  # type: ignore[method-assign]


async def _is_told_to_stop_while_postgres_waits_for_a_lock(bench: LedgerHarness, opened: BatchWriter) -> None:
    async with bench.owner() as owner, owner.connect() as connection:
        await connection.execute(text("BEGIN"))
        await connection.execute(text("LOCK TABLE queries"))
        await pour(opened, 2 * TWO_CONNECTION_THRESHOLD)
        await appear(connection, WAITING)
        await opened.abandon()  # as the deposit does, while the lock is held
        assert (await connection.execute(text(WAITING))).all() == []
        await connection.execute(text("ROLLBACK"))
    raise asyncio.CancelledError


async def _is_told_to_stop_twice_at_once(bench: LedgerHarness, opened: BatchWriter) -> None:
    await pour(opened, MANY_LINES)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    raise asyncio.CancelledError


async def _finds_a_bad_line(bench: LedgerHarness, opened: BatchWriter) -> None:
    await pour(opened, MANY_LINES)
    raise ValueError


@pytest.mark.parametrize(
    ("goes_wrong", "error"),
    [
        (_repeats_a_custom_id, IntegrityError),
        (_has_an_id_that_is_taken, IntegrityError),
        (_loses_its_connection, DBAPIError),
        (_is_told_to_stop, asyncio.CancelledError),
        (_is_told_to_stop_at_the_end, asyncio.CancelledError),
        (_is_told_to_stop_while_postgres_waits_for_a_lock, asyncio.CancelledError),
        (_is_told_to_stop_twice_at_once, asyncio.CancelledError),
        (_finds_a_bad_line, ValueError),
    ],
)
def test_nothing_is_left_of_a_deposit_that_fails_and_the_next_one_is_taken(
    on_bench: OnBench, goes_wrong: Callable[[LedgerHarness, BatchWriter], Awaitable[None]], error: type[BaseException]
) -> None:
    async def failing(bench: LedgerHarness) -> None:
        async with open_batch_writer(bench.engine, BatchSpec(source="test"), bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await goes_wrong(bench, opened)

    async def story(bench: LedgerHarness) -> None:
        with pytest.raises(error) as caught:
            async with asyncio.timeout(30):
                await failing(bench)
        if goes_wrong is _loses_its_connection:
            assert isinstance(caught.value, DBAPIError)
            assert is_transient(caught.value)
        await bench.rows_as_owner("DELETE FROM queries WHERE batch_id = 0")
        assert await nothing_is_left(bench)
        assert len(await bench.submit(3)) == 3

    on_bench(story)


def test_a_deposit_that_waits_for_a_lock_may_be_told_to_stop_again_and_again(
    on_bench: OnBench, caplog: pytest.LogCaptureFixture
) -> None:
    async def waiting(bench: LedgerHarness) -> None:
        async with open_batch_writer(bench.engine, BatchSpec(source="test"), bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await pour(opened, MANY_LINES)

    async def story(bench: LedgerHarness) -> None:
        async with bench.owner() as owner, owner.connect() as connection:
            await connection.execute(text("BEGIN"))
            await connection.execute(text("LOCK TABLE queries"))
            task = asyncio.create_task(waiting(bench))
            await appear(connection, WAITING)
            for _ in range(3):
                await asyncio.sleep(0.05)
                task.cancel()
            await asyncio.wait({task}, timeout=20)
            assert task.cancelled()
            await connection.execute(text("ROLLBACK"))
        assert await nothing_is_left(bench)
        assert bench.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of a queue's pool
        for _ in range(4):
            assert len(await bench.submit(3)) == 3

    on_bench(story)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("stops", [1, 2])
@pytest.mark.parametrize("lines", [HANDFUL, MANY_LINES])
def test_who_is_told_to_stop_during_the_commits_has_a_batch_and_knows_it(
    lines: int, stops: int, on_bench: OnBench
) -> None:
    known: list[str] = []

    async def submitting(bench: LedgerHarness) -> None:
        async with open_batch_writer(bench.engine, BatchSpec(source="test"), bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await pour(opened, lines)
        known.append(opened.public_id)
        await asyncio.sleep(60)

    async def story(bench: LedgerHarness) -> None:
        async with bench.owner() as owner, owner.connect() as connection:
            for sql in HELD_COMMIT:
                await connection.execute(text(sql))
            task = asyncio.create_task(submitting(bench))
            await appear(connection, COMMITTING)
            for _ in range(stops):
                task.cancel()
                await asyncio.sleep(0.05)
            await connection.execute(text(LEAVE))
            await asyncio.wait({task}, timeout=20)
        assert (task.cancelled(), task.cancelling()) == (True, stops)
        assert [row.public_id for row in await bench.rows("SELECT public_id FROM batches")] == known
        assert await bench.counts() == (1, lines, lines)

    on_bench(story)


@pytest.mark.parametrize(("lines", "connections"), [(TWO_CONNECTION_THRESHOLD - 1, 1), (TWO_CONNECTION_THRESHOLD, 2)])
def test_only_a_large_deposit_takes_a_second_connection(lines: int, connections: int, on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        pool = bench.engine.pool
        async with open_batch_writer(bench.engine, BatchSpec(source="test"), bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await pour(opened, lines)
            assert pool.checkedout() == connections  # type: ignore[attr-defined]  # of a queue's pool
        assert await bench.counts() == (1, lines, lines)

    on_bench(story)


def test_more_large_deposits_at_once_than_may_be_all_come_through(on_bench: OnBench) -> None:
    async def one(bench: LedgerHarness) -> None:
        async with open_batch_writer(bench.engine, BatchSpec(source="test"), bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await pour(opened, TWO_CONNECTION_THRESHOLD)

    async def story(bench: LedgerHarness) -> None:
        many = 3 * MAX_CONCURRENT_LARGE_WRITERS
        async with asyncio.timeout(50):  # less than the pool's own patience
            await asyncio.gather(*(one(bench) for _ in range(many)))
        assert await bench.counts() == (many, many * TWO_CONNECTION_THRESHOLD, many * TWO_CONNECTION_THRESHOLD)

    on_bench(story)


def test_a_key_belongs_to_one_content_whatever_the_sizes_of_the_writes(on_bench: OnBench) -> None:
    def some(count: int) -> list[InputLine]:
        return [InputLine(n + 1, f"q-{n}", b'{"messages":[]}', None) for n in range(count)]

    async def story(bench: LedgerHarness) -> None:
        spec = BatchSpec(source="test", idempotency_key="k")
        first = await submit(some(1200), engine=bench.engine, fleet=bench.fleet, spec=spec)
        again = await submit(some(1200), engine=bench.engine, fleet=bench.fleet, spec=spec)
        assert (again.public_id, again.duplicate) == (first.public_id, True)
        changed = [*some(1199), InputLine(1200, "q-1199", b'{"messages":[1]}', None)]
        for other in (some(1199), some(1201), changed):
            with pytest.raises(IdempotencyConflict, match=first.public_id):
                await submit(other, engine=bench.engine, fleet=bench.fleet, spec=spec)
        assert (await bench.counts())[0] == 1
        async with open_batch_writer(bench.engine, replace(spec, idempotency_key="other"), bench.fleet) as writer:
            assert isinstance(writer, BatchWriter)
            for prompt in some(1200):
                await writer.write([prompt])
        hashes = await bench.rows("SELECT count(DISTINCT content_sha256) AS n, count(*) AS batches FROM batches")
        assert (hashes[0].n, hashes[0].batches) == (1, 2)

    on_bench(story)
