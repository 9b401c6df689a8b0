"""What users do: submit the same thing many times at once, cancel, hand in rubbish, set a tight budget."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson

from db.batch_writer import BatchSpec
from db.engine import make_engine
from routing.fleet import BudgetPolicy
from settings import ROOT
from submission.submit import submit
from tests.chaos import query_corpus
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault


@fault("submitted_50_times_in_parallel", graceful=True)
def submitted_often(arena: ChaosEnvironment) -> None:
    arena.crew()

    async def one() -> str:
        engine = make_engine(arena.database_url, pool_size=2)
        try:
            order = BatchSpec(source="chaos", idempotency_key="the same")
            taken = await submit(query_corpus.lines("b0", 200), engine=engine, fleet=arena.fleet, spec=order)
            return taken.public_id
        finally:
            await engine.dispose()

    async def many() -> list[object]:
        return list(await asyncio.gather(*(one() for _ in range(50)), return_exceptions=True))

    heard = asyncio.run(many())
    public_ids = {each for each in heard if isinstance(each, str)}
    failed = [each for each in heard if not isinstance(each, str)]
    if len(public_ids) != 1 or failed:
        arena.complaints.append(f"{len(public_ids)} batches came of it, and {len(failed)} errors: {failed[:1]!r:.80}")
    if arena.one("SELECT count(*) FROM batches") != 1:
        arena.complaints.append("there is more than one batch")
    arena.submitted |= dict.fromkeys(sorted(public_ids)[:1], 200)
    arena.finish()


@fault("cancel_in_mid_batch", quick=True, graceful=True)
def cancelled(arena: ChaosEnvironment) -> None:
    arena.crew()
    public_id = arena.submit(800)
    arena.at(0.25)
    began = time.time()
    before = arena.open_calls()
    arena.cancel(public_id)
    under_way = max(before, arena.open_calls())
    cancelled_at = float(arena.one("SELECT extract(epoch FROM cancelled_at) FROM batches"))
    arena.strike(count=False)
    arena.in_flight_at_fault = under_way
    arena.finish()
    arena.sleep(2.5)
    arena.simulator.stats()
    calls = [orjson.loads(line) for line in arena.simulator_log.read_bytes().splitlines()]
    after = sum(call["time"] > cancelled_at for call in calls)
    arena.extras |= {"calls_after_cancel": after, "cancel_s": round(time.time() - began, 1)}
    if after > under_way:
        arena.complaints.append(f"{after} calls were sent after the cancel")


@fault("resumed_while_its_workers_are_frozen")
def resumed(arena: ChaosEnvironment) -> None:
    """Its window closes while both workers hold its queries; it is resumed, and only then do they wake up."""
    arena.crew()
    public_id = arena.submit(800, cap_usd=5.0)
    arena.at(0.15)
    workers = [arena.workers["worker0"], arena.workers["worker1"]]
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    time.sleep(0.05)
    arena.strike(*workers)
    # What has been answered and sent on to a larger tier starts at the smaller one again, by the user's own wish.
    arena.in_flight_at_fault += arena.one(
        "SELECT count(*) FROM calls AS c JOIN queries AS q ON q.id = c.query_id"
        " WHERE c.outcome = 'ok' AND q.finished_at IS NULL"
    )
    arena.ask("UPDATE batches SET expires_at = now()")
    arena.until(arena.done, what="its window has closed")
    arena.extras["resumed"] = arena.resume(public_id)
    for worker in workers:
        arena.sleep(arena.draw.uniform(0.2, 2.0))
        worker.signal(signal.SIGCONT)
    arena.finish()
    if open_or_expired := arena.one("SELECT count(*) FROM queries WHERE state <> 'done'"):
        arena.complaints.append(f"{open_or_expired} were not answered after the resume")


@fault("tight_budget")
def tight(arena: ChaosEnvironment) -> None:
    """A cap that is spent in the middle, two workers that compete for it, and one of them killed."""
    from tests.chaos.faults.workers import kill

    arena.crew()
    public_id = arena.submit(500, cap_usd=0.05)
    arena.until(lambda: arena.one("SELECT count(*) FROM queries WHERE state = 'held'") > 0, what="something is held")
    kill(arena, "worker0")
    arena.sleep(3.0)
    arena.until(
        lambda: arena.one("SELECT count(*) FROM queries WHERE state IN ('queued', 'running', 'ready')") == 0,
        what="all that the budget has room for is done",
    )
    arena.extras["held"] = arena.one("SELECT count(*) FROM queries WHERE state = 'held'")
    arena.cancel(public_id)
    arena.finish()


@fault("degraded_budget", graceful=True)
def degraded(arena: ChaosEnvironment) -> None:
    """Half of the need, and two workers that lower the least hard: nearly all are answered, and the cap holds."""
    arena.crew()
    arena.submit(300)
    arena.finish()
    need_usd = float(arena.one("SELECT sum(cost_usd) FROM calls"))
    public_id = arena.submit(300, cap_usd=round(need_usd / 2, 6), policy=BudgetPolicy.DEGRADE)
    of_batch = (
        "SELECT max(g.reserved_usd + g.settled_usd) AS usd, max(g.cap_usd) AS cap_usd,"
        " count(*) FILTER (WHERE q.state IN ('ready', 'queued', 'running')) AS moving,"
        " count(*) FILTER (WHERE q.state = 'held') AS held"
        " FROM batches AS b JOIN budgets AS g ON g.batch_id = b.id JOIN queries AS q ON q.batch_id = b.id"
        f" WHERE b.public_id = '{public_id}'"
    )
    seen = []

    def at_rest() -> bool:
        seen.extend(arena.ask(of_batch))
        return seen[-1].moving == 0 and (seen[-1].held == 0 or seen[-1].usd == seen[max(0, len(seen) - 30)].usd)

    arena.until(at_rest, what="all that the budget has room for is done")
    by_tier = arena.ask(
        "SELECT a.tier, count(*) AS n FROM answers AS a JOIN queries AS q ON q.id = a.query_id"
        f" JOIN batches AS b ON b.id = q.batch_id WHERE b.public_id = '{public_id}' GROUP BY 1 ORDER BY 1"
    )
    answered = sum(row.n for row in by_tier)
    most_usd = max(row.usd for row in seen)
    arena.extras |= {
        "need_usd": f"{need_usd:.6f}",
        "cap_usd": f"{seen[-1].cap_usd:.6f}",
        "most_usd": f"{most_usd:.6f}",
        "samples": len(seen),
        "answered": answered,
        "tiers": ",".join(f"{row.tier}:{row.n}" for row in by_tier),
    }
    if most_usd > seen[-1].cap_usd:
        arena.complaints.append("settled and reserved together passed the cap")
    if answered < 270:
        arena.complaints.append(f"only {answered} of 300 were answered")
    arena.cancel(public_id)
    arena.finish()


@fault("malformed_corpus", graceful=True)
def rubbish(arena: ChaosEnvironment) -> None:
    """A file with every kind of broken line: told, nothing taken; with --skip-invalid the valid ones are answered."""
    arena.crew()
    good = [orjson.dumps({"custom_id": f"b0-{n}", "query": query_corpus.prompt_of("b0", n)}) for n in range(50)]
    bad = [
        b"not json at all",
        b'{"custom_id": "x"',
        b'{"query": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"custom_id": "nul", "query": "a\\u0000b"}',
        b'{"custom_id": "half", "query": "\\ud800"}',
        b'{"query": 17}',
        b"\xff\xfe\x00 no utf-8",
        good[0],
        b'{"custom_id": "tier", "query": "x", "tier": "galactic"}',
        b'{"query": "' + b"x" * 5_000_000 + b'"}',
    ]
    file = arena.home / "corpus.jsonl"
    file.write_bytes(b"\n".join([*good[:25], *bad, *good[25:]]))
    strict = _submit(arena, file)
    if strict.returncode != 2 or arena.one("SELECT count(*) FROM prompts"):
        arena.complaints.append(f"a broken file was not refused as a whole (exit {strict.returncode})")
    if b"Traceback" in strict.stderr:
        arena.complaints.append("a traceback reached the user")
    skipping = _submit(arena, file, "--skip-invalid", "--json")
    told = orjson.loads(skipping.stdout)
    arena.extras["rejected"] = told["rejected"]
    if (told["total"], told["rejected"]) != (len(good), len(bad)):
        arena.complaints.append(f"{told['total']} taken, {told['rejected']} rejected")
    arena.submitted[told["batch_id"]] = len(good)
    arena.finish()


def _submit(arena: ChaosEnvironment, file: Path, *options: str) -> "subprocess.CompletedProcess[bytes]":
    argv = [sys.executable, "-m", "tests.failpoints", "cli.main", "submit", str(file), *options]
    return subprocess.run(argv, cwd=ROOT, env=arena.environ, capture_output=True, check=False, timeout=300)
