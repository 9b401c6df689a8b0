"""What a right answer costs where answers come in the wrong shape: climbing alone, with corrections, with repairs too.

The answers are recordings of real models, which the simulator spoils. Each file has spoiling rates of its own: those of
the first were looked at while the rules were written, the others only measured. The judge accepts each answer of the
right shape (no source of confidence), so that nothing but the shape makes a query climb.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.harness import Stand, stand
from db.engine import fetch
from routing.lifecycle import FALLBACK, ROUTE
from settings import ROOT
from workers.local_stack import FEEDER

FOLDER: Final = ROOT.parent / "shared" / "data"
SMALL, LARGE = "gpt-4.1-nano", "gpt-4.1"
PRICES: Final = {SMALL: (0.1, 0.4), LARGE: (2.0, 8.0)}
LETTER: Final = re.compile(r"answer is:? \(?([A-J])\)?")
LETTERS: Final = tuple("ABCDEFGHIJ")

FLEET: Final = """
[fleet]
name = "answer-shapes"
simulated = true

[providers.simulator]
kind = "openai"
base_url = "simulator:/openai/v1"

[models."gpt-4.1-nano"]
provider = "simulator"
tier = "small"
price = { input_usd_per_mtok = 0.1, output_usd_per_mtok = 0.4 }
context_tokens = 100_000

[models."gpt-4.1"]
provider = "simulator"
tier = "large"
price = { input_usd_per_mtok = 2.0, output_usd_per_mtok = 8.0 }
context_tokens = 100_000

[tiers.small]
concurrency = 32
escalates_to = "large"
confidence_threshold = 0.0
confidence = { source = "none" }

[tiers.large]
concurrency = 32
confidence = { source = "none" }

