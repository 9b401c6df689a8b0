"""A batch of prompts with one long beginning, by length, number and concurrency: with the provider's cache and without.

Both sides run on one stack, at deployments of the same price; the simulator caches as the providers do, and its bill
decides. A cell is more expensive where the batch costs more with the cache than without.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.harness import Stand, chat_line, stand
from db.engine import fetch
from routing.lifecycle import FALLBACK, ROUTE
from workers.local_stack import FEEDER

PREFIX_TOKENS: Final = (500, 2_000, 8_000, 20_000)
READERS: Final = (1, 10, 100, 1_000)
CONCURRENCY: Final = (4, 32)
KINDS: Final = {"marked": ("anthropic", "/anthropic/v1"), "automatic": ("openai", "/openai/v1")}
PROCESSES: Final = 2
"""Workers that share the queries of each batch, each with the tier's concurrency."""
_LATENCY_MS: Final = 60.0
_USD: Final = {"input": 3.0, "output": 15.0, "cached": 0.3, "write": 3.75}
_QUESTION: Final = "Does section {number} bind both sides? Answer yes or no."
"""Answers of one token, so that both sides' answers cost the same."""


class Cell(NamedTuple):
    """One batch, with and without the cache."""

    kind: str
    concurrency: int
    prefix_tokens: int
    readers: int
    usd: float
    usd_without: float
    seconds: float
    seconds_without: float
    delay_s: float
    """Seconds by which the second call is sent later than without waiting for the first."""

    @property
    def is_dearer(self) -> bool:
        """Whether the cache makes it cost more."""
        return self.usd > self.usd_without + 1e-9


def measure(say: Callable[[str], None]) -> dict[str, float]:
    """``cells_dearer``: of all cells, those that cost more with the cache."""
    tiers = [_tier(*way) for way in product(KINDS, CONCURRENCY, (True, False))]
    caches = {name: _cache(name) for name, *_ in tiers}
    with stand(
        roles=[(ROUTE, FALLBACK), *([tuple(name for name, *_ in tiers)] * PROCESSES), (FEEDER,)],
        fleet=_fleet(tiers),
        latency={"shape": "fixed", "ms": _LATENCY_MS},
        simulated={
            "prices": {name: (_USD["input"], _USD["output"], _USD["cached"]) for name, *_ in tiers},
            "prompt_caches": caches,
        },
    ) as running:
        cells, difference = asyncio.run(_measure(running))
    for line in table(cells):
        say(line)
    return {"cells_dearer": sum(cell.is_dearer for cell in cells), "ledger_minus_bill": round(difference, 9)}


def table(cells: Sequence[Cell]) -> Iterator[str]:
    """The lines of a Markdown table, a row per cell."""
    yield "| cache | concurrency | prefix, tokens | readers | cost | readers wait | all take | without |"
    yield "|---|---|---|---|---|---|---|---|"
    for cell in cells:
        share = f"{100 * cell.usd / cell.usd_without:.1f} %"
        row = (cell.kind, cell.concurrency, f"{cell.prefix_tokens:,}", f"{cell.readers:,}", share)
        times = f"{1000 * max(cell.delay_s, 0):.0f} ms | {cell.seconds:.1f} s | {cell.seconds_without:.1f} s"
        yield f"| {' | '.join(map(str, row))} | {times} |"


def _tier(kind: str, concurrency: int, caches: bool) -> tuple[str, str, int, bool]:
    return f"{kind}-{concurrency}-{'with' if caches else 'without'}", kind, concurrency, caches


def _cache(name: str) -> dict[str, object]:
    """The simulated provider has its cache on both sides: without a mark, or the patience, it is of less use."""
    marked = name.startswith("marked")
    return {"marked": marked, "write_factor": _USD["write"] / _USD["input"] if marked else 1.0}


def _fleet(tiers: Sequence[tuple[str, str, int, bool]]) -> str:
    parts = ['[fleet]\nname = "prompt caching"\nsimulated = true\n']
    parts += [
        f'[providers.{kind}]\nkind = "{protocol}"\nbase_url = "simulator:{path}"\n'
        for kind, (protocol, path) in KINDS.items()
    ]
    for name, kind, concurrency, caches in tiers:
        parts.append(
            f'[models.of-{name}]\nmodel = "{name}"\nprovider = "{kind}"\ntier = "{name}"\ncontext_tokens = 200_000\n'
            f"price = {{ input_usd_per_mtok = {_USD['input']}, output_usd_per_mtok = {_USD['output']}, "
            f"cached_input_usd_per_mtok = {_USD['cached']}, cache_write_usd_per_mtok = {_USD['write']} }}\n"
            + ("prompt_caching = {}\n" if caches else "")
            + f'[tiers.{name}]\nqueue = "{name}"\nconcurrency = {concurrency}\n'
        )
    return "\n".join(parts)


async def _measure(running: Stand) -> tuple[list[Cell], float]:
    cells = []
    async with running.engine() as engine:
        for kind, concurrency, tokens, readers in product(KINDS, CONCURRENCY, PREFIX_TOKENS, READERS):
            sides = []
            for caches in (True, False):
                tier = _tier(kind, concurrency, caches)[0]
                sides.append(await _run(running, engine, tier, tokens=tokens, queries=readers + 1))
            ours, plain = sides
            times = (ours.seconds, plain.seconds, ours.second_after_s - plain.second_after_s)
            cells.append(Cell(kind, concurrency, tokens, readers, ours.usd, plain.usd, *times))
        return cells, await running.ledger_minus_bill(engine)


class _Side(NamedTuple):
    usd: float
    """The cost in the ledger."""
    seconds: float
    """Seconds from the submission to the last answer."""
    second_after_s: float
    """Seconds between the first call and the second."""


async def _run(running: Stand, engine: AsyncEngine, tier: str, *, tokens: int, queries: int) -> _Side:
    system = (f"{tier} {tokens} {queries}: " + "The contract states the duties of both sides. " * tokens)[: 4 * tokens]
    lines = (_line(number, system, tier) for number in range(queries))
    began = time.time()
    public_id = await running.answered(lines, engine=engine, sealed=False)
    (row,) = await fetch(
        engine,
        "SELECT sum(c.cost_usd) AS usd, extract(epoch FROM max(c.finished_at))::float8 AS ended,"
        " extract(epoch FROM (array_agg(c.created_at ORDER BY c.created_at))[2] - min(c.created_at))::float8 AS second"
        " FROM batches AS b JOIN calls AS c ON c.batch_id = b.id WHERE b.public_id = :public_id",
        public_id=public_id,
    )
    return _Side(float(row.usd), row.ended - began, row.second)


def _line(number: int, system: str, tier: str) -> dict[str, object]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": _QUESTION.format(number=number)}]
    return chat_line(f"q-{number}", messages, model=tier, max_tokens=60)
