"""The one judge of every run: reads Postgres and the simulator's own log, and believes neither alone."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from tests.chaos import query_corpus
from tests.chaos.environment import ChaosEnvironment

ZERO = Decimal(0)


@dataclass
class Verdict:
    """The figures of one fault. Money in US dollars, times in seconds."""

    fault: str
    seed: int
    lost: int = 0
    """Accepted queries that reached no terminal state, or that are not there at all."""
    answered_twice: int = 0
    """Queries with more than one terminal decision that was not undone, or two answers."""
    state_answer_mismatch: int = 0
    """`done` without an answer, an answer without `done`, an answer to another question, a result of a
    fenced-out worker that counted, or a query whose state and decisions disagree."""
    double_billed: int = 0
    """Billed calls beyond the first for one query at one tier, which the provider counted."""
    in_flight_at_fault: int = 0
    late: int = 0
    """Calls that missed their deadline, as all do while the machine halts: each may be made again."""
    late_where_it_struck: int = 0
    """How many of them are among those in flight at the fault."""
    ledger_minus_simulator_cost: Decimal = ZERO
    """Over the calls whose usage both sides know."""
    unsettled_usd: Decimal = ZERO
    """What the ledger charges (the reservation) for calls whose usage it cannot know, beyond what they really cost."""
    over_budget: Decimal = ZERO
    """By how much a cap was passed, by the ledger or by the provider's own account, whichever is worse."""
    recovery_s: float = 0.0
    buried: int = 0
    """Queries that ended `dead`."""
    complaints: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        shown = {
            "fault": self.fault,
            "seed": self.seed,
            "lost": self.lost,
            "answered_twice": self.answered_twice,
            "state_answer_mismatch": self.state_answer_mismatch,
            "double_billed": self.double_billed,
            "in_flight_at_fault": self.in_flight_at_fault,
            "late": self.late,
            "ledger_minus_simulator_cost": f"{self.ledger_minus_simulator_cost:.2f}",
            "over_budget": f"{self.over_budget:.2f}",
            "recovery_s": f"{self.recovery_s:.1f}",
            "dead": self.buried,
            "unsettled_usd": f"{self.unsettled_usd:.4f}",
            **self.extras,
        }
        return " ".join(f"{name}={value}" for name, value in shown.items())


def check(arena: ChaosEnvironment) -> Verdict:
    """Everything of one run, after it has ended. Postgres must be up."""
    arena.simulator.stats()
    ledger = _Books(arena)
    verdict = Verdict(arena.name, arena.seed, in_flight_at_fault=arena.in_flight_at_fault)
    verdict.extras, verdict.recovery_s = dict(arena.extras), arena.recovery_s
    verdict.complaints = list(arena.complaints)
    verdict.lost = ledger.lost()
    verdict.answered_twice = ledger.answered_twice()
    verdict.state_answer_mismatch = sum(ledger.mismatches(verdict.complaints).values())
    verdict.double_billed = ledger.double_billed()
    late = ledger.late()
    verdict.late, verdict.late_where_it_struck = len(late), len(late & arena.hit)
    verdict.ledger_minus_simulator_cost, verdict.unsettled_usd = ledger.costs(verdict.complaints)
    verdict.over_budget = ledger.over_budget()
    verdict.buried = int(arena.one("SELECT count(*) FROM queries WHERE state = 'dead'"))
    return verdict


