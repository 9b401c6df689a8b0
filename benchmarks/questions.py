"""What is asked: the example queries over and over, each with a number so that none repeats."""

import io
from collections.abc import Iterator
from pathlib import Path

import orjson

from routing.fleet import Fleet
from tasks.intake import read_lines
from tasks.line import Line

EXAMPLES = Path(__file__).parents[1] / "examples" / "queries.jsonl"


def file_of(count: int) -> bytes:
    """``count`` simple JSON lines."""
    examples = [orjson.loads(line) for line in EXAMPLES.read_bytes().splitlines()]
    # No shapes are asked for: a benchmark counts queries, not the simulator's skill at JSON.
    plain = [example["query"] for example in examples if "query" in example and not example.get("expects")]
    return b"".join(
        orjson.dumps({"id": f"b-{number}", "query": f"{plain[number % len(plain)]} ({number})"}) + b"\n"
        for number in range(count)
    )


def lines(count: int, *, fleet: Fleet) -> Iterator[Line]:
    """The same, validated."""
    for line in read_lines(io.BytesIO(file_of(count)), fleet=fleet):
        if isinstance(line, Line):
            yield line
