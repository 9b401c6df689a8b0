"""What is asked: the example queries over and over, each with a number so that none repeats."""

from collections.abc import Iterator
from pathlib import Path

import orjson

EXAMPLES = Path(__file__).parents[1] / "examples" / "queries.jsonl"


def question_lines(count: int, *, tier: str | None = None) -> Iterator[bytes]:
    """``count`` simple JSON lines, pinned to ``tier`` if one is given."""
    examples = [orjson.loads(line) for line in EXAMPLES.read_bytes().splitlines()]
    # No shapes are asked for: a benchmark counts queries, not the simulator's skill at JSON.
    plain = [example["query"] for example in examples if "query" in example and not example.get("expects")]
    pin = {"tier": tier} if tier else {}
    for number in range(count):
        yield orjson.dumps({"id": f"b-{number}", "query": f"{plain[number % len(plain)]} ({number})", **pin}) + b"\n"


def write_questions(folder: Path, count: int, *, tier: str | None = None) -> Path:
    """A file of them in ``folder``, made on first use."""
    path = folder / f"questions-{count}-{tier or 'any'}.jsonl"
    if not path.exists():
        with path.open("wb", buffering=1 << 20) as file:
            file.writelines(question_lines(count, tier=tier))
    return path