class _Books:
    """Both accounts of one run."""

    def __init__(self, arena: ChaosEnvironment) -> None:
        self.arena = arena
        self.calls = arena.ask(
            "SELECT id, query_id, batch_id, tier, epoch, purpose, provider, outcome, latency_ms, prompt_tokens,"
            " coalesce(cost_usd, reserved_usd) AS usd FROM calls"
        )
        self.received = _read(arena.simulator_log)

    def lost(self) -> int:
        expected = sum(self.arena.submitted.values())
        known = self.arena.one(
            "SELECT count(*) FROM queries AS q JOIN prompts AS p ON p.query_id = q.id"
            " JOIN batches AS b ON b.id = q.batch_id WHERE b.public_id = ANY(%s) AND q.finished_at IS NOT NULL",
            [list(self.arena.submitted)],
        )
        return abs(expected - int(known))

    def answered_twice(self) -> int:
        ends = self.arena.one(
            # A certificate moves nothing: its row names the state that a query of the pilot is in.
            "SELECT count(*) FROM (SELECT query_id FROM decisions WHERE kind <> 'certificate' GROUP BY query_id HAVING"
            " count(*) FILTER (WHERE to_state IN ('done', 'failed', 'dead', 'cancelled', 'expired'))"
            " > 1 + count(*) FILTER (WHERE kind = 'resume')) AS twice"
        )
        answers = self.arena.one("SELECT count(*) - count(DISTINCT query_id) FROM answers")
        batches = self.arena.one("SELECT count(*) - count(DISTINCT public_id) FROM batches")
        return int(ends) + int(answers) + int(batches)

    def mismatches(self, complaints: list[str]) -> Counter[str]:
        found: Counter[str] = Counter(
            {
                name: int(self.arena.one(statement))
                for name, statement in {
                    "done without an answer": "SELECT count(*) FROM queries AS q WHERE state = 'done'"
                    " AND NOT EXISTS (SELECT 1 FROM answers AS a WHERE a.query_id = q.id)",
                    "an answer without done": "SELECT count(*) FROM answers AS a"
                    " JOIN queries AS q ON q.id = a.query_id WHERE q.state <> 'done'",
                    "state and last decision disagree": "SELECT count(*) FROM queries AS q"
                    " JOIN (SELECT DISTINCT ON (query_id) query_id, to_state FROM decisions"
                    " ORDER BY query_id, id DESC) AS d ON d.query_id = q.id"
                    " WHERE q.finished_at IS NOT NULL AND d.to_state <> q.state",
                    # A worker moves a query only under the epoch of its own claim.
                    "a fenced-out worker's result counted": "SELECT count(*) FROM decisions AS d"
                    " JOIN calls AS c ON c.id = d.call_id WHERE d.kind = 'judge'"
                    " AND CASE WHEN 'recorded' = ANY(d.codes) THEN c.epoch >= d.epoch ELSE c.epoch <> d.epoch END",
                    "the answer's call is unknown or failed": "SELECT count(*) FROM answers AS a WHERE NOT EXISTS"
                    " (SELECT 1 FROM calls AS c"
                    "  WHERE c.id = a.call_id AND c.outcome = 'ok' AND c.query_id = coalesce("
                    "   (SELECT CAST(d.detail ->> 'leader_id' AS bigint) FROM decisions AS d"
                    "    WHERE d.query_id = a.query_id AND d.kind = 'share' AND d.move = 'finish'), a.query_id))",
                    "a follower was asked, or waits": "SELECT (SELECT count(*) FROM followers)"
                    " + (SELECT count(*) FROM decisions AS d WHERE d.kind = 'share' AND d.move = 'finish'"
                    "    AND EXISTS (SELECT 1 FROM calls AS c WHERE c.query_id = d.query_id))",
                    "a call has two rows": "SELECT count(*) - count(DISTINCT id) FROM calls",
                    "a budget's account is wrong": "SELECT count(*) FROM budgets AS g WHERE g.batch_id IS NOT NULL AND"
                    " g.reserved_usd + g.settled_usd <> (SELECT coalesce(sum(coalesce(c.cost_usd, c.reserved_usd)), 0)"
                    " FROM calls AS c WHERE c.batch_id = g.batch_id)",
                    "a pilot that nobody decided": "SELECT count(*) FROM pilots AS t"
                    " JOIN batches AS b ON b.id = t.batch_id WHERE t.state <> 'decided' AND b.cancelled_at IS NULL",
                    "a certificate is not in the sealed log": "SELECT count(*) FROM pilots AS t"
                    " WHERE t.state = 'decided' AND NOT EXISTS (SELECT 1 FROM decisions AS d JOIN seals AS s"
                    "  ON s.batch_id = d.batch_id AND d.id = ANY(s.ids) WHERE d.batch_id = t.batch_id"
                    "  AND d.kind = 'certificate' AND d.detail = t.certificate)",
                }.items()
            }
        )
        found["an answer to another question"] = self._wrong_questions()
        complaints += [f"{name}: {count}" for name, count in found.items() if count]
        return found

    def _wrong_questions(self) -> int:
        wrong = 0
        for row in self.arena.ask(
            "SELECT a.call_id, p.body FROM answers AS a JOIN prompts AS p ON p.query_id = a.query_id"
        ):
            call = self.received.get(row.call_id)
            wrong += call is None or call["text_sha"] != query_corpus.sha_of(query_corpus.question_of(row.body))
        return wrong

    def double_billed(self) -> int:
        paid: defaultdict[tuple[int, str], int] = defaultdict(int)
        for row in self.calls:
            call = self.received.get(row.id)
            if row.purpose == "answer" and call is not None and call["billed"]:
                paid[row.query_id, row.tier] += 1
        return sum(count - 1 for count in paid.values() if count > 1)

    def late(self) -> set[int]:
        deadlines_ms = {name: 1000 * each.deadline_s for name, each in self.arena.fleet.providers.items()}
        # What the feeder settled because nobody reported it has no latency.
        return {
            row.id
            for row in self.calls
            if row.outcome == "unknown" and (row.latency_ms or 0.0) >= deadlines_ms[row.provider]
        }

    def costs(self, complaints: list[str]) -> tuple[Decimal, Decimal]:
        known = unknown = ZERO
        ours = {row.id: row for row in self.calls}
        for row in self.calls:
            call = self.received.get(row.id)
            theirs = call["cost"] if call is not None else ZERO
            # A cut reply was billed and says nothing of its usage: charged at the reservation, like an unknown one.
            if row.outcome in (None, "unknown") or (row.outcome == "broken_body" and not row.prompt_tokens):
                unknown += row.usd - theirs
            else:
                known += row.usd - theirs
        strangers = [id_ for id_ in self.received if id_ not in ours]
        if strangers:
            complaints.append(f"calls that the ledger does not know: {len(strangers)}")
            known -= sum((self.received[id_]["cost"] for id_ in strangers), ZERO)
        return known, unknown

    def over_budget(self) -> Decimal:
        worst = ZERO
        for row in self.arena.ask("SELECT batch_id, cap_usd FROM budgets WHERE batch_id IS NOT NULL"):
            calls = [call for call in self.calls if call.batch_id == row.batch_id]
            ours = sum((call.usd for call in calls), ZERO)
            theirs = sum((self.received[call.id]["cost"] for call in calls if call.id in self.received), ZERO)
            worst = max(worst, ours - row.cap_usd, theirs - row.cap_usd)
        return worst


def _read(log: Path) -> dict[int, dict[str, Any]]:
    """The simulator's log by call id."""
    received: dict[int, dict[str, Any]] = {}
    for line in log.read_bytes().splitlines():
        call = orjson.loads(line)
        if call["call"] is None:
            continue
        call["cost"] = Decimal(str(call["cost_usd"])).quantize(Decimal("1e-9"))
        number = int(call["call"].partition("-")[0])
        if number in received:
            raise AssertionError(f"the provider received call {number} twice")
        received[number] = call
    return received
