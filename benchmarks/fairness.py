"""Ten queries that are submitted behind a large running batch: how long they take."""

import asyncio
import time
from collections.abc import Callable
from statistics import median

from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.harness import Hung, Stand, everywhere, stand
from benchmarks.query_generator import write_questions
from benchmarks.size import Size
from db.engine import fetch

_FEW = 10
_PATIENCE_S = 120.0


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """Seconds from the first line read to the last of ten answers stored, the median of three."""
    with stand(roles=everywhere(2)) as running:
        running.lap(1000)
        return asyncio.run(_behind(running, size, tell))


async def _behind(running: Stand, size: Size, tell: Callable[[str], None]) -> dict[str, object]:
    async with running.engine() as engine:
        tell(f"a batch of {size.behind:,}")
        large = await running.submit(write_questions(running.folder, size.behind), engine=engine)
        await _until_answered(engine, large, at_least=size.behind // 50)
        few = write_questions(running.folder, _FEW)
        took = []
        for number in range(3):
            tell(f"ten behind it, round {number + 1} of 3")
            began = time.time()
            public_id = await running.submit(few, engine=engine)
            took.append(await _until_answered(engine, public_id, at_least=_FEW) - began)
            if await _is_over(engine, large):
                raise Hung("the large batch was over before ten queries behind it: it is too small to measure")
    return {"fairness_s": round(median(took), 3), "fairness_behind": size.behind}


async def _until_answered(engine: AsyncEngine, public_id: str, *, at_least: int) -> float:
    """Waits for so many of its queries to have ended; when the last of them did, in Unix seconds."""
    ask = (
        "SELECT count(*) AS ended, extract(epoch FROM max(finished_at))::float8 AS last FROM ("
        " SELECT q.finished_at FROM batches AS b JOIN queries AS q ON q.batch_id = b.id"
        " AND q.id BETWEEN b.first_query_id AND b.last_query_id"
        " WHERE b.public_id = :public_id AND q.finished_at IS NOT NULL LIMIT :enough) AS those"
    )
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        (row,) = await fetch(engine, ask, public_id=public_id, enough=at_least)
        if row.ended >= at_least:
            return float(row.last)
        await asyncio.sleep(0.05 if at_least == _FEW else 0.5)
    raise Hung(f"fewer than {at_least} queries of a batch have ended in {_PATIENCE_S:g} s")


async def _is_over(engine: AsyncEngine, public_id: str) -> bool:
    ask = "SELECT ended_at IS NOT NULL AS is_over FROM batches WHERE public_id = :public_id"
    return bool((await fetch(engine, ask, public_id=public_id))[0].is_over)
