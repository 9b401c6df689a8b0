"""A batch of which 40 % of the lines ask what another one asks: whole, and with its worker killed in the middle."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.harness import Stand, chat_line, stand
from db.engine import fetch
from routing.lifecycle import FALLBACK, ROUTE
from workers.local_stack import FEEDER

LINES: Final = 1000
SHARE: Final = 0.4
_LATENCY_MS: Final = 200.0
_KILLED_AFTER_S: Final = 2.0
"""Seconds from the submission to the kill, when calls are in flight."""
_USD: Final = (0.4, 1.6)

FLEET: Final = """
[fleet]
name = "duplicates"
simulated = true

[timing]
lease_s = 12

[providers.simulator]
kind = "openai"
base_url = "simulator:/openai/v1"
deadline_s = 8

[models."gpt-4.1-mini"]
provider = "simulator"
tier = "only"
price = { input_usd_per_mtok = 0.4, output_usd_per_mtok = 1.6 }
context_tokens = 100_000

[tiers.only]
queue = "only"
concurrency = 32
"""


def measure(say: Callable[[str], None]) -> dict[str, float]:
    """``duplicates_paid``: queries called beyond the distinct requests, and lines without an answer, of both runs."""
    with stand(
        roles=[(ROUTE, "only", FALLBACK), (FEEDER,)],
        fleet=FLEET,
        latency={"shape": "fixed", "ms": _LATENCY_MS},
        simulated={"prices": {"gpt-4.1-mini": _USD}},
    ) as running:
        return asyncio.run(_measure(running, say))


async def _measure(running: Stand, say: Callable[[str], None]) -> dict[str, float]:
    async with running.engine() as engine:
        whole = await _run(running, engine, "whole")
        difference = await running.ledger_minus_bill(engine)
        killing = asyncio.create_task(_kill_a_worker(running))
        killed = await _run(running, engine, "killed")
        await killing
    say("| run | lines | distinct requests | queries called | calls | answered | ")
    say("|---|---|---|---|---|---|")
    for name, row in (("whole", whole), ("its worker killed", killed)):
        cells = (name, LINES, round(LINES * (1 - SHARE)), row["called"], row["calls"], row["answered"])
        say(f"| {' | '.join(str(cell) for cell in cells)} |")
    paid = sum(row["called"] - LINES * (1 - SHARE) + LINES - row["answered"] for row in (whole, killed))
    return {"duplicates_paid": int(paid), "ledger_minus_bill": round(difference, 9)}


async def _kill_a_worker(running: Stand) -> None:
    await asyncio.sleep(_KILLED_AFTER_S)
    os.kill(next(pid for part, pid in running.stack.processes.items() if part.startswith("route")), signal.SIGKILL)


async def _run(running: Stand, engine: AsyncEngine, name: str) -> dict[str, int]:
    distinct = round(LINES * (1 - SHARE))
    asked = [f"{name}: question {number}" for number in range(distinct)]
    asked += random.Random(19).choices(asked, k=LINES - distinct)
    random.Random(20).shuffle(asked)
    lines = [
        chat_line(f"q-{number}", [{"role": "user", "content": question}], temperature=0)
        for number, question in enumerate(asked)
    ]
    public_id = await running.answered(lines, engine=engine)
    (row,) = await fetch(
        engine,
        "SELECT count(DISTINCT c.query_id) AS called, count(*) AS calls,"
        " (SELECT count(*) FROM queries AS q JOIN answers AS a ON a.query_id = q.id AND a.accepted"
        "  WHERE q.batch_id = b.id AND q.state = 'done') AS answered"
        " FROM batches AS b JOIN calls AS c ON c.batch_id = b.id WHERE b.public_id = :public_id GROUP BY b.id",
        public_id=public_id,
    )
    return {"called": row.called, "calls": row.calls, "answered": row.answered}