[workloads.shapes]
tier = "small"
"""

MODES: Final[Mapping[str, tuple[bool, bool]]] = {
    "climb": (False, False),
    "mend": (True, False),
    "repair": (True, True),
}
"""Figure of the issue → whether answers are corrected, and whether they are repaired."""


class SpoiledFile(NamedTuple):
    """A file of recordings, what its answers must be, and how often which fault spoils one of the small model.

    The large model's are spoiled half as often.
    """

    name: str
    is_measured: bool
    """Whether the file was not looked at before it was measured."""
    expects: Mapping[str, Any]
    rates: Mapping[str, float]


FILES: Final = (
    SpoiledFile(
        "extract_products",
        False,
        {"json_object": True},
        {"code_fence": 0.10, "surrounding_text": 0.06, "trailing_comma": 0.03, "single_quotes": 0.04},
    ),
    SpoiledFile(
        "text2sql_spider",
        True,
        {"json_schema": {"type": "object", "required": ["sql"], "properties": {"sql": {"type": "string"}}}},
        {"code_fence": 0.15, "surrounding_text": 0.03, "trailing_comma": 0.01, "single_quotes": 0.02},
    ),
    SpoiledFile(
        "mmlu_pro",
        True,
        {"choices": list(LETTERS)},
        {"other_case": 0.02, "full_stop": 0.08, "code_fence": 0.01, "in_a_sentence": 0.10},
    ),
)


class Recording(NamedTuple):
    """A question, and per tier an answer of the expected shape with its grade."""

    question: str
    answers: Mapping[str, tuple[str, float]]


class ShapeFigures(NamedTuple):
    """One file in one mode."""

    lines: int
    answered: int
    right: float
    """The sum of the grades of delivered answers of the right shape."""
    climbed: int
    corrected: int
    repairs: int
    usd: float


def measure(say: Callable[[str], None]) -> dict[str, float]:
    """Dollars per valid and right answer over the measured files, by mode; and the ledger less the bill."""
    if not FOLDER.is_dir():
        raise SystemExit(f"There are no recorded outcomes in {FOLDER}. fix: put the files there.")
    found: dict[str, dict[str, ShapeFigures]] = {}
    difference = 0.0
    for mode, (correction, repair) in MODES.items():
        switches = f"\n[shape]\ncorrection = {str(correction).lower()}\nrepair = {str(repair).lower()}\n"
        with TemporaryDirectory(prefix="pm-shapes-") as folder:
            replay = Path(folder, "recordings.jsonl")
            replay.write_bytes(b"".join(_replayed(each) for file in FILES for each in recordings(file)))
            with stand(
                roles=[(ROUTE, "small", "large", FALLBACK), (FEEDER,)],
                fleet=FLEET + switches,
                simulated={"prices": PRICES},
                replay=replay,
            ) as running:
                found[mode], off = asyncio.run(_measure(running))
                difference += off
    say("| file | lines | mode | answered | right | climbed | corrected | repairs | cost | per right answer |")
    say("|---|---|---|---|---|---|---|---|---|---|")
    for file in FILES:
        for mode in MODES:
            row = found[mode][file.name]
            name = file.name if file.is_measured else f"{file.name} (seen before)"
            cells = (name, row.lines, mode, row.answered, f"{row.right:.1f}", row.climbed, row.corrected, row.repairs)
            say(f"| {' | '.join(map(str, cells))} | ${row.usd:.5f} | ${row.usd / row.right:.8f} |")
    figures = {f"usd_per_right_{mode}": _per_right(found[mode]) for mode in MODES}
    return {**figures, "ledger_minus_bill": round(difference, 9)}


def _per_right(rows: Mapping[str, ShapeFigures]) -> float:
    measured = [rows[file.name] for file in FILES if file.is_measured]
    return round(sum(row.usd for row in measured) / sum(row.right for row in measured), 9)


def recordings(file: SpoiledFile) -> Iterator[Recording]:
    """The questions of ``file`` that both models answered in words that can be given the expected shape."""
    seen = set()
    with (FOLDER / f"{file.name}_outcomes.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            answers = {}
            for tier in ("small", "large"):
                outcome = row["outcomes"][tier]
                if (shaped := _shaped(file.name, outcome.get("answer") or "")) is not None:
                    answers[tier] = (shaped, float(outcome["correct"]))
            question = _asked(file.name, row["query"])
            if len(answers) == 2 and question not in seen:
                seen.add(question)
                yield Recording(question, answers)


def _asked(name: str, question: str) -> str:
    match name:
        case "text2sql_spider":
            return question.replace("Reply with the query only.", 'Reply with a JSON object {"sql": …} only.').strip()
        case "mmlu_pro":
            return f"{question.rpartition('Think step by step')[0]}Reply with the letter alone."
        case _:
            return question.strip()


def _shaped(name: str, answer: str) -> str | None:
    match name:
        case "text2sql_spider":
            return json.dumps({"sql": answer}) if answer else None
        case "mmlu_pro":
            found = LETTER.findall(answer)
            return found[-1] if found else None
        case _:
            try:
                return answer if isinstance(json.loads(answer), dict) else None
            except ValueError:
                return None


def _replayed(recording: Recording) -> bytes:
    outcomes = {tier: {"model": tier, "correct": g, "answer": a} for tier, (a, g) in recording.answers.items()}
    return orjson.dumps({"query": recording.question, "outcomes": outcomes}) + b"\n"


def _faults(file: SpoiledFile) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "model": model, "rate": rate * factor}
        for model, factor in ((SMALL, 1.0), (LARGE, 0.5))
        for kind, rate in file.rates.items()
    ]


async def _measure(running: Stand) -> tuple[dict[str, ShapeFigures], float]:
    found = {}
    async with running.engine() as engine:
        for file in FILES:
            running.simulator.control(faults=_faults(file))
            found[file.name] = await _run(running, engine, file)
        return found, await running.ledger_minus_bill(engine)


async def _run(running: Stand, engine: AsyncEngine, file: SpoiledFile) -> ShapeFigures:
    known = list(recordings(file))
    lines = [_line(place, each, file) for place, each in enumerate(known)]
    public_id = await running.answered(lines, engine=engine)
    rows = await fetch(
        engine,
        "SELECT p.custom_id, q.state, q.escalations, a.tier, a.accepted,"
        " a.response -> 'choices' -> 0 -> 'message' ->> 'content' AS content,"
        " a.response -> 'pointsman' -> 'correction' IS NOT NULL AS corrected, s.usd, s.repairs"
        " FROM batches AS b JOIN prompts AS p ON p.batch_id = b.id JOIN queries AS q ON q.id = p.query_id"
        " LEFT JOIN answers AS a ON a.query_id = q.id"
        " CROSS JOIN LATERAL (SELECT sum(cost_usd) AS usd, count(*) FILTER (WHERE purpose = 'repair') AS repairs"
        "  FROM calls AS c WHERE c.query_id = q.id) AS s"
        " WHERE b.public_id = :public_id",
        public_id=public_id,
    )
    right = 0.0
    for row in rows:
        if row.state == "done" and row.accepted:
            said, grade = known[int(row.custom_id)].answers[row.tier]
            right += grade if _same(row.content, said) else 0.0
    return ShapeFigures(
        lines=len(rows),
        answered=sum(row.state == "done" and row.accepted for row in rows),
        right=right,
        climbed=sum(row.escalations > 0 for row in rows),
        corrected=sum(bool(row.corrected) for row in rows),
        repairs=sum(row.repairs for row in rows),
        usd=float(sum(row.usd for row in rows)),
    )


def _same(content: str, said: str) -> bool:
    """Whether the delivered text has the value of the recorded one, by a strict reader."""
    try:
        return bool(json.loads(content) == json.loads(said))
    except ValueError:
        return content == said


def _line(place: int, recording: Recording, file: SpoiledFile) -> dict[str, object]:
    return {
        "id": str(place),
        "query": recording.question,
        "metadata": {"workload": "shapes"},
        "expects": dict(file.expects),
    }
