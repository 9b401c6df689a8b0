"""A batch of which 40 % of the lines ask what another one asks: whole, and with its worker killed in the middle."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from typing import Final

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.harness import Stand, stand
from db.engine import make_engine
from routing.lifecycle import FALLBACK, ROUTE
from workers.local_stack import FEEDER

LINES: Final = 1000
SHARE: Final = 0.4
_LATENCY_MS: Final = 200.0
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
    engine = make_engine(running.settings.database_url)
    try:
        whole = await _run(running, engine, "whole", kills=False)
        difference = whole["ledger_usd"] - running.simulator.stats()["cost_usd"]
        killed = await _run(running, engine, "killed", kills=True)
    finally:
        await engine.dispose()
    say("| run | lines | distinct requests | queries called | calls | answered | ")
    say("|---|---|---|---|---|---|")
    for name, row in (("whole", whole), ("its worker killed", killed)):
        cells = (name, LINES, round(LINES * (1 - SHARE)), row["called"], row["calls"], row["answered"])
        say(f"| {' | '.join(str(cell) for cell in cells)} |")
    paid = sum(row["called"] - LINES * (1 - SHARE) + LINES - row["answered"] for row in (whole, killed))
    return {"duplicates_paid": int(paid), "ledger_minus_bill": round(difference, 9)}


async def _run(running: Stand, engine: AsyncEngine, name: str, *, kills: bool) -> dict[str, float]:
    distinct = round(LINES * (1 - SHARE))
    asked = [f"{name}: question {number}" for number in range(distinct)]
    asked += random.Random(19).choices(asked, k=LINES - distinct)
    random.Random(20).shuffle(asked)
    path = running.folder / f"{name}.jsonl"
    path.write_bytes(b"".join(_line(number, question) for number, question in enumerate(asked)))
    public_id = await running.submit(path, engine=engine)
    if kills:
        await asyncio.sleep(1.5)
        os.kill(next(pid for part, pid in running.stack.processes.items() if part.startswith("route")), signal.SIGKILL)
    await running.until_ended(engine, public_id, queries=LINES)
    ask = text(
        "SELECT count(DISTINCT c.query_id) AS called, count(*) AS calls, sum(c.cost_usd) AS usd,"
        " (SELECT count(*) FROM queries AS q JOIN answers AS a ON a.query_id = q.id AND a.accepted"
        "  WHERE q.batch_id = b.id AND q.state = 'done') AS answered"
        " FROM batches AS b JOIN calls AS c ON c.batch_id = b.id WHERE b.public_id = :public_id GROUP BY b.id"
    )
    async with engine.connect() as connection:
        row = (await connection.execute(ask, {"public_id": public_id})).one()
    return {"called": row.called, "calls": row.calls, "answered": row.answered, "ledger_usd": float(row.usd)}


def _line(number: int, question: str) -> bytes:
    body = {"model": "auto", "messages": [{"role": "user", "content": question}], "temperature": 0}
    line = {"custom_id": f"q-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps(line) + b"\n"
