"""Two models at one provider, one of which refuses calls by chance: Pointsman beside the official SDK, in one run.

    python -m benchmarks.random_429 [--sdk PYTHON] [--queries 1200] [--share 0.05] [--layout tiers|tier]

``--sdk`` names the Python of a venv that has `openai`; without it one is made.

The simulator answers two models, each call after the latency; a share of the calls of ``flaky`` it refuses with 429 and
``Retry-After: 2``. First `openai.AsyncOpenAI` with ``max_retries`` asks all queries, half of each model, from as many
slots as Pointsman has in sum; then Pointsman. Each has a simulator of its own, which draws the same for the same
questions. Prints both times, from the first call to the last answer at the simulator, and their ratio. Exit status 1
where a query failed or climbed for a 429.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Stand, chat_line, stand
from benchmarks.kept_venv import kept_python
from db.engine import fetch
from routing.lifecycle import FALLBACK, ROUTE
from simulator.process import start_simulator
from workers.local_stack import FEEDER

MODELS: Final = ("flaky", "steady")
OPENAI: Final = "openai==3.57.0"
LATENCY_S: Final = 0.2
SLOTS: Final = 16
"""Of both models together."""
SIMULATED: Final = {"shape": "fixed", "ms": 1000 * LATENCY_S}

CLIENT: Final = """
import asyncio, json, sys
from openai import AsyncOpenAI

url, slots, lines = json.loads(sys.argv[1])

async def main():
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=20)
    free = asyncio.Semaphore(slots)

    async def ask(line):
        async with free:
            await client.chat.completions.create(**line["body"])

    await asyncio.gather(*map(ask, map(json.loads, open(lines))))

asyncio.run(main())
"""
"""Runs in the venv of the SDK, with nothing of ours."""

FLEET: Final = """
[fleet]
name = "random-429"
simulated = true

[providers.one]
kind = "openai"
base_url = "simulator:/openai/v1"
"""
TIER: Final = """
[tiers.{name}]
concurrency = {slots}
confidence = {{ source = "none" }}
"""
MODEL: Final = """
[models.{name}]
provider = "one"
tier = "{tier}"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 1 }}
context_tokens = 32_000
"""


def main() -> int:
    """Run it; the exit status."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="pm-429-") as name:
        folder = Path(name)
        python = options.sdk or kept_python("openai", OPENAI)
        sdk = _by_sdk(folder, python, options)
        ours, is_good = _by_pointsman(folder, options)
    for side, (seconds, calls, refused) in (("SDK", sdk), ("Pointsman", ours)):
        print(f"{side} {seconds:.1f} s, {calls} calls, {refused} refused")
    print(f"ratio {ours[0] / sdk[0]:.2f} ({options.layout}, {options.share:.0%} at 1 of 2 models)")
    return 0 if is_good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1200)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--layout", choices=("tiers", "tier"), default="tiers")
    parser.add_argument("--sdk", help="a Python that has the SDK")
    return parser.parse_args()


def _lines(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    for number in range(options.queries):
        messages = [{"role": "user", "content": f"What is {number} + {number}?"}]
        yield chat_line(f"q{number}", messages, model=MODELS[number % 2], max_tokens=64)


def _faults(options: argparse.Namespace) -> dict[str, Any]:
    refusal = {"kind": "429", "model": "flaky", "rate": options.share, "retry_after": "seconds", "retry_after_s": 2}
    return {"faults": [refusal]}


def _span(log: Path) -> tuple[float, int, int]:
    """What the simulator saw: seconds from the first call to the last answer, calls, and how many it refused."""
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    times = [call["time"] for call in calls]
    return max(times) - min(times) + LATENCY_S, len(calls), sum(call["status"] == 429 for call in calls)


def _by_sdk(folder: Path, python: str | Path, options: argparse.Namespace) -> tuple[float, int, int]:
    log, lines = folder / "sdk.jsonl", folder / "lines.jsonl"
    lines.write_text("".join(json.dumps(line) + "\n" for line in _lines(options)))
    with start_simulator(config={"latency": SIMULATED, **_faults(options)}, log=log) as simulator:
        arguments = json.dumps([f"{simulator.url}/openai/v1", SLOTS, str(lines)])
        subprocess.run([python, "-c", CLIENT, arguments], check=True)
        simulator.stats()  # flushes the log
        return _span(log)


def _by_pointsman(folder: Path, options: argparse.Namespace) -> tuple[tuple[float, int, int], bool]:
    """What the simulator saw, and whether all queries were answered and none climbed."""
    tiers = ["first", "second"] if options.layout == "tiers" else ["first"]
    fleet = FLEET
    for tier, above in zip(tiers, [*tiers[1:], None], strict=True):
        fleet += TIER.format(name=tier, slots=SLOTS // len(tiers))
        fleet += f'escalates_to = "{above}"\n' if above else ""
    for model, tier in zip(MODELS, (tiers[0], tiers[-1]), strict=True):
        fleet += MODEL.format(name=model, tier=tier)
    roles, log = [(ROUTE, *tiers, FALLBACK), (FEEDER,)], folder / "pointsman.jsonl"
    with stand(roles=roles, fleet=fleet, latency=SIMULATED, simulated=_faults(options), log=log) as running:
        is_good = asyncio.run(_answered(running, options))
        running.simulator.stats()
        return _span(log), is_good


async def _answered(running: Stand, options: argparse.Namespace) -> bool:
    async with running.engine() as engine:
        public_id = await running.answered(_lines(options), engine=engine, sealed=False)
        (row,) = await fetch(
            engine,
            "SELECT count(*) FILTER (WHERE q.state = 'done') AS answered, sum(q.escalations) AS escalated"
            " FROM queries AS q JOIN batches AS b ON b.id = q.batch_id WHERE b.public_id = :public_id",
            public_id=public_id,
        )
    return bool(row.answered == options.queries and not row.escalated)


if __name__ == "__main__":
    sys.exit(main())
